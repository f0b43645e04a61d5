"""Time a training step of our ACS and inflated networks against other packages' same networks.

    python benchmarks/acs_speed.py [--batch 4] [--size 32] [--repeats 4] [--threads 1] [--only TEXT]

A step is a forward and a backward pass. Both networks have the same weights and are given the same
batch, in turn, in both memory layouts; the shortest of the repeats counts, in the better layout of
each. Their outputs are compared before they are timed. ACSConv 0.1.1 and timm_3d 1.0.1 are
downloaded into a temporary folder, ACSConv is repaired there for a newer PyTorch, and both are
forgotten; where they cannot be had, their rows say so. Prints rows for BENCHMARKS.md.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from voxgraft.models import Encoder, build_encoder

LAYOUTS = (torch.contiguous_format, torch.channels_last_3d)
PACKAGES = {"ACSConv": "0.1.1", "timm-3d": "1.0.1"}
Rival = tuple[str, nn.Module, Encoder]
"""What it is, the other package's network, and ours."""


def fetch(name: str, folder: Path) -> str:
    """Put a package on the path; return why not, or nothing."""
    wanted = f"{name}=={PACKAGES[name]}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(folder)]
    try:
        subprocess.run([*command, wanted], check=True, capture_output=True, timeout=120)
    except (subprocess.SubprocessError, OSError) as fault:
        return f"{wanted} cannot be had: {fault}"
    mark = name.lower().replace("-", "_")
    archive = next(p for p in folder.iterdir() if p.name.lower().startswith(mark) and p.is_file())
    target = folder / mark
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(target)
    else:
        with tarfile.open(archive) as source:
            source.extractall(target, filter="data")
        target = next(target.iterdir())
    sys.path.insert(0, str(target))
    return ""


def repaired_acs(network: nn.Module) -> nn.Module:
    """Convert a 2D network by ACSConv's converter.

    It reads the arguments of 3D layers off PyTorch's signatures, and takes the tensor ``bias`` of a
    2D layer for the flag that newer ones have: for the conversion, batch normalization gets the
    signature that it had.
    """
    from acsconv.converters import ACSConverter

    newer = nn.BatchNorm3d.__init__

    def older(self, num_features, eps, momentum, affine, track_running_stats) -> None:
        newer(self, num_features, eps, momentum, affine, track_running_stats)

    nn.BatchNorm3d.__init__ = older
    try:
        return ACSConverter(network).model
    finally:
        nn.BatchNorm3d.__init__ = newer


def same_weights(theirs: nn.Module, ours: nn.Module, *, by_name: bool) -> None:
    """Give the other network our weights, by name or in their order; scales are drawn first.

    Ours begin with residual branches whose scale is zero, which would hide what is in them.
    """
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if parameter.ndim == 1 and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
    given = ours.state_dict()
    own = theirs.state_dict()
    if by_name:
        own.update({name: tensor for name, tensor in given.items() if name in own})
    else:
        pairs = zip(list(own)[: len(given)], given.values(), strict=True)
        own.update(dict(pairs))
    theirs.load_state_dict(own)


def acs_networks() -> Iterator[Rival]:
    from torchvision import models

    for name, make in (
        ("resnet18", models.resnet18),
        ("resnet50", models.resnet50),
        ("mobilenetv2", models.mobilenet_v2),
    ):
        plane = make(weights=None)
        if name == "mobilenetv2":
            plane.classifier = nn.Identity()
            plane.features[0][0] = nn.Conv2d(1, 32, 3, 2, 1, bias=False)
        else:
            plane.fc = nn.Identity()
            plane.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        theirs = repaired_acs(plane)
        if name == "mobilenetv2":
            # Its own forward pools images by a function, which no converter sees.
            pool = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten())
            theirs = nn.Sequential(theirs.features, pool)
        ours = build_encoder(f"{name}_3d", convolution="acs", seed=0)
        same_weights(theirs, ours, by_name=False)
        yield f"ACS {name}, ACSConv 0.1.1 (repaired)", theirs, ours


