"""Fingerprints of made scans, against what is known by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxgraft.datasets import Table
from voxgraft.errors import TableError
from voxgraft.files import read_json, write_json
from voxgraft.planning import fingerprint as module
from voxgraft.planning import take_fingerprint
from voxgraft.planning.case_facts import mean_chords
from voxgraft.volumes import Affine, LabelMap, Volume, write_volume


def test_of_made_scans(two_cases: Table, tmp_path: Path) -> None:
    found = take_fingerprint(two_cases.split("train"), cache=tmp_path)
    assert (found.cases, found.patients, found.channels) == (2, 2, 1)
    assert found.spacing_mm.median == (4.0, 1.0, 1.0)
    assert found.spacing_mm.low == pytest.approx((3.2, 1.0, 1.0))
    assert found.shape_voxels.median == (12.0, 20.0, 24.0)
    assert found.field_of_view_mm.largest == (60.0, 20.0, 24.0)
    assert found.anisotropy == 4.0
    assert (found.modality.kind, found.modality.sure) == ("ct", "likely")
    block, plate = found.structures["block"], found.structures["plate"]
    assert (block.annotated, block.present) == (2, 2)
    assert (plate.annotated, plate.present) == (1, 1)
    assert block.chord_mm == block.extent_mm == (16.0, 10.0, 8.0)  # 4 slices of 3 and of 5 mm
    assert block.volume_ml == pytest.approx(4 * 10 * 8 * 4.0 / 1000)
    assert (block.value, plate.value) == (50.0, 100.0)
    assert plate.across((3.0, 1.0, 1.0)) == 2.0
    assert plate.across((6.0, 1.0, 1.0)) == 1.0
    # Case a: 320 voxels of 40 and 640 of 100; case b: 320 of 60. Each case counts the same.
    mean = ((320 * 40 + 640 * 100) / 960 + 60) / 2
    square = ((320 * 40**2 + 640 * 100**2) / 960 + 60**2) / 2
    (values,) = found.values
    assert values.mean == pytest.approx(mean)
    assert values.sd == pytest.approx(np.sqrt(square - mean**2))
    assert (values.percentile(0.5), values.percentile(99.5)) == (40.0, 100.0)
    assert values.percentile(50) == pytest.approx(60.0)
    assert found.annotations == {"block plate": 1, "block": 1}
    assert found.overlapping == ()


def test_is_remembered_by_content(
    two_cases: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    real = module.look_at_case

    def look(table: Table, case_id: str, names: Any) -> Any:
        looks.append(case_id)
        return real(table, case_id, names)

    monkeypatch.setattr(module, "look_at_case", look)
    first = take_fingerprint(two_cases, jobs=2, cache=tmp_path)
    assert sorted(looks) == ["a", "b", "c"]
    assert take_fingerprint(two_cases, cache=tmp_path) == first
    assert len(looks) == 3
    damaged = next(each for each in tmp_path.glob("*.json") if each.name != "hashes.json")
    damaged.write_text('{"shape": [1')
    assert take_fingerprint(two_cases, cache=tmp_path) == first
    assert len(looks) == 4
    shape = (12, 20, 24)
    volume = Volume(np.full((1, *shape), 7, dtype=np.int16), Affine.from_spacing((3.0, 1.0, 1.0)))
    write_volume(volume, two_cases.image_path("a"))
    assert take_fingerprint(two_cases, cache=tmp_path) != first
    assert looks[4:] == ["a"]


def test_is_json(two_cases: Table, tmp_path: Path) -> None:
    found = take_fingerprint(two_cases, cache=tmp_path / "cache").to_dict()
    write_json(tmp_path / "fingerprint.json", found)
    assert read_json(tmp_path / "fingerprint.json")["structures"]["plate"]["present"] == 1


def test_all_damaged_scans_are_named(two_cases: Table, tmp_path: Path) -> None:
    two_cases.image_path("a").write_bytes(b"no scan")
    np_affine = Affine.from_spacing((3.0, 1.0, 1.0))
    wrong = LabelMap(np.zeros((3, 3, 3), dtype=np.uint8), np_affine)
    write_volume(wrong, two_cases.root / "b_masks.nii.gz")
    with pytest.raises(TableError) as told:
        take_fingerprint(two_cases, cache=tmp_path)
    assert "2 of 3 cases cannot be measured" in str(told.value)
    assert "case 'a'" in str(told.value)
    assert "case 'b'" in str(told.value)


def test_scans_lying_otherwise_measure_the_same(made: Any, tmp_path: Path) -> None:
    """A scan whose array runs (height, width, depth), left and down, is the same scan."""
    image = np.full((6, 8, 10), -1000, dtype=np.int16)
    labels = np.zeros((6, 8, 10), dtype=np.uint8)
    box = (slice(1, 3), slice(2, 6), slice(3, 8))
    image[box], labels[box] = 50, 1
    matrix = np.eye(4)
    matrix[:3, :3] = [[0, 0, 1.0], [0, 2.0, 0], [4.0, 0, 0]]
    turned = np.zeros((4, 4))
    turned[3, 3] = turned[1, 0] = turned[2, 1] = turned[0, 2] = 1.0
    turned[0, 2], turned[0, 3] = -1.0, 5.0
    upright = Affine(matrix)
    made.add("a", {})
    table = made.table(["block"])
    found = []
    for affine, axes, flip in (
        (upright, (0, 1, 2), False),
        (upright.compose(turned), (1, 2, 0), True),
    ):
        voxels = [
            np.transpose(np.flip(each, 0) if flip else each, axes) for each in (image, labels)
        ]
        write_volume(Volume(voxels[0][None].copy(), affine), table.root / "a.nii.gz")
        write_volume(LabelMap(voxels[1].copy(), affine), table.root / "a_masks.nii.gz")
        found.append(take_fingerprint(table, cache=tmp_path))
    assert found[0] == found[1]
    assert found[0].structures["block"].chord_mm == (8.0, 8.0, 5.0)


def test_no_structure_anywhere(made: Any, tmp_path: Path) -> None:
    made.add("a", {})
    with pytest.raises(TableError, match="no voxel of any case"):
        take_fingerprint(made.table(), cache=tmp_path)


def test_modality_of_what_is_no_ct(made: Any, tmp_path: Path) -> None:
    block = (slice(2, 6), slice(4, 14), slice(4, 12))
    made.add("a", {1: (block, 700.0)}, floor=0.0)
    found = take_fingerprint(made.table(["block"]), cache=tmp_path)
    assert (found.modality.kind, found.modality.sure) == ("other", "likely")
    made.add("b", {1: (block, 40.0)})
    made.add("c", {1: (block, 40.0)})
    found = take_fingerprint(made.table(["block"]), cache=tmp_path)
    assert (found.modality.kind, found.modality.sure) == ("ct", "possible")
    assert "1 do not look like CT in HU: a" in found.modality.why


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_chords_against_counting_runs(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((4, 5, 6)) < share
    mask[0, 0, 0] = True
    for axis, found in enumerate(mean_chords(mask)):
        lengths = []
        for line in np.moveaxis(mask, axis, -1).reshape(-1, mask.shape[axis]):
            words = "".join("x" if voxel else " " for voxel in line).split()
            lengths += [len(word) for word in words]
        assert found == pytest.approx(np.mean(lengths))
