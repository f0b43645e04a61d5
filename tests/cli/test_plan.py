"""``voxgraft plan`` as a stranger meets it: what it prints, what it writes, what it refuses."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from voxgraft.datasets import Structures, write_structures
from voxgraft.recipes import read_recipe
from voxgraft.volumes import Affine, LabelMap, Volume, write_volume

Verb = Callable[..., tuple[int, str, str]]


def counted() -> ModuleType:
    """Return the tests of plans, which have a stand-in for the fake steps."""
    path = Path(__file__).parents[1] / "planning" / "test_plan.py"
    spec = importlib.util.spec_from_file_location("test_plan_of_planning", path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def voxgraft(voxgraft: Verb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Verb:
    monkeypatch.setenv("VOXGRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("voxgraft.planning.plan.TrainingMemory", counted().Counted)
    return lambda *arguments: voxgraft("plan", *arguments)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three scans of 4 × 1 × 1 mm with a kidney of 60 HU and a liver of 100 HU."""
    affine = Affine.from_spacing((4.0, 1.0, 1.0))
    rows = ["case_id,patient_id,image,masks,split"]
    for case, split in (("a", "train"), ("b", "validation"), ("c", "test")):
        image = np.full((12, 20, 24), -1000, dtype=np.int16)
        labels = np.zeros(image.shape, dtype=np.uint8)
        image[2:6, 4:14, 4:12], labels[2:6, 4:14, 4:12] = 60, 1
        image[7:10, 4:14, 4:12], labels[7:10, 4:14, 4:12] = 100, 2
        write_volume(Volume(image[None], affine), tmp_path / f"{case}.nii.gz")
        write_volume(LabelMap(labels, affine), tmp_path / f"{case}_masks.nii.gz")
        rows.append(f"{case},{case},{case}.nii.gz,{case}_masks.nii.gz,{split}")
    sources = {"kidney_left": (1,), "liver": (2,)}
    write_structures(Structures("label_map", sources), tmp_path / "structures.json")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


GPU = ("--memory-gib", 24)


def test_what_it_prints(voxgraft: Verb, table: Path) -> None:
    code, said, told = voxgraft(table, "--source", "segresnet_16.suprem", *GPU)
    assert (code, told) == (0, "")
    lines = said.splitlines()
    assert "spacing mm\t4 × 1 × 1" in lines
    assert any(line.startswith("kidney_left\t1\t1\t1.28\t16 × 10 × 8") for line in lines)
    marks = {line.split("\t")[1]: line.split("\t")[0] for line in lines if line.count("\t") == 5}
    assert {what: marks[what] for what in ("spacing", "parts", "split", "flips")} == {
        "spacing": "!", "parts": "", "split": "", "flips": ""
    }  # fmt: skip
    assert any(line.startswith("\tparts\tall\tthe start's head knows 2 of the 2") for line in lines)
    assert any("a mirrored body would have its left structures named right" in s for s in lines)


def test_what_it_writes(voxgraft: Verb, table: Path, tmp_path: Path) -> None:
    out, facts = tmp_path / "recipes" / "plan.yaml", tmp_path / "facts.json"
    code, _, told = voxgraft(
        table, "--model", "segresnet_8", *GPU, "--out", out, "--fingerprint", facts,
        "--classes", "liver",
    )  # fmt: skip
    assert code == 0, told
    assert f"wrote {facts}" in told
    assert told.endswith(f"wrote {out}: read it, then `voxgraft finetune {out}`\n")
    recipe = read_recipe(out)
    assert (out.parent / recipe.table).resolve() == table
    assert recipe.target.classes == ("liver",)
    assert recipe.crop_size_voxels == (16, 24, 24)
    assert recipe.augmentation.flip_axes == ("width",)
    assert json.loads(facts.read_text())["structures"]["liver"]["present"] == 1


def test_json_is_all_of_stdout(voxgraft: Verb, table: Path, tmp_path: Path) -> None:
    given: tuple[Any, ...] = (table, "--model", "segresnet_8", *GPU, "--json")
    code, said, _ = voxgraft(*given, "--fingerprint", tmp_path / "f.json")
    assert code == 0
    found = json.loads(said)
    assert found["recipe"]["segmentation"]["decoder"] == "native"
    assert {"split", "spacing", "intensity", "size", "batch"} <= {
        decision["what"] for decision in found["decisions"]
    }
    assert found["fingerprint"]["cases"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "neither a network nor a start is given"),
        (("--model", "segresnet_9"), "no model is called 'segresnet_9'. Did you mean"),
        (("--source", "segresnet_16.supre"), "segresnet_16.suprem"),
        (("--model", "segresnet_8", "--classes", "livr"), "no case annotates 'livr'; annotated"),
        (("--model", "segresnet_8", "--memory-gib", "-3"), "memory_gib is -3.0, expected a pos"),
        (("--model", "segresnet_8", "--memory-gib", "1.001"), "not even one crop of 16 × 16 × 16"),
    ],
)
def test_mistakes(voxgraft: Verb, table: Path, arguments: tuple[str, ...], message: str) -> None:
    code, said, told = voxgraft(table, *arguments)
    assert (code, said) == (2, "")
    assert told.startswith("error: ")
    assert message in told


def test_a_folder_is_no_place_for_a_recipe(voxgraft: Verb, table: Path, tmp_path: Path) -> None:
    for option in ("--out", "--fingerprint"):
        code, said, told = voxgraft(table, "--model", "segresnet_8", *GPU, option, tmp_path)
        assert (code, said) == (2, "")
        assert told == f"error: {option} {tmp_path} is a folder; expected the name of a file.\n"


def test_tables_that_cannot_be_planned_for(voxgraft: Verb, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.yaml"
    rows = [line.rsplit(",", 1)[0] for line in table.read_text().splitlines()]
    table.write_text("\n".join(rows) + "\n")
    given = ("--model", "segresnet_8", *GPU)
    code, said, _ = voxgraft(table, *given)
    assert code == 0
    assert "split\tnone\tthe table has no column split, so all cases were measured" in said
    code, said, told = voxgraft(table, *given, "--out", out)
    assert (code, said, out.exists()) == (2, "", False)
    assert "`voxgraft data split` adds it" in told
    table.write_text("\n".join(line.rsplit(",", 1)[0] for line in rows) + "\n")
    code, _, told = voxgraft(table, *given)
    assert code == 2
    assert "has no column 'masks'" in told
    assert voxgraft(tmp_path / "none.csv", *given)[0] == 2


def test_a_damaged_scan_is_named(voxgraft: Verb, table: Path) -> None:
    (table.parent / "a.nii.gz").write_bytes(b"no scan")
    code, _, told = voxgraft(table, "--model", "segresnet_8", *GPU)
    assert code == 2
    assert "1 of 1 cases cannot be measured" in told
    assert "case 'a'" in told
