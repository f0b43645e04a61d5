"""A network and cases small enough for tests; run as a script, a training that can be killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from voxgraft.datasets.target import Target
from voxgraft.feeds import Batch, Feed
from voxgraft.models import Declaration, Network, SequentialEncoder
from voxgraft.tasks import Task, build_task
from voxgraft.training import Adapt, Optimization, fit, predict_scores, state
from voxgraft.transforms import Augmentation

BINARY = Target(kind="binary", columns=("malignant",), classes=("no", "yes"))
THREE = Target(kind="multiclass", columns=("grade",), classes=("a", "b", "c"))
LABELS = Target(kind="multilabel", columns=("left", "right"), classes=("0", "1"))
AGE = Target(kind="regression", columns=("age",), unit="years")


class TinyEncoder(SequentialEncoder):
    """A stem and two stages with BatchNorm, dropout, a depthwise and a pointwise convolution."""

    def __init__(self, norm: str = "batch") -> None:
        super().__init__(
            Declaration(
                family="tiny",
                stem="stem.0.weight",
                head="fc",
                feature_channels=(8, 12),
                strides=((4, 4, 4), (4, 4, 4)),
                num_features=12,
                min_size=(4, 4, 4),
                preferred_size=(8, 8, 8),
                twin_of=None,
            ),
            trunk=("stem", "layer1", "layer2"),
            pool=("global_pool", "flatten"),
            taps=("layer1", "layer2"),
            in_channels=1,
        )

        def unit(conv: nn.Module, channels: int) -> nn.Sequential:
            norms = {"batch": nn.BatchNorm3d, "group": lambda width: nn.GroupNorm(2, width)}
            return nn.Sequential(conv, norms[norm](channels), nn.ReLU())

        self.stem = unit(nn.Conv3d(1, 4, 3, stride=2, padding=1, bias=False), 4)
        self.layer1 = nn.Sequential(
            unit(nn.Conv3d(4, 8, 3, stride=2, padding=1), 8), nn.Dropout(0.2)
        )
        self.layer2 = nn.Sequential(
            unit(nn.Conv3d(8, 8, 3, padding=1, groups=8), 8), unit(nn.Conv3d(8, 12, 1), 12)
        )
        self.global_pool = nn.AdaptiveAvgPool3d(1)
        self.flatten = nn.Flatten()


class TinyFeed(Feed):
    """Cases in memory, as the store's feed gives them."""

    def __init__(self, images: torch.Tensor, targets: np.ndarray) -> None:
        super().__init__(targets)
        self.images = images
        self.prepared = SimpleNamespace(background=0.0, spacing_mm=(1.0, 1.0, 1.0))
        self.served: list[list[int]] = []

    @property
    def image_shape(self):
        return tuple(self.images.shape[1:])

    def batches(self, schedule, *, first_step=0):
        for positions in schedule:
            self.served.append(positions.tolist())
            chosen = torch.as_tensor(positions)
            yield Batch(self.images[chosen], self.targets[chosen])


def tiny_network(outputs: int = 1, norm: str = "batch", dropout: float = 0.1) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return Network(TinyEncoder(norm), outputs, dropout=dropout)


def tiny_feed(target: Target, cases: int, seed: int = 0) -> TinyFeed:
    """Noise with a bright block whose brightness tells the target."""
    generator = np.random.default_rng(seed)
    images = 0.4 + 0.1 * generator.standard_normal((cases, 1, 8, 8, 8))
    signal_ = np.arange(cases) % 3 / 2.0
    targets = {
        "binary": (np.arange(cases) % 2)[:, None],
        "multiclass": (np.arange(cases) % 3)[:, None],
        "multilabel": np.stack([np.arange(cases) % 2, np.arange(cases) % 3 == 0], axis=1),
        "regression": 50.0 + 20.0 * signal_[:, None] + generator.standard_normal((cases, 1)),
    }[target.kind].astype(np.float64)
    images[:, 0, 2:6, 2:6, 2:6] += (0.3 * targets[:, 0] / targets[:, 0].max())[:, None, None, None]
    return TinyFeed(torch.from_numpy(images).float(), targets)


def settings(**changes: object) -> Optimization:
    plain = Optimization(
        steps=12, batch_size=6, eval_every=4, learning_rate=5e-3, threads=1, batchnorm_batches=3
    )
    return plain.replace(**changes)


def train(folder: Path, *, target=BINARY, adapt=None, norm="batch", task=None, **options):
    """Train a tiny network; return network, task and result."""
    task = build_task(target) if task is None else task
    network = options.pop("network", None) or tiny_network(task.outputs, norm)
    optimization = settings(**options.pop("changes", {}))
    result = fit(
        network,
        task,
        options.pop("train_feed", None) or tiny_feed(target, 20),
        options.pop("validation_feed", None) or tiny_feed(target, 9, seed=1),
        optimization,
        adapt or Adapt(),
        options.pop("augmentation", Augmentation(flip_axes=("width",), noise_sd=(0.0, 0.1))),
        folder=folder,
        seed=options.pop("seed", 3),
        device="cpu",
        **options,
    )
    return network, task, result


def outcome(network: Network, task: Task, feed: TinyFeed) -> dict[str, bytes]:
    """Return weights and predictions (on one thread) as bytes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    scores = predict_scores(network, task, feed)
    torch.set_num_threads(threads)
    tensors = {name: value.numpy().tobytes() for name, value in network.state_dict().items()}
    return {**tensors, "scores": scores.tobytes()}


def run_in_child(action: Callable[[], None]) -> int:
    """Run something in a forked process; return how that ended, a signal as a negative number."""
    child = os.fork()
    if child == 0:
        action()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """For each step given: train, be killed before that step's checkpoint, and train again."""
    ended: list[int] = []
    for kill_at in map(int, sys.argv[2:]):
        folder = Path(sys.argv[1]) / f"killed-{kill_at}"
        folder.mkdir()
        options = {"changes": {"ema_decay": 0.9}, "checkpoint_every_steps": 2}

        def killed(folder=folder, kill_at=kill_at, options=options) -> None:
            state.TrainingState.after_update = kill_in_step(kill_at)
            train(folder, **options)

        def resumed(folder=folder, options=options) -> None:
            network, task, result = train(folder, **options)
            found = outcome(network, task, tiny_feed(BINARY, 9, seed=1))
            plain = {name: value.hex() for name, value in found.items()}
            record = [ended[-1], plain, result.resumed_at]
            (folder / "outcome.json").write_text(json.dumps(record))

        ended.append(run_in_child(killed))
        run_in_child(resumed)


def kill_in_step(kill_at: int) -> Callable[..., None]:
    """Return an ``after_update`` that kills this process, in the middle of the loop's step."""
    after_update = state.TrainingState.after_update

    def killing(self, loss) -> None:
        after_update(self, loss)
        if self.progress.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    return killing


if __name__ == "__main__":
    main()
