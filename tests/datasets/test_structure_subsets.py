"""Training subsets of tables that annotate other structures in other cases."""

import json
from pathlib import Path

import pandas as pd
import pytest

from voxgraft.datasets import Table, Target, nested_subsets, read_table
from voxgraft.errors import TableError

CLASSES = ("liver", "spleen", "aorta")
TARGET = Target(kind="segmentation", columns=("masks",), classes=CLASSES)


def table(folder: Path, annotated: list[str]) -> Table:
    rows = [
        {
            "case_id": f"c{place}",
            "patient_id": f"p{place}",
            "image": f"c{place}.nii.gz",
            "masks": f"m{place}.nii.gz",
            "annotated": names,
            "split": "train",
        }
        for place, names in enumerate(annotated)
    ]
    pd.DataFrame(rows).to_csv(folder / "cases.csv", index=False)
    values = {name: place + 1 for place, name in enumerate((*CLASSES, "stomach"))}
    said = {"kind": "label_map", "structures": values}
    (folder / "structures.json").write_text(json.dumps(said))
    return read_table(folder / "cases.csv")


@pytest.mark.parametrize("seed", range(8))
def test_the_smallest_subset_annotates_every_structure(tmp_path: Path, seed: int) -> None:
    annotated = ["liver"] * 10 + ["liver spleen"] * 9 + ["aorta"]
    found = nested_subsets(table(tmp_path, annotated), [2, 8, "all"], seed=seed, target=TARGET)
    smallest = {annotated[int(name[1:])] for name in found[2]}
    assert smallest == {"aorta", "liver spleen"}
    assert set(found[2]) < set(found[8]) < set(found[20])


def test_every_size_that_cannot_is_named(tmp_path: Path) -> None:
    cases = table(tmp_path, ["liver"] * 6 + ["spleen", "aorta"])
    with pytest.raises(TableError) as caught:
        nested_subsets(cases, [1, 2, 3], seed=0, target=TARGET)
    text = str(caught.value)
    assert "size of 1 patients cannot hold all 3 classes: 'liver'" in text
    assert "size of 2 patients cannot hold all 3 classes: 'liver' would be absent" in text
    assert "size of 3" not in text


def test_whole_annotations_are_drawn_as_any_patients(tmp_path: Path) -> None:
    cases = table(tmp_path, [""] * 9)
    own = nested_subsets(cases, [2, 5], seed=4, target=TARGET)
    assert own == nested_subsets(cases, [2, 5], seed=4, target=None)
