"""Hold ``penet_3d`` to PENet's public code, with random weights in the layout of its files.

    git clone https://github.com/marshuang80/penet
    python benchmarks/penet_parity.py --code penet [--quick]

The authors' ``PENetClassifier`` gets random weights no layer of which is trivial. They are saved as
its files are (``xnet_kin_90.pth.tar`` of 600 classes with the old names, ``penet_best.pth.tar`` of
one class with today's), grafted by the catalogue's names, and compared: every stage, the feature
vector, the logits of the authors' own classifier on it, and in training, with no block left out,
the gradients. Prints rows for BENCHMARKS.md; ends with an error where a difference is above 1e-4 of
the largest value.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxgraft.grafting import graft
from voxgraft.models import Encoder, build_encoder

TOLERANCE = 1e-4
HEAD = {"classifier.fc.weight", "classifier.fc.bias"}
SIZES = ((24, 192, 192), (24, 224, 224), (32, 224, 224), (9, 40, 33), (17, 97, 120), (1, 32, 32))
KINETICS = ("penet.kinetics600", "xnet_kin_90.pth.tar", "XNetClassifier", 600)
FINE_TUNED = ("penet.ctpa_stanford", "penet_best.pth.tar", "PENetClassifier", 1)
SURVIVAL = 0.5
"""Of the authors' deepest block, had they one more."""


def authors_classifier(folder: Path) -> Callable[..., Any]:
    """Import the network alone: the package ``util`` that it prints with needs much else."""
    if not (folder / "models" / "penet_classifier.py").is_file():
        raise SystemExit(f"{folder} has no models/penet_classifier.py: give a checkout of PENet")
    sys.modules["util"] = types.ModuleType("util")
    sys.path.insert(0, str(folder))
    from models import PENetClassifier

    return PENetClassifier


def draw(network: nn.Module) -> Any:
    """Make every part count, the last norm of each block too, which begins at zero."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=(2.0 / parameter[0].numel()) ** 0.5)
            else:
                nn.init.normal_(parameter, 1.0 if name.endswith("weight") else 0.0, 0.2)
    return network.eval()


def published(network: nn.Module, file: tuple[str, str, str, int], folder: Path) -> str:
    """Save weights as the authors' saver does; return the start that they are."""
    source, name, model_name, classes = file
    old = ("penet_blocks", "xnet_blocks") if "xnet" in name else ("", "")
    state = {f"module.{n.replace(*old)}": t for n, t in network.state_dict().items()}
    torch.save(
        {
            "ckpt_info": {"epoch": 90, "val_loss": 1.5},
            "model_name": model_name,
            "model_args": {"model_depth": 50, "num_classes": classes},
            "model_state": state,
            "optimizer": {"state": {}, "param_groups": []},
            "lr_scheduler": {"last_epoch": 1},
        },
        folder / name,
    )
    return f"{source}@{folder / name}"


def compare(found: Tensor, expected: Tensor) -> tuple[float, float]:
    if found.shape != expected.shape:
        raise SystemExit(f"shapes differ: {tuple(found.shape)}, expected {tuple(expected.shape)}")
    largest = float(expected.abs().max())
    if not largest > 0:
        raise SystemExit("nothing to compare: all expected values are zero, or no numbers")
    error = float((found - expected).abs().max())
    return error, error / largest


def forward_rows(
    theirs: Any, ours: Encoder, size: tuple[int, ...], batch: int
) -> Iterator[tuple[str, float, float]]:
    """Compare stages, vector and logits on noise of a size; channels are ours."""
    x = torch.randn(batch, ours.in_channels, *size, generator=torch.Generator().manual_seed(1))
    kept: dict[str, Tensor] = {}
    places = {"in_conv": theirs.in_conv, "vector": theirs.classifier.avg_pool}
    places |= {f"encoders.{i}": stage for i, stage in enumerate(theirs.encoders)}
    handles = [
        module.register_forward_hook(lambda _, __, out, n=n: kept.__setitem__(n, out.clone()))
        for n, module in places.items()
    ]
    with torch.no_grad():
        logits = theirs(x)
        stages, vector = ours.forward_stages(x), ours(x)
    for handle in handles:
        handle.remove()
    expected = [kept["in_conv"], *(kept[f"encoders.{i}"] for i in range(4))]
    errors = [compare(a, b) for a, b in zip(stages, expected, strict=True)]
    yield "worst stage", max(a for a, _ in errors), max(r for _, r in errors)
    yield "vector", *compare(vector, kept["vector"].flatten(1))
    with torch.no_grad():
        yield "logits", *compare(theirs.classifier.fc(vector), logits)


