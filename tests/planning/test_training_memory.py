"""The counted memory of a training step against what a real step takes."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from voxgraft.errors import ModelError, RecipeError
from voxgraft.planning import TrainedNetwork, TrainingMemory, find_budget
from voxgraft.planning.live_memory import LiveMemory

STEP = Path(__file__).with_name("one_step.py")
REAL = (("segresnet_8", 19, 64, 2), ("nnunet_5_stages_3d", 19, 48, 1))


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_against_real_steps() -> None:
    def run(setting: tuple[str, int, int, int]) -> int:
        model, *numbers = setting
        arguments = [model, "native", *map(str, numbers)]
        said = subprocess.run(
            [sys.executable, "-P", str(STEP), *arguments], capture_output=True, text=True
        )
        assert said.returncode == 0, said.stderr
        return int(said.stdout)

    with ThreadPoolExecutor(2) as pool:
        taken = list(pool.map(run, REAL))
    for (model, classes, edge, crops), real in zip(REAL, taken, strict=True):
        memory = TrainingMemory(TrainedNetwork(model=model, classes=classes, decoder="native"))
        counted = memory.training_bytes((edge,) * 3, crops)
        assert counted == pytest.approx(real, rel=0.25), (model, counted / real)


def test_what_saves_memory() -> None:
    memory = TrainingMemory(TrainedNetwork(model="segresnet_8", classes=3, decoder="native"))
    plain = memory.training_bytes((64, 64, 64), 2)
    assert memory.training_bytes((64, 64, 64), 2, bf16=True) < plain
    assert memory.training_bytes((64, 64, 64), 2, checkpointing=True) < plain
    assert memory.training_bytes((64, 64, 64), 2) == plain  # checkpointing went off again
    assert memory.inference_bytes((64, 64, 64), 2) < plain
    assert memory.training_bytes((64, 64, 64), 1) < plain


def test_grows_with_the_voxels() -> None:
    memory = TrainingMemory(TrainedNetwork(model="resnet18_3d", classes=3, decoder="unet"))
    small, middle, large = (memory.training_bytes((n, 128, 128), 1) for n in (64, 128, 192))
    assert large - middle == pytest.approx(middle - small, rel=0.02)
    assert memory.batchnorm
    assert memory.steps == (32, 32, 32)


def test_counts_storages_once_and_until_they_go() -> None:
    with LiveMemory() as live:
        whole = torch.zeros(1000)
        part = whole[:10]
        assert live.now_bytes == 4000
        more = whole + 1
        assert live.now_bytes == 8000
        del more, whole
        assert live.now_bytes == 4000
        del part
        assert live.now_bytes == 0
    assert live.peak_bytes == 8000


def test_a_size_on_which_the_network_does_not_run() -> None:
    memory = TrainingMemory(TrainedNetwork(model="segresnet_8", classes=3, decoder="native"))
    with pytest.raises(ModelError):
        memory.training_bytes((0, 8, 8), 1)


def test_budgets() -> None:
    other = find_budget(24)
    assert (other.device, other.bytes) == ("cuda", int(23 * 2**30 * 0.85))
    assert find_budget(8, "cpu").bytes == int(8 * 2**30 * 0.6)
    assert find_budget(device="cpu").bytes > 0
    for odd in (0, -1, float("nan"), float("inf")):
        with pytest.raises(RecipeError, match="positive number"):
            find_budget(odd)
