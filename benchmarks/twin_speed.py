"""Time a training step of 3D twins against the same networks with plain ``nn.Conv3d`` layers.

    python benchmarks/twin_speed.py [--models NAME ...] [--batch 16] [--size 32] [--repeats 5]

A step is a forward and a backward pass. Both networks have the same weights and see the same
batch, in turn, in both memory layouts; the shortest of the repeats counts. The results are
compared before they are timed. Prints rows for BENCHMARKS.md.
"""

from __future__ import annotations

import argparse
import copy
import platform
import time

import torch
from torch import nn

from voxgraft.models import Network, build_encoder
from voxgraft.models.layers.convolution import Conv3d

DEFAULT_MODELS = ("efficientnet_lite0_3d", "mobilenetv3_small_3d", "convnext_atto_3d")
LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last_3d}


def with_plain_convolutions(network: Network) -> Network:
    """Copy a network, with each convolution a plain ``nn.Conv3d`` of the same weights."""
    plain = copy.deepcopy(network)
    for parent in list(plain.modules()):
        for name, child in list(parent.named_children()):
            if not isinstance(child, Conv3d):
                continue
            if child.same:
                raise SystemExit(f"{name} pads by TensorFlow's rule: nn.Conv3d does not offer it")
            layer = nn.Conv3d(
                child.in_channels,
                child.out_channels,
                child.kernel_size,
                stride=child.stride,
                padding=child.padding,
                dilation=child.dilation,
                groups=child.groups,
                bias=child.bias is not None,
            )
            layer.load_state_dict(child.state_dict())
            setattr(parent, name, layer)
    return plain


def step_s(network: Network, batch: torch.Tensor) -> float:
    network.zero_grad(set_to_none=True)
    start = time.perf_counter()
    network(batch).square().sum().backward()
    return time.perf_counter() - start


def output_difference(ours: Network, plain: Network, batch: torch.Tensor) -> float:
    """Return the largest difference of an output, against the largest output.

    Gradients are compared layer by layer in the tests: those of a whole network depend on which
    side of a kink of an activation a voxel falls, and rounding decides that.
    """
    with torch.no_grad():
        found, expected = ours(batch), plain(batch)
    return float((found - expected).abs().max() / expected.abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=DEFAULT_MODELS)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=32, help="voxels along each axis")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, ", end="")
    print(f"torch {torch.__version__}, batch {options.batch} of {options.size}^3, float32")
    print(
        "| network | plain Conv3d, contiguous | plain, channels-last | ours, contiguous |", end=""
    )
    print(" ours, channels-last | best plain / best ours | outputs differ by |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in options.models:
        torch.manual_seed(0)
        ours = Network(build_encoder(name, seed=0), 1, seed=0).train()
        plain = with_plain_convolutions(ours)
        batch = torch.rand(options.batch, 1, *[options.size] * 3)
        difference = output_difference(ours, plain, batch)
        shortest: dict[tuple[str, str], float] = {}
        for _ in range(options.repeats):
            for layout, memory_format in LAYOUTS.items():
                for kind, network in (("plain", plain), ("ours", ours)):
                    network.set_memory_format(memory_format)
                    step_s(network, batch)
                    duration = step_s(network, batch)
                    key = (kind, layout)
                    shortest[key] = min(shortest.get(key, float("inf")), duration)
        best = {k: min(shortest[k, layout] for layout in LAYOUTS) for k in ("plain", "ours")}
        cells = [f"{shortest[k, layout] * 1e3:.0f} ms" for k in best for layout in LAYOUTS]
        ratio = best["plain"] / best["ours"]
        print(f"| {name} | {' | '.join(cells)} | {ratio:.1f} | {difference:.0e} |", flush=True)


if __name__ == "__main__":
    main()
