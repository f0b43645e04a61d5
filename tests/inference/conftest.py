"""Small trained runs, made without a training loop or any file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from voxgraft.datasets import Target, Windows
from voxgraft.models import Declaration, Encoder, Network, SequentialEncoder
from voxgraft.recipes import ModelSettings, Recipe, StartSettings
from voxgraft.runs import TrainedRun
from voxgraft.training import Optimization
from voxgraft.transforms import Augmentation, Keep, Preprocessing

BINARY = Target(kind="binary", columns=("pe",), classes=("no", "yes"))
THREE = Target(kind="multiclass", columns=("organ",), classes=("a", "b", "c"))
LABELS = Target(kind="multilabel", columns=("left", "right"), classes=("0", "1"))
AGE = Target(kind="regression", columns=("age",), unit="years")
SEEN = {"binary": [[0.0], [1.0]], "multiclass": [[0.0], [1.0], [2.0]]}
SEEN |= {"multilabel": [[0.0, 1.0], [1.0, 0.0]], "regression": [[40.0], [60.0]]}


class SmallEncoder(SequentialEncoder):
    """Convolutions of stride 2, then the mean over the map."""

    def __init__(self, widths: Sequence[int] = (8, 16), *, kernel: int = 3, channels: int = 1):
        stages = tuple((2 ** (n + 1),) * 3 for n in range(len(widths)))
        names = tuple(f"stage{n}" for n in range(len(widths)))
        super().__init__(
            Declaration(
                family="small",
                stem="stage0.0.weight",
                head="fc",
                feature_channels=tuple(widths),
                strides=stages,
                num_features=widths[-1],
                min_size=(1, 1, 1),
                preferred_size=(8, 8, 8),
                twin_of=None,
            ),
            trunk=names,
            pool=("pool",),
            taps=names,
            in_channels=channels,
        )
        for name, before, after in zip(names, (channels, *widths), widths, strict=False):
            conv = nn.Conv3d(before, after, kernel, stride=2, padding=(kernel - 1) // 2, bias=False)
            self.add_module(name, nn.Sequential(conv, nn.BatchNorm3d(after), nn.ReLU()))
        self.pool_module = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self._pool = ("pool_module",)


MakeRun = Callable[..., TrainedRun]


@pytest.fixture(scope="session")
def small_encoder() -> type[SmallEncoder]:
    return SmallEncoder


@pytest.fixture(scope="session")
def make_run() -> MakeRun:
    """Return a maker of runs around an encoder; its head has random weights of a sensible size."""

    def make(
        encoder: Encoder,
        *,
        windows: Windows | None = None,
        target: Target = BINARY,
        preprocessing: Preprocessing | None = None,
        model: str = "small",
        folder: Path = Path("run"),
        network: Network | None = None,
    ) -> TrainedRun:
        recipe = Recipe(
            table="table.csv",
            target=target,
            metric="mae" if target.kind == "regression" else "auroc",
            preprocessing=preprocessing or Preprocessing(intensity=Keep(), background=0.0),
            augmentation=Augmentation(),
            model=ModelSettings(name=model),
            start=StartSettings(name="scratch"),
            optimization=Optimization(),
            windows=windows,
        )
        task = recipe.task.build(target).fit(np.array(SEEN[target.kind]))
        if network is None:
            attention = windows is not None and windows.aggregate == "attention"
            network = Network(encoder, task.outputs, windows_attention=attention, seed=1)
            with torch.no_grad():
                network.head.weight.mul_(100)
        return TrainedRun(
            folder=folder,
            recipe=recipe,
            network=network.eval(),
            task=task,
            in_channels=encoder.in_channels,
        )

    return make


SIZE = (8, 32, 32)
"""Of the volumes that the finder was trained on."""


def with_blob(rng: np.random.Generator, size: Sequence[int], place: Any) -> np.ndarray:
    """Return noise (1, *size), with a bright blob at a place (or None)."""
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"))
    image = rng.normal(0.4, 0.1, size)
    if place is not None:
        apart = ((grid - np.reshape(place, (3, 1, 1, 1))) ** 2).sum(axis=0)
        image = image + 0.8 * np.exp(-apart / (2 * 2.0**2))
    return np.clip(image, 0, 1.2)[None].astype(np.float32)


@pytest.fixture(scope="session")
def blobs() -> Callable[..., np.ndarray]:
    return with_blob


@pytest.fixture(scope="session")
def finder() -> Network:
    """Return a small network that was trained to say whether there is a blob."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = Network(SmallEncoder((8, 16)), 1, seed=0).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    labels = torch.tensor([0.0, 1.0] * 4)
    for _ in range(80):
        images = [
            with_blob(rng, SIZE, [rng.uniform(2, n - 2) for n in SIZE] if label else None)
            for label in labels
        ]
        logits = network(torch.from_numpy(np.stack(images)))[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2
    return network.eval()