def training_row(theirs: Any, ours: Encoder) -> tuple[str, float, float]:
    """Compare gradients in training, with no block left out."""
    x = torch.randn(2, 3, 8, 64, 64, generator=torch.Generator().manual_seed(1))
    blocks = [m for m in theirs.modules() if hasattr(m, "survival_prob")]
    chances = [block.survival_prob for block in blocks]
    dropping = build_encoder("penet_3d", drop_path=1 - chances[-1])
    own = [m.drop_path for m in dropping.modules() if hasattr(m, "drop_path")]
    wanted = [i / len(blocks) * (1 - SURVIVAL) for i in range(len(blocks))]
    if max(abs(a + b - 1) for a, b in zip(own, chances, strict=True)) > 1e-9:
        raise SystemExit(f"blocks are left out with {own}, expected {wanted}")
    for block in blocks:
        block.survival_prob = 1.0
    theirs.train().zero_grad()
    ours.train().zero_grad()
    theirs.classifier.avg_pool(_before_pool(theirs, x)).square().sum().backward()
    ours(x).square().sum().backward()
    gradients = {n: p.grad for n, p in theirs.named_parameters() if not n.startswith("classifier")}
    worst = (0.0, 0.0)
    for name, parameter in ours.named_parameters():
        worst = max(worst, compare(parameter.grad, gradients.pop(name)), key=lambda e: e[1])
    if gradients:
        raise SystemExit(f"parameters without a place: {sorted(gradients)}")
    theirs.eval()
    ours.eval()
    return ("worst gradient", *worst)


def _before_pool(theirs: Any, x: Tensor) -> Tensor:
    x = theirs.max_pool(theirs.in_conv(x))
    for encoder in theirs.encoders:
        x = encoder(x)
    return x


def grafted(start: str, channels: int) -> Encoder:
    result = graft(start, "penet_3d", in_channels=channels)
    report = result.report
    dropped = {verdict["name"] for verdict in report.dropped}
    faults = [*report.unexplained, *(verdict["name"] for verdict in report.fresh)]
    if (
        report.coverage != 1.0
        or faults
        or dropped != {"classifier.fc.weight", "classifier.fc.bias"}
    ):
        raise SystemExit(f"{start}: coverage {report.coverage}, dropped {dropped}, {faults}")
    return result.encoder.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--code", type=Path, required=True, help="checkout of marshuang80/penet")
    parser.add_argument("--quick", action="store_true", help="small volumes only")
    given = parser.parse_args()
    build = authors_classifier(given.code)
    worst = 0.0
    print("| file | channels | volume | what | largest difference | relative |")
    print("|---|---:|---|---|---:|---:|")
    for file in (KINETICS, FINE_TUNED):
        torch.manual_seed(file[3])
        theirs = draw(build(model_depth=50, num_classes=file[3]))
        with tempfile.TemporaryDirectory() as folder:
            start = published(theirs, file, Path(folder))
            encoders = [grafted(start, channels) for channels in (3, 1)]
        rows = []
        for ours in encoders:
            for size in SIZES:
                if given.quick and size[1] > 150:
                    continue
                shown = "×".join(map(str, size))
                found = forward_rows(theirs, ours, size, batch=1 if size[1] > 150 else 2)
                rows += [(ours.in_channels, shown, *row) for row in found]
        rows.append((3, "8×64×64", *training_row(theirs, encoders[0])))
        for channels, shown, what, error, relative in rows:
            print(f"| {file[1]} | {channels} | {shown} | {what} | {error:.1e} | {relative:.1e} |")
            worst = max(worst, relative)
    print(f"worst relative difference {worst:.1e}; {TOLERANCE:.0e} is allowed")
    if not worst <= TOLERANCE:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
