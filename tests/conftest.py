"""Set before anything is imported: no hub, one thread. Fixtures that several rooms share."""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # small tensors; and tests run side by side

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import settings

from voxgraft.datasets import Table, read_table
from voxgraft.volumes import Affine, Volume, write_volume

MakeShapes = Callable[..., Table]

# Time is no matter of tests: an example may take long on a busy machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """One thread whatever imported PyTorch first: sums are the same everywhere."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_shapes(tmp_path_factory: pytest.TempPathFactory) -> MakeShapes:
    """Return a maker of tables of small noisy volumes: a ball (class 0) or a box (class 1)."""

    def make(cases: int = 40, *, size: int = 12, per_patient: int = 1, seed: int = 0) -> Table:
        folder = tmp_path_factory.mktemp("shapes")
        rng = np.random.default_rng(seed)
        grid = np.stack(np.meshgrid(*[np.arange(size) - (size - 1) / 2] * 3, indexing="ij"))
        rows = []
        for number in range(cases):
            box = number % 2
            radius = rng.uniform(0.25, 0.4) * size
            distance = np.abs(grid).max(axis=0) if box else np.sqrt((grid**2).sum(axis=0)) * 0.8
            image = (distance < radius) * 100.0 + rng.normal(0, 10, (size,) * 3)
            name = f"image{number:03d}.nii.gz"
            write_volume(
                Volume(image[None].astype(np.float32), Affine.from_spacing((1.0, 1.0, 1.0))),
                folder / name,
            )
            rows.append(
                {
                    "case_id": f"case{number:03d}",
                    "patient_id": f"patient{number // per_patient:03d}",
                    "image": name,
                    "shape": "box" if box else "ball",
                    "radius_mm": radius,
                    "site": "A" if number % 3 else "B",
                }
            )
        path = folder / "table.csv"
        pd.DataFrame(rows).to_csv(path, index=False)
        return read_table(path)

    return make


@pytest.fixture
def voxgraft(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Return the installed program: exit code, stdout and stderr."""
    from voxgraft.cli import main as cli

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["voxgraft", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.run()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run
