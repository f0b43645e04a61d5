"""Hold the video networks of arXiv:2304.00546 to their public implementations at the full size.

    python benchmarks/video_parity.py [--size 32 224 224] [--models NAME ...] [--chest-ct FOLDER]

Each public implementation (PyTorchVideo's hub; torchvision for Video Swin) gets random weights no
layer of which is trivial. They are saved as its published file is, grafted by the catalogue's name
into a network of three channels and of one, and both run on the same noise. Compared: what the
classifier is given, and the logits that the original's classifier makes of ours.

PyTorchVideo's heads average windows of the published clip's size. On deeper clips that is another
mean than that of the whole map, which is an option of the networks with such heads (``pooling``:
whole); a row says how far the two means are apart: no fault, and not counted as one.

With ``--chest-ct``, a checkout of rajpurkarlab/chest-ct-pretraining (and the package einops), Video
Swin is also held to the authors' own code, of which that has a copy. PENet: penet_parity.py.

Prints rows for BENCHMARKS.md; ends with an error where a difference is above 1e-4 of the largest
value.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import video

from voxgraft.grafting import graft
from voxgraft.models import Encoder, model_options

TOLERANCE = 1e-4

FILES = {
    "mvit_base_32x3": ("mvit_base_32x3.k400", "MVIT_B_32x3_f294077834.pyth", "head.proj"),
    "r2plus1d_r50": ("r2plus1d_r50.k400_16x4", "R2PLUS1D_16x4_R50.pyth", "blocks.5.proj"),
    "csn_r101": ("csn_r101.k400_32x2", "CSN_32x2_R101.pyth", "blocks.5.proj"),
    "slowfast_r50": ("slowfast_r50.k400_8x8", "SLOWFAST_8x8_R50.pyth", "blocks.6.proj"),
    "slow_r50": ("slow_r50.k400_8x8", "SLOW_8x8_R50.pyth", "blocks.5.proj"),
    "swin3d_t": (
        "swin3d_t.authors_k400_1k",
        "swin_tiny_patch244_window877_kinetics400_1k.pth",
        "head",
    ),
}
"""Source in the catalogue, name of the published file, and the original's classifier."""


def original_of(name: str) -> Any:
    if name == "swin3d_t":
        return video.swin3d_t(weights=None)
    with warnings.catch_warnings():
        # The package, which nobody maintains, compiles a function while it is imported.
        warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")
        from pytorchvideo.models import hub
    return getattr(hub, name)(pretrained=False)


def draw(network: nn.Module) -> Any:
    """Make every part count: residuals begin at zero, tables and biases too."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            one = name.endswith("weight") and parameter.ndim == 1
            fan = parameter[0].numel() if parameter.ndim > 1 and "pos" not in name else 16
            sd = 0.2 if one else (2.0 / fan if parameter.ndim == 5 else 1.0 / fan) ** 0.5
            parameter.normal_(float(one), sd, generator=generator)
        for name, buffer in network.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(1.0, 2.0, generator=generator)
            elif name.endswith("running_mean"):
                buffer.normal_(0.0, 0.2, generator=generator)
    network.eval()  # the authors' Video Swin returns nothing there
    return network


def as_the_authors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name the tensors of torchvision's Video Swin as the authors' file does."""
    named = {}
    for name, tensor in state.items():
        if name.startswith("head."):
            named[name.replace("head.", "cls_head.fc_cls.", 1)] = tensor
            continue
        place = re.match(r"features\.(\d)\.", name)
        if place:
            part = "downsample" if int(place[1]) % 2 else "blocks"
            name = f"layers.{int(place[1]) // 2}.{part}.{name[place.end() :]}"
        name = name.replace(".mlp.0.", ".mlp.fc1.").replace(".mlp.3.", ".mlp.fc2.")
        square = name.endswith("relative_position_index")
        named[f"backbone.{name}"] = tensor.view(392, 392) if square else tensor
    return named


def grafted(name: str, original: nn.Module, folder: str, channels: int, **options: str) -> Encoder:
    source, filename, _ = FILES[name]
    state = original.state_dict()
    path = Path(folder) / filename
    if not path.is_file():
        swin = name == "swin3d_t"
        torch.save({"state_dict": as_the_authors(state)} if swin else {"model_state": state}, path)
    report = graft(f"{source}@{path}", name, in_channels=channels, model_options=options)
    faults = [*report.report.unexplained, *(v["name"] for v in report.report.fresh)]
    if report.report.coverage != 1.0 or faults:
        raise SystemExit(f"{name}: coverage {report.report.coverage}, {faults}")
    return report.encoder.eval()


