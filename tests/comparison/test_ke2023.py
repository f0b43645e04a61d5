"""The chest CT study, whole and small: importers, ten networks and one of today, four starts."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import timm
from safetensors.torch import save_file

from voxgraft.comparison import ke2023, plan_from_dict, run_comparison
from voxgraft.comparison.ke2023_plan import NETWORKS
from voxgraft.datasets import import_lidc_studies, import_rsna_pe
from voxgraft.files import cache_folder
from voxgraft.models import build_encoder
from voxgraft.reports import plain_text_summary, write_report
from voxgraft.weights import Card, save_weights

STARTS = ("scratch", "video", "ct", "video_ct")


def trees(name: str) -> ModuleType:
    path = Path(__file__).parents[1] / "datasets" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def weights(folder: Path) -> dict[str, str]:
    """Save random weights: timm's files for networks on slices, encoders of RGB for the others."""
    sources = {}
    for name in NETWORKS:
        encoder = build_encoder(name, in_channels=3, seed=1)
        planar = encoder.declaration.slices_of
        if planar is not None:
            file = folder / f"{planar}.safetensors"
            folder.mkdir(exist_ok=True)
            save_file(timm.create_model(planar, pretrained=False).state_dict(), file)
            sources[name] = f"timm:{planar}@{file}"
            continue
        card = Card(
            model=name,
            model_options={},
            in_channels=3,
            input_mean=(0.45,) * 3,
            input_sd=(0.225,) * 3,
            stem=encoder.declaration.stem,
            outputs=0,
            parameters=sum(parameter.numel() for parameter in encoder.parameters()),
            licence="none",
            trained_on=("noise",),
            source=None,
            report=None,
        )
        state = {f"encoder.{key}": value for key, value in encoder.state_dict().items()}
        save_weights(folder / name, state, card)
        sources[name] = str(folder / name)
    return sources


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    root = tmp_path_factory.mktemp("study")
    patch = pytest.MonkeyPatch()
    patch.setenv("VOXGRAFT_CACHE", str(root / "cache"))
    real = cache_folder() / "packages" / "totalsegmentator-2.18.0" / "unpacked"
    series = sorted(real.glob("**/example_ct_dicom"))
    trees("dicom_trees").make_rsna_tree(
        root / "rsna",
        studies=28,
        slices=12,
        pixels=36,
        formats=True,
        real_slices=series[0] if series else None,
    )
    trees("lidc_trees").make_lidc_tree(root / "lidc", scans=12, slices=12, pixels=36)
    pe = import_rsna_pe(root / "rsna", root / "pe")
    nodules = import_lidc_studies(root / "lidc", root / "nodules", annotations=root / "lidc")
    data = ke2023(
        str(pe.path),
        "pe",
        pretraining_table=str(nodules.path),
        pretraining_target="nodule",
        sources=weights(root / "weights"),
        small=True,
    )
    plan = plan_from_dict(data, "ke2023")
    comparison = run_comparison(plan, root / "out", jobs=2, command="voxgraft compare ke2023")
    yield root / "out", comparison
    patch.undo()
    shutil.rmtree(root)  # the weights of eleven networks


def test_every_network_is_tried_from_every_start(study):
    _, comparison = study
    done = {(row["model"], row["start"]): row["status"] for row in comparison["runs"]}
    assert set(done) == {(model, start) for model in NETWORKS for start in STARTS}
    assert set(done.values()) == {"finished"}
    grafts = [
        audit
        for start in comparison["starts"]
        for audit in start["grafts"]
        if start["name"] != "scratch"
    ]
    assert len(grafts) == 3 * len(NETWORKS)
    assert not any(audit["unexplained"] for audit in grafts)
    chained = next(start for start in comparison["starts"] if start["name"] == "video_ct")
    assert "noise" in chained["trained_on"]  # the chain remembers where it came from


def test_means_over_networks_and_the_printed_cells(study):
    _, comparison = study
    networks = comparison["networks"]
    assert len(networks["kinds"]["3D"]) == 7
    assert len(networks["kinds"]["2D"]) == 4
    video = next(
        row
        for row in networks["means"]
        if (row["kind"], row["start"], row["against"]) == ("3D", "video", "scratch")
    )
    assert video["n_networks"] + len(video["left_out"]) == 7
    mean = sum(video["per_network"].values()) / video["n_networks"]
    assert video["estimate"] == pytest.approx(mean)
    assert networks["best"][0]["chosen_3d"].split(",")[0] in networks["kinds"]["3D"]
    cells = comparison["published"]["cells"]
    swin = [
        c for c in cells if (c["model"], c["start"], c["percent"]) == ("swin3d_t", "video", 100)
    ]
    assert [cell["estimate"] for cell in swin] == [0.902]
    assert {cell["model"] for cell in cells} == set(NETWORKS[:-1])


def test_the_report_shows_the_grid(study):
    folder, comparison = study
    page = write_report(folder).read_text(encoding="utf-8")
    for name in NETWORKS:
        assert name in page
    assert ".902" in page
    assert "swin3d_t" in plain_text_summary(comparison)
