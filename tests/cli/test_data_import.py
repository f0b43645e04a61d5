"""``voxgraft data import`` of studies, as a stranger meets it."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from voxgraft.datasets import read_table

DATASETS = Path(__file__).parents[1] / "datasets"
Verb = Callable[..., tuple[int, str, str]]


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DATASETS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_rsna_pe(voxgraft: Verb, tmp_path: Path) -> None:
    trees = module("dicom_trees")
    studies = trees.make_rsna_tree(tmp_path, studies=3, slices=6, pixels=16, indeterminate=1)
    out = tmp_path / "out"
    code, said, told = voxgraft("data", "import", "rsna-pe", tmp_path, "--out", out, "--jobs", 1)
    assert (code, said) == (0, f"{out / 'table.csv'}\n")
    assert "left out as indeterminate: 1 of 4 studies" in told
    assert told.endswith("3 cases of 3 patients\n")
    assert (out / "slice_labels.csv").read_text().startswith("case_id,slice,pe\n")
    (studies[0].folder / f"{studies[0].uids[0]}.dcm").unlink()
    code, said, told = voxgraft("data", "import", "rsna-pe", tmp_path, "--out", out, "--jobs", 1)
    assert (code, said) == (2, "")
    assert told.startswith("error: ")
    assert "1 rows of train.csv have no file" in told
    code, *_ = voxgraft(
        "data", "import", "rsna-pe", tmp_path, "--out", out, "--jobs", 1, "--leave-out-faulty"
    )
    assert code == 0
    assert len(read_table(out / "table.csv")) == 2


def test_lidc_studies(voxgraft: Verb, tmp_path: Path) -> None:
    trees = module("lidc_trees")
    trees.make_lidc_tree(tmp_path / "ct", scans=2, slices=8, pixels=24)
    out = tmp_path / "out"
    code, said, told = voxgraft(
        "data", "import", "lidc-studies", tmp_path / "ct", "--out", out, "--xml", tmp_path / "ct",
        "--jobs", 1,
    )  # fmt: skip
    assert (code, said) == (0, f"{out / 'table.csv'}\n")
    assert told == "2 cases of 2 patients\n"
    assert read_table(out / "table.csv").frame["nodule"].tolist() == [1, 0]


def test_studies(voxgraft: Verb, tmp_path: Path) -> None:
    trees = module("dicom_trees")
    studies = trees.make_rsna_tree(tmp_path / "ct", studies=2, slices=4, pixels=8)
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "id,ill\n" + "".join(f"{study.name},{k}\n" for k, study in enumerate(studies))
    )
    out = tmp_path / "t.csv"
    command = ("data", "import", "studies", tmp_path / "ct", "--labels", labels, "--out", out)
    code, said, told = voxgraft(*command, "--jobs", 1)
    assert (code, said) == (0, f"{out}\n")
    assert "column 'id' names scans by StudyInstanceUID" in told
    code, _, told = voxgraft(*command, "--key", "ill")
    assert code == 2
    assert "column 'ill' ('0', '1') names a scan" in told


def test_scans_with_masks(voxgraft: Verb, tmp_path: Path) -> None:
    import numpy as np

    from voxgraft.volumes import Affine, LabelMap, Volume, write_volume

    affine = Affine.from_spacing((1.0, 1.0, 1.0))
    for n, case in enumerate(("a", "b")):
        for folder in ("img", "seg"):
            (tmp_path / "d" / folder).mkdir(parents=True, exist_ok=True)
        voxels = np.full((1, 2, 3, 4), n, dtype=np.float32)
        voxels[0, 0, 0, 0] = 9
        write_volume(Volume(voxels, affine), tmp_path / "d" / "img" / f"{case}.nii.gz")
        labels = np.ones((2, 3, 4), dtype=np.uint8)
        write_volume(LabelMap(labels, affine), tmp_path / "d" / "seg" / f"{case}.nii.gz")
    out = tmp_path / "out"
    command = ("data", "import", "masks", tmp_path / "d", "--out", out)
    patterns = ("--images", "img/{case}.nii.gz", "--masks", "seg/{case}.nii.gz")
    code, said, told = voxgraft(*command, *patterns, "--labels", "Liver=1")
    assert (code, said) == (0, f"{out / 'table.csv'}\n")
    assert told.endswith("2 cases of 2 patients, 1 structure(s)\n")
    code, said, _ = voxgraft("data", "check", out / "table.csv")
    assert (code, said) == (0, "")
    code, _, told = voxgraft(*command, *patterns)
    assert code == 2
    assert "masks are label maps. Say what values mean" in told
    labels[0] = 2
    write_volume(LabelMap(labels, affine), tmp_path / "d" / "seg" / "b.nii.gz")
    code, said, _ = voxgraft("data", "check", out / "table.csv")
    assert code == 1
    assert "holds value 2 in 12 voxels" in said
    code, _, told = voxgraft("data", "import", "msd", tmp_path / "d", "--out", out)
    assert code == 2
    assert "dataset.json: no such file. Give the folder that holds it" in told


def test_all_imports_of_masks_take_what_they_share() -> None:
    import inspect

    from voxgraft.cli.data_masks import VERBS

    shared = ["name_map", "patient_pattern", "patients", "leave_out_faulty"]
    own = {"nnunet": ["channel"], "flare": ["year"], "masks": ["images", "masks", "labels"]}
    assert len(VERBS) == 7
    for name, verb in VERBS.items():
        assert list(inspect.signature(verb).parameters) == [
            "root", "out", *own.get(name, []), *shared
        ]  # fmt: skip
        assert verb.__doc__