def classifier_input(name: str, original: nn.Module, x: Tensor) -> Tensor:
    """Run the original, untouched; its head has one value a window, whose mean is returned."""
    kept: list[Tensor] = []
    handle = original.get_submodule(FILES[name][2]).register_forward_pre_hook(
        lambda _, inputs: kept.append(inputs[0])
    )
    given: Any = x
    if name == "slowfast_r50":  # as PyTorchVideo's PackPathway
        slices = torch.linspace(0, x.shape[2] - 1, x.shape[2] // 4).long()
        given = [x.index_select(2, slices), x]
    original(given)
    handle.remove()
    return kept[0].reshape(len(x), -1, kept[0].shape[-1]).mean(1)


def compare(found: Tensor, expected: Tensor) -> tuple[float, float]:
    largest = float(expected.abs().max())
    if found.shape != expected.shape or not largest > 0:
        raise SystemExit(f"nothing to compare: {tuple(found.shape)}, {tuple(expected.shape)}")
    error = float((found - expected).abs().max())
    return error, error / largest


Row = tuple[str, str, float, float, bool]
"""Network, what was compared, largest difference, relative, and whether it must be small."""


def rows_of(name: str, size: list[int]) -> Iterator[Row]:
    original = draw(original_of(name))
    classifier = original.get_submodule(FILES[name][2])
    noise = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(2))
    pooled = "pooling" in model_options(name)
    with tempfile.TemporaryDirectory() as folder:
        for channels in (3, 1):
            ours = grafted(name, original, folder, channels)
            x = noise[:, :channels]
            start = time.perf_counter()
            expected = classifier_input(name, original, x.expand(-1, 3, -1, -1, -1))
            between = time.perf_counter()
            vector = ours(x)
            end = time.perf_counter()
            yield name, f"vector, {channels} channels", *compare(vector, expected), True
            found = compare(classifier(vector), classifier(expected))
            yield name, f"logits, {channels} channels", *found, True
            print(f"{name}: theirs {between - start:.1f} s, ours {end - between:.1f} s",
                  file=sys.stderr)  # fmt: skip
            if pooled and channels == 3:
                whole = grafted(name, original, folder, channels, pooling="whole")
                yield name, "vector, mean of the whole map", *compare(whole(x), expected), False


def authors_swin(folder: Path) -> Callable[..., nn.Module]:
    """Import the copy of the authors' file, which uses mmcv for loading files alone."""
    path = folder / "pe_models" / "models" / "backbones3d" / "video_swin_transformer.py"
    if not path.is_file():
        raise SystemExit(f"{path} is not there: give a checkout of chest-ct-pretraining")
    for name in ("mmcv", "mmcv.utils", "mmcv.runner"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["mmcv.utils"].get_logger = None  # type: ignore[attr-defined]
    sys.modules["mmcv.runner"].load_checkpoint = None  # type: ignore[attr-defined]
    spec = importlib.util.spec_from_file_location("authors_swin", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # timm's old place of its layers
        spec.loader.exec_module(module)
    built: Callable[..., nn.Module] = module.SwinTransformer3D
    return built


def swin_rows(folder: Path, size: list[int]) -> Iterator[Row]:
    build = authors_swin(folder)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.meshgrid")
        theirs = draw(
            build(
                patch_size=(2, 4, 4), window_size=(8, 7, 7), embed_dim=96, depths=[2, 2, 6, 2],
                num_heads=[3, 6, 12, 24], patch_norm=True,
            )
        )  # fmt: skip
    state = {f"backbone.{n}": t for n, t in theirs.state_dict().items()}
    state |= {
        "cls_head.fc_cls.weight": torch.ones(400, 768),
        "cls_head.fc_cls.bias": torch.ones(400),
    }
    source, filename, _ = FILES["swin3d_t"]
    with tempfile.TemporaryDirectory() as given:
        torch.save({"state_dict": state}, Path(given) / filename)
        start = f"{source}@{Path(given) / filename}"
        ours = graft(start, "swin3d_t", in_channels=3).encoder.eval()
    for one in (size, [10, 72, 100], [5, 33, 40]):
        x = torch.randn(1, 3, *one, generator=torch.Generator().manual_seed(2))
        found = compare(ours.forward_features(x), theirs(x))
        yield "swin3d_t", f"map of the authors' own code, {'×'.join(map(str, one))}", *found, True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, nargs=3, default=[32, 224, 224])
    parser.add_argument("--models", nargs="*", choices=list(FILES), default=list(FILES))
    parser.add_argument("--chest-ct", type=Path, help="checkout of chest-ct-pretraining")
    given = parser.parse_args()
    worst = 0.0
    print("| network | what | largest difference | relative |")
    print("|---|---|---:|---:|")
    with torch.inference_mode():
        rows = [rows_of(name, given.size) for name in given.models]
        if given.chest_ct:
            rows.append(swin_rows(given.chest_ct, given.size))
        for name, what, error, relative, counts in (row for some in rows for row in some):
            print(f"| {name} | {what} | {error:.1e} | {relative:.1e} |", flush=True)
            worst = max(worst, relative) if counts else worst
    print(f"worst relative difference {worst:.1e}; {TOLERANCE:.0e} is allowed")
    if not worst <= TOLERANCE:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