def timm_3d_networks() -> Iterator[Rival]:
    import timm_3d

    for name in ("resnet18", "resnet50", "densenet121", "efficientnet_b0", "convnext_atto"):
        theirs = timm_3d.create_model(name, pretrained=False, num_classes=0, in_chans=1)
        ours = build_encoder(f"{name}_3d", seed=0)
        same_weights(theirs, ours, by_name=True)
        yield f"inflated {name}, timm_3d 1.0.1", theirs, ours


def monai_networks() -> Iterator[Rival]:
    from monai import __version__
    from monai.networks.nets import DenseNet121, EfficientNetBN, resnet18

    ours = build_encoder("resnet18_3d", seed=0)
    theirs = resnet18(n_input_channels=1, conv1_t_stride=2, feed_forward=False, shortcut_type="B",
                      bias_downsample=False)  # fmt: skip
    same_weights(theirs, ours, by_name=False)
    yield f"3D resnet18, MONAI {__version__}", theirs, ours
    ours = build_encoder("densenet121_3d", seed=0)
    theirs = DenseNet121(spatial_dims=3, in_channels=1, out_channels=1)
    theirs.class_layers.out = nn.Identity()
    same_weights(theirs, ours, by_name=False)
    yield f"3D densenet121, MONAI {__version__}", theirs, ours
    ours = build_encoder("tf_efficientnet_b0_3d", seed=0)
    theirs = EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=3, in_channels=1)
    theirs._fc = nn.Identity()
    same_weights(theirs, ours, by_name=False)
    yield f"3D efficientnet-b0, MONAI {__version__}", theirs, ours


def step_s(network: nn.Module, batch: torch.Tensor) -> float:
    # Processor time: on one thread that is the step's own, whatever else the machine does.
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    network.zero_grad(set_to_none=True)
    start = clock()
    network(batch).square().sum().backward()
    return clock() - start


def lay_out(network: nn.Module, layout: torch.memory_format) -> None:
    for parameter in network.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=layout)


def output_difference(theirs: nn.Module, ours: nn.Module, batch: torch.Tensor) -> float:
    with torch.no_grad():
        expected, found = theirs.eval()(batch), ours.eval()(batch)
    theirs.train()
    ours.train()
    if expected.shape != found.shape:
        return float("nan")
    return float((found - expected).abs().max() / expected.abs().max())


def row(rival: Rival, batch: torch.Tensor, repeats: int) -> str:
    name, theirs, ours = rival
    difference = output_difference(theirs, ours, batch)
    pair = {"theirs": theirs.train(), "ours": ours.train()}
    shortest = dict.fromkeys(pair, float("inf"))
    for _ in range(repeats):
        for layout in LAYOUTS:
            given = batch.contiguous(memory_format=layout)
            for kind, network in pair.items():
                lay_out(network, layout)
                step_s(network, given)
                shortest[kind] = min(shortest[kind], step_s(network, given))
    ratio = shortest["theirs"] / shortest["ours"]
    times = " | ".join(f"{shortest[kind] * 1e3:.0f} ms" for kind in pair)
    return f"| {name} | {times} | {ratio:.2f} | {difference:.0e} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=32, help="voxels along each axis")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="time only the rows that contain this")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, ", end="")
    print(f"torch {torch.__version__}, batch {options.batch} of {options.size}^3, float32")
    print("| network, the other package | theirs | ours | theirs / ours | outputs differ by |")
    print("|---|---:|---:|---:|---:|")
    batch = torch.rand(options.batch, 1, *[options.size] * 3)
    makers: dict[str, Callable[[], Iterator[Rival]]] = {
        "ACSConv": acs_networks,
        "timm-3d": timm_3d_networks,
        "": monai_networks,
    }
    with tempfile.TemporaryDirectory() as folder:
        for package, make in makers.items():
            missing = fetch(package, Path(folder)) if package else ""
            if missing:
                print(f"| {package} | skipped: {missing} | | | |")
                continue
            torch.manual_seed(0)
            for rival in make():
                if options.only in rival[0]:
                    print(row(rival, batch, options.repeats), flush=True)


if __name__ == "__main__":
    main()
