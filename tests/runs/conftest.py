"""Made bodies, and one short segmentation of them that several tests look at."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from voxgraft.datasets import Table, write_table
from voxgraft.recipes import Recipe, recipe_from_dict, segmentation_recipe
from voxgraft.runs import begin_run, execute, execute_run
from voxgraft.synthesis import write_anatomies

CLASSES = ["lung_left", "liver"]


@pytest.fixture(scope="session")
def bodies(tmp_path_factory) -> Table:
    """Seven bodies with lungs, liver and spleen, split by hand."""
    folder = tmp_path_factory.mktemp("bodies")
    drawn = ("lung_left", "liver", "spleen")
    table = write_anatomies(
        folder, range(7), annotated=drawn, size_voxels=(24, 32, 32), spacing_mm=10.0
    )
    split = ["train"] * 4 + ["validation"] + ["test"] * 2
    return write_table(table.with_column("split", split), folder / "split.csv")


@pytest.fixture(scope="session")
def make_recipe(tmp_path_factory) -> Callable[..., Recipe]:
    """Return a maker of recipes of quick segmentations."""
    store = tmp_path_factory.mktemp("store")

    def make(table: Path, *, overlapping: bool = False, steps: int = 4, **changes) -> Recipe:
        data = segmentation_recipe(str(table), "segresnet_8", classes=CLASSES)
        data["preprocessing"] |= {
            "spacing_mm": None,
            "storage": "float32",
            "intensity": {"kind": "window", "low": -1000.0, "high": 300.0},
        }
        data["segmentation"] |= {"overlapping": overlapping}
        data["optimization"] |= {
            "epochs": None,
            "eval_every_epochs": None,
            "steps": steps,
            "eval_every": max(1, steps // 2),
            "batch_size": 2,
            "learning_rate": 2e-3,
            "threads": 1,
        }
        data |= {"crop_size_voxels": [16, 16, 16], "memory_format": "contiguous"}
        return recipe_from_dict(data | {"store": str(store)} | changes, "the test")

    return make


@pytest.fixture(scope="session")
def segmentation(bodies, make_recipe, tmp_path_factory) -> SimpleNamespace:
    """A finished run, and what its network gave for an image just before it was saved."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    recipe = make_recipe(bodies.path, steps=8)
    image = torch.rand(1, 1, 16, 24, 16, generator=torch.Generator().manual_seed(0))
    seen = {}
    save = execute.save_network

    def save_seen(run, network, *rest):
        with torch.no_grad():
            seen["logits"] = network.eval()(image)
        save(run, network, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "save_network", save_seen)
        begin_run(folder, recipe)
        result = execute_run(folder)
    return SimpleNamespace(
        folder=folder, recipe=recipe, result=result, image=image, logits=seen["logits"]
    )
