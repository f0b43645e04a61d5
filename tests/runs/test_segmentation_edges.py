"""Cases at the edge of what can be trained on: a training goes on and says so, or says why not."""

import json

import numpy as np
import pandas as pd
import pytest

from voxgraft.datasets import read_table
from voxgraft.errors import RunError, StoreError, TableError
from voxgraft.recipes import recipe_from_dict
from voxgraft.runs import begin_run, execute_run, gather_cases
from voxgraft.runs.folder import locked
from voxgraft.volumes import Affine, LabelMap, Volume, write_volume

SHAPES = {"flat": (2, 24, 20), "empty": (12, 20, 22), "other": (10, 18, 18), "val": (9, 21, 18)}
SPOT = (3, 3, 3)
"""A voxel that no voxel of the coarser grid has its center in."""


@pytest.fixture
def write(tmp_path):
    """Return a writer of scans with a ball each; what is drawn differs by the case."""
    rng = np.random.default_rng(0)
    affine = Affine.from_spacing((1.0, 1.0, 1.0))

    def make(splits, *, dtype=np.uint8, add=0.0):
        rows = []
        for name, split in splits.items():
            shape = SHAPES[name]
            place = np.meshgrid(*(np.arange(n) - n / 2 for n in shape), indexing="ij")
            ball = sum(axis**2 for axis in place) < 30
            image = (100.0 * ball + rng.normal(0, 10, shape)).astype(np.float32)
            labels = ball.astype(dtype)
            if name == "empty":
                labels[:] = 0
                labels[SPOT] = 2
            labels[0, 0, 0] += add if name == "val" else 0
            write_volume(Volume(image[None], affine), tmp_path / f"{name}.nii")
            if labels.dtype.kind == "f":
                write_volume(Volume(labels[None], affine), tmp_path / f"{name}_seg.nii")
            else:
                write_volume(LabelMap(labels, affine), tmp_path / f"{name}_seg.nii")
            annotated = "aorta" if name == "other" else "ball spot"
            rows.append([name, name, f"{name}.nii", f"{name}_seg.nii", annotated, split])
        columns = ["case_id", "patient_id", "image", "masks", "annotated", "split"]
        pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "table.csv", index=False)
        structures = {"ball": 1, "spot": 2, "aorta": 3}
        (tmp_path / "structures.json").write_text(
            json.dumps({"kind": "label_map", "structures": structures})
        )
        return read_table(tmp_path / "table.csv")

    return make


def recipe(table, **changes):
    data = {
        "table": str(table.path),
        "target": {"kind": "segmentation", "columns": ["masks"], "classes": ["ball", "spot"]},
        "metric": "dice",
        "preprocessing": {"spacing_mm": [3.0, 3.0, 3.0], "intensity": {"kind": "z_score"}},
        "augmentation": {"flip_axes": ["width"], "rotation_degrees": [10, 0, 0]},
        "model": "segresnet_8",
        "start": "scratch",
        "crop_size_voxels": [8, 8, 8],
        "optimization": {"steps": 2, "batch_size": 2, "eval_every": 1, "threads": 1},
        "memory_format": "contiguous",
        "score_splits": ["validation"],
        "store": str(table.root / "store"),
    }
    return recipe_from_dict(data | changes, "the test")


def test_empty_masks_lost_structures_flat_scans_and_cases_that_teach_nothing(write):
    table = write({"flat": "train", "empty": "train", "other": "train", "val": "validation"})
    run = begin_run(table.root / "run", recipe(table))
    result = execute_run(run.path)
    assert result["status"] == "finished"
    assert result["train_cases"] == result["train_items"] == 2
    apart, lost = result["notices"]
    assert "1 of 3 training cases annotate none of the classes" in apart
    assert apart.endswith("other")
    assert "'spot' is annotated by 2 of 2 training cases, and none has a voxel of it" in lost
    assert np.isfinite([row["train_loss"] for row in result["fit"]["history"]]).all()
    rows = pd.read_csv(run.path / "segmentation.csv").set_index("class")
    assert 0.0 <= rows.loc["ball", "dice"] <= 1.0


def test_crops_of_what_is_smaller_than_they_are(write):
    """Along depth the flat scan is one voxel of the coarse grid, in a crop of eight."""
    table = write({"flat": "train", "empty": "train", "val": "validation"})
    cases = gather_cases(recipe(table))
    feed = cases.train_feed
    shapes = [feed.prepared.shape(case)[1:] for case in ("flat", "empty")]
    assert shapes[0][0] == 1
    (batch,) = feed.batches([np.array([0, 1])])
    assert batch.images.shape == (2, 1, 8, 8, 8)
    assert int((batch.labels[0] == 1).sum()) > 0
    assert int((batch.labels[1] == 1).sum()) == 0  # its mask is empty
    assert feed.masks.counts("empty").tolist() == [0, 0]
    assert feed.masks.counts("flat")[0] > 0


def test_one_training_case_is_enough(write):
    table = write({"flat": "train", "val": "validation"})
    one = recipe(table, target={**recipe(table).to_dict()["target"], "classes": ["ball"]})
    run = begin_run(table.root / "run", one)
    result = execute_run(run.path)
    assert (result["status"], result["train_cases"], result["notices"]) == ("finished", 1, [])


def test_masks_of_floats_are_whole_numbers_or_refused_with_their_file(write):
    table = write({"flat": "train", "val": "validation"}, dtype=np.float32)
    assert gather_cases(recipe(table)).train_feed.targets.tolist() == [[1, 1]]
    table = write({"flat": "train", "val": "validation"}, dtype=np.float32, add=0.5)
    with pytest.raises(StoreError, match=r"(?s)case 'val'.*val_seg\.nii.*0\.5"):
        gather_cases(recipe(table))


def test_values_that_mean_nothing_are_refused_with_their_file(write):
    table = write({"flat": "train", "val": "validation"}, add=7)
    with pytest.raises(StoreError, match=r"(?s)case 'val'.*val_seg\.nii.*value 7 in 1 voxels"):
        gather_cases(recipe(table))


def test_a_refused_recipe_leaves_its_folder_to_a_mended_one(write):
    table = write({"flat": "train", "val": "validation"})
    target = recipe(table).to_dict()["target"]
    mended, wrong = (recipe(table, target={**target, "classes": [one]}) for one in ("ball", "bal"))
    folder = table.root / "run"
    begin_run(folder, wrong)
    with pytest.raises(RunError, match="of another recipe"):  # it may be wanted yet
        begin_run(folder, mended)
    with pytest.raises(TableError, match="'bal' is annotated by none"):
        execute_run(folder)
    with locked(folder), pytest.raises(RunError, match=r"target.classes was \('bal',\)"):
        begin_run(folder, mended)  # a process is on it
    told: list[str] = []
    assert execute_run(begin_run(folder, mended).path, on_stage=told.append)["train_cases"] == 1
    assert told[0].startswith("preparing scans: ")
    assert told.index("making the network") < told.index("scoring validation")
    assert told[-1] == "scored validation: 1 of 1"
    with pytest.raises(RunError, match="of another recipe"):  # it was trained
        begin_run(folder, wrong)
