"""The study of SuPreM as a plan: sizes that are cut, starts that are left out."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from voxgraft.comparison import plan_from_dict, suprem, without_missing
from voxgraft.comparison.suprem_groups import GROUPS
from voxgraft.comparison.suprem_plan import NETWORKS, STARTS
from voxgraft.datasets import canonical_name
from voxgraft.errors import FetchError, RecipeError
from voxgraft.models import MODELS
from voxgraft.synthesis.anatomy import write_anatomies
from voxgraft.weights import SOURCES

ORGANS = ["liver", "spleen", "pancreas"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bodies")
    made = write_anatomies(folder, range(16), annotated=ORGANS, size_voxels=(8, 8, 8))
    return made.path


def split(table: Path, path: Path, train: int) -> Path:
    frame = pd.read_csv(table)
    frame["image"] = [str((table.parent / name).resolve()) for name in frame["image"]]
    frame["masks"] = [str((table.parent / name).resolve()) for name in frame["masks"]]
    frame["structures"] = str(table.parent / "structures.json")
    frame["split"] = ["train"] * train + ["validation", "test"] * ((len(frame) - train) // 2)
    frame.to_csv(path, index=False)
    return path


def test_the_groups_are_those_of_the_paper():
    assert {name: len(own) + 1 for name, own in GROUPS.items()} == {
        "organs": 18,
        "vertebrae": 25,
        "cardiac": 19,
        "muscles": 22,
        "ribs": 25,
    }
    everything = [name for own in GROUPS.values() for name in own]
    assert len(set(everything)) == 104
    assert all(canonical_name(name) == name for name in everything)


def test_every_start_is_in_the_catalog_and_fits_its_network():
    for name, known in STARTS.items():
        for network, source in known.items():
            MODELS.get(network)
            assert SOURCES.get(source).architecture == network, (name, network)


def test_the_plan_has_the_papers_settings(table: Path, tmp_path: Path):
    cases = split(table, tmp_path / "cases.csv", 12)
    plan = plan_from_dict(suprem(str(cases)), "suprem")
    assert plan.target is not None
    assert plan.target.classes == ("spleen", "liver", "pancreas")
    assert "has no kidney_right" in plan.note
    assert "the other 3 are compared" in plan.note
    assert plan.sizes == (5, 10, "all")
    assert "12 training patients: 20, 64, 128, 256, 512, 1,024 are left out" in plan.note
    assert plan.learning_rate.size == 10
    assert plan.crop_size_voxels == (96, 96, 96)
    assert plan.preprocessing.intensity.low == -250.0
    assert plan.optimization.epochs == 201.0
    assert plan.segmentation is not None
    assert not plan.segmentation.overlapping
    tried = {(model.name, start.name) for model, start in plan.pairs()}
    assert {name for name, start in tried if start == "supervised"} == set(NETWORKS)
    assert ("segresnet_16", "self_supervised") not in tried
    assert plan.dataset == ("TotalSegmentator",)


def test_own_pretraining_gives_a_start_a_size(table: Path, tmp_path: Path):
    cases = split(table, tmp_path / "cases.csv", 12)
    data = suprem(
        str(cases),
        classes=["liver"],
        networks=["segresnet_16"],
        starts=["supervised"],
        pretraining_table=str(table),
        pretraining_sizes=[2, 13, 21],
        sizes=[2, 12],
    )
    plan = plan_from_dict(data, "suprem")
    assert plan.sizes == (2, 12)
    assert plan.dataset == ()
    names = [start.name for start in plan.starts]
    # 16 patients, of which 85% train: 21 is beyond them and 13 of them are all or fewer
    assert names[:3] == ["scratch", "supervised", "pretrained-2"]
    assert names[-1] == "pretrained-all"
    stage = plan.stages["atlas"]
    assert stage.target is not None
    assert set(stage.target.classes) == set(ORGANS)
    assert stage.preprocessing is not None
    assert stage.preprocessing.intensity.low == -175.0
    assert stage.segmentation is not None
    assert stage.segmentation.overlapping
    assert stage.grid == (1e-3,)
    assert "patients to pre-train on: 21 is left out" in plan.note


def test_what_is_not_in_the_study_is_refused(table: Path):
    for wrong, words in (
        ({"group": "bones"}, "organs, vertebrae, cardiac"),
        ({"group": "organs", "classes": ["liver"]}, "not both"),
        ({"networks": ["vnet"]}, "vnet: not in the study"),
        ({"starts": ["imagenet"]}, "imagenet: not in the study"),
        ({"group": "ribs"}, "none of the group ribs"),
    ):
        with pytest.raises(RecipeError, match=words):
            suprem(str(table), **wrong)  # type: ignore[arg-type]


def test_starts_without_files_are_left_out_and_named(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("VOXGRAFT_CACHE", str(tmp_path / "cache"))
    cases = split(table, tmp_path / "cases.csv", 12)
    here = tmp_path / "have.pth"
    torch.save({}, here)
    given = {"supervised": {"segresnet_16": f"segresnet_16.suprem@{here}"}}
    plan = plan_from_dict(suprem(str(cases), sources=given), "suprem")
    kept, told = without_missing(plan)
    assert [start.name for start in kept.starts] == ["scratch", "supervised"]
    assert kept.sources == {"supervised": {"segresnet_16": f"segresnet_16.suprem@{here}"}}
    assert any("supervised_suprem_unet_2100.pth" in line for line in told)
    assert "universal (swin_unetr_48.universal, genesis_unet.universal)" in kept.note
    assert plan_from_dict(kept.to_dict(), "again") == kept
    assert without_missing(kept) == (kept, [])
    with pytest.raises(FetchError, match="no comparison is left"):
        without_missing(plan_from_dict(suprem(str(cases), networks=["genesis_unet"]), "suprem"))
