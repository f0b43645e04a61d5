"""How public files of convolutional video networks name their tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from voxgraft.errors import SourceError
from voxgraft.weights.convert.rules import Drop, Rename

_TORCHVISION_STEM = "stem.0.weight"
_TORCHVISION_BLOCK = re.compile(r"layer1\.0\.conv1\.0\.(?:0\.)?weight")
_S3D_BRANCH = "features.5.branch1.1.0.0.weight"
_PYTORCHVIDEO_STEMS = (
    "blocks.0.conv.weight",
    "blocks.0.conv.conv_t.weight",
    "blocks.0.multipathway_blocks.0.conv.weight",
)
_PYSLOWFAST_STEM = "s1.pathway0_stem.conv.weight"
_POOLED_AFTER_FIRST = ("c2d_", "i3d_")
"""Networks with a module without tensors, maximum pooling, after the first stage."""


def _torchvision_video(architecture: str) -> tuple[Rename, ...]:
    return ()


def _hara(architecture: str) -> tuple[Rename, ...]:
    return ()


def _inception_i3d(architecture: str) -> tuple[Rename, ...]:
    return ()


def _pytorchvideo(architecture: str) -> tuple[Rename, ...]:
    """Strip the prefix of the files that PySlowFast wrote around PyTorchVideo's networks."""
    return (Rename(r"^model\.(?=blocks\.)", ""),)


def _check_family(architecture: str, prefixes: tuple[str, ...], layout: str, networks: str) -> None:
    """Refuse an architecture whose tensors a layout does not name.

    Raises:
        SourceError: If the architecture is none of the networks.
    """
    if not architecture.startswith(prefixes):
        raise SourceError(
            f"the key layout {layout!r} names tensors of {networks} networks, not of "
            f"{architecture!r}. Give the architecture that the file is of."
        )


def _pyslowfast(architecture: str) -> tuple[Rename | Drop, ...]:
    """Name PySlowFast's residual networks, and the student of its contrastive training.

    Its X3D is another network, with a normalization in the first shortcut.

    Raises:
        SourceError: If the architecture is none that PySlowFast and PyTorchVideo share.
    """
    _check_family(
        architecture,
        ("slow_", "slowfast_", *_POOLED_AFTER_FIRST),
        "pyslowfast",
        "slow, slowfast, c2d and i3d",
    )
    two = architecture.startswith("slowfast_")
    shift = 1 if architecture.startswith(_POOLED_AFTER_FIRST) else 0
    pathway = r"multipathway_blocks.\g<1>." if two else ""
    rules: list[Rename | Drop] = [
        Drop(r"backbone_hist\..*", "the averaged copy of the contrastive training"),
        Drop(r"ptr|iter|queue_.*|knn_mem\..*|swav_prototypes.*", "memory of the training"),
        Rename(r"^backbone\.(?=s\d|head\.)", ""),
        Rename(r"^s1\.pathway(\d)_stem\.conv\.", rf"blocks.0.{pathway}conv."),
        Rename(r"^s1\.pathway(\d)_stem\.bn\.", rf"blocks.0.{pathway}norm."),
    ]
    for stage in range(1, 6):
        block = stage - 1 + (shift if stage > 2 else 0)
        rules += [
            Rename(
                rf"^s{stage}\.pathway(\d)_res(\d+)\.",
                rf"blocks.{block}.{pathway}res_blocks.\g<2>.",
            ),
            Rename(
                rf"^s{stage}_fuse\.conv_f2s\.",
                f"blocks.{block}.multipathway_fusion.conv_fast_to_slow.",
            ),
            Rename(rf"^s{stage}_fuse\.bn\.", f"blocks.{block}.multipathway_fusion.norm."),
        ]
    inside = r"(?<=\d)"
    return (
        *rules,
        Rename(rf"{inside}\.branch1\.", ".branch1_conv."),
        Rename(rf"{inside}\.branch1_bn\.", ".branch1_norm."),
        Rename(rf"{inside}\.branch2\.([abc])\.", r".branch2.conv_\g<1>."),
        Rename(rf"{inside}\.branch2\.([abc])_bn\.", r".branch2.norm_\g<1>."),
    )


def _mmaction(architecture: str) -> tuple[Rename | Drop, ...]:
    """Name mmaction2's channel-separated networks and SlowOnly.

    Raises:
        SourceError: If the architecture is neither.
    """
    _check_family(
        architecture, ("ircsn_", "ipcsn_", "slow_"), "mmaction-resnet3d", "ircsn, ipcsn and slow"
    )
    inside = r"(?<=\d)"
    branch = ".branch2."
    middle = {
        "ircsn": (
            Rename(rf"{inside}\.conv2\.0\.conv\.", f"{branch}conv_b."),
            Rename(rf"{inside}\.conv2\.0\.bn\.", f"{branch}norm_b."),
        ),
        "ipcsn": (
            Rename(rf"{inside}\.conv2\.0\.conv\.", f"{branch}conv_b.mix."),
            Rename(rf"{inside}\.conv2\.0\.bn\.", f"{branch}conv_b.norm."),
            Rename(rf"{inside}\.conv2\.1\.conv\.", f"{branch}conv_b.conv."),
            Rename(rf"{inside}\.conv2\.1\.bn\.", f"{branch}norm_b."),
        ),
        "slow": (
            Rename(rf"{inside}\.conv2\.conv\.", f"{branch}conv_b."),
            Rename(rf"{inside}\.conv2\.bn\.", f"{branch}norm_b."),
        ),
    }[architecture.partition("_")[0]]
    return (
        *_MMACTION,
        Rename(r"^conv1\.conv\.", "blocks.0.conv."),
        Rename(r"^conv1\.bn\.", "blocks.0.norm."),
        Rename(r"^layer(\d)\.(\d+)\.", r"blocks.\g<1>.res_blocks.\g<2>."),
        *_mmaction_block(middle),
    )


def _mmaction_block(middle: tuple[Rename, ...]) -> tuple[Rename, ...]:
    """Name the tensors of a bottleneck of mmaction2's; ``middle`` names its second convolution."""
    inside, branch = r"(?<=\d)", ".branch2."
    return (
        Rename(rf"{inside}\.downsample\.conv\.", ".branch1_conv."),
        Rename(rf"{inside}\.downsample\.bn\.", ".branch1_norm."),
        Rename(rf"{inside}\.conv1\.conv\.", f"{branch}conv_a."),
        Rename(rf"{inside}\.conv1\.bn\.", f"{branch}norm_a."),
        *middle,
        Rename(rf"{inside}\.conv3\.conv\.", f"{branch}conv_c."),
        Rename(rf"{inside}\.conv3\.bn\.", f"{branch}norm_c."),
    )


def _mmaction_slowfast(architecture: str) -> tuple[Rename | Drop, ...]:
    """Name mmaction2's SlowFast, whose connections are convolutions alone.

    Raises:
        SourceError: If the architecture is no such network.
    """
    _check_family(architecture, ("slowfast_plain_",), "mmaction-slowfast", "slowfast_plain")
    rules: list[Rename] = []
    for index, path in enumerate(("slow_path", "fast_path")):
        place = f"multipathway_blocks.{index}"
        rules += [
            Rename(rf"^{path}\.conv1\.conv\.", f"blocks.0.{place}.conv."),
            Rename(rf"^{path}\.conv1\.bn\.", f"blocks.0.{place}.norm."),
            Rename(rf"^{path}\.layer(\d)\.(\d+)\.", rf"blocks.\g<1>.{place}.res_blocks.\g<2>."),
        ]
    fusion = "multipathway_fusion.conv_fast_to_slow."
    middle = (
        Rename(r"(?<=\d)\.conv2\.conv\.", ".branch2.conv_b."),
        Rename(r"(?<=\d)\.conv2\.bn\.", ".branch2.norm_b."),
    )
    return (
        *_MMACTION,
        Rename(r"^slow_path\.conv1_lateral\.conv\.", f"blocks.0.{fusion}"),
        Rename(r"^slow_path\.layer(\d)_lateral\.conv\.", rf"blocks.\g<1>.{fusion}"),
        *rules,
        *_mmaction_block(middle),
    )


def _pyslowfast_x3d(architecture: str) -> tuple[Rename | Drop, ...]:
    """Name PySlowFast's X3D, whose first shortcut is normalized.

    Raises:
        SourceError: If the architecture is no such network.
    """
    _check_family(architecture, ("x3d_normalized_",), "pyslowfast-x3d", "x3d_normalized")
    stages = [
        Rename(rf"^s{stage}\.pathway0_res(\d+)\.", rf"blocks.{stage - 1}.res_blocks.\g<1>.")
        for stage in range(2, 6)
    ]
    inside = r"(?<=\d)"
    return (
        # PyTorchVideo calls the convolution in the plane conv_t, and that along depth conv_xy.
        Rename(r"^s1\.pathway0_stem\.conv_xy\.", "blocks.0.conv.conv_t."),
        Rename(r"^s1\.pathway0_stem\.conv\.", "blocks.0.conv.conv_xy."),
        Rename(r"^s1\.pathway0_stem\.bn\.", "blocks.0.norm."),
        *stages,
        Rename(rf"{inside}\.branch1\.", ".branch1_conv."),
        Rename(rf"{inside}\.branch1_bn\.", ".branch1_norm."),
        Rename(rf"{inside}\.branch2\.b_bn\.", ".branch2.norm_b.0."),
        Rename(rf"{inside}\.branch2\.se\.fc1\.", ".branch2.norm_b.1.block.0."),
        Rename(rf"{inside}\.branch2\.se\.fc2\.", ".branch2.norm_b.1.block.2."),
        Rename(rf"{inside}\.branch2\.([abc])\.", r".branch2.conv_\g<1>."),
        Rename(rf"{inside}\.branch2\.([ac])_bn\.", r".branch2.norm_\g<1>."),
        Rename(r"^head\.conv_5\.", "blocks.5.pool.pre_conv."),
        Rename(r"^head\.conv_5_bn\.", "blocks.5.pool.pre_norm."),
        Rename(r"^head\.lin_5\.", "blocks.5.pool.post_conv."),
    )


def _is_mmaction_slowfast(names: Collection[str]) -> bool:
    stem = "slow_path.conv1.conv.weight"
    return stem in names or f"backbone.{stem}" in names


def _is_mmaction(names: Collection[str]) -> bool:
    return any(
        f"{prefix}conv1.conv.weight" in names and f"{prefix}layer1.0.conv1.conv.weight" in names
        for prefix in ("backbone.", "")
    )


def _is_torchvision(names: Collection[str]) -> bool:
    if _S3D_BRANCH in names:
        return True
    return _TORCHVISION_STEM in names and any(map(_TORCHVISION_BLOCK.fullmatch, names))


def _is_pytorchvideo(names: Collection[str]) -> bool:
    return any(stem in names or f"model.{stem}" in names for stem in _PYTORCHVIDEO_STEMS)


def _is_pyslowfast(names: Collection[str]) -> bool:
    return _PYSLOWFAST_STEM in names or f"backbone.{_PYSLOWFAST_STEM}" in names


_MMACTION: tuple[Rename | Drop, ...] = (
    Drop(r"data_preprocessor\..*", "the image normalization, which the input contract states"),
    Rename(r"^backbone\.", ""),
)

LAYOUTS: Mapping[str, Callable[[str], tuple[Rename | Drop, ...]]] = {
    "torchvision-video": _torchvision_video,
    "pytorchvideo": _pytorchvideo,
    "pyslowfast": _pyslowfast,
    "pyslowfast-x3d": _pyslowfast_x3d,
    "mmaction-resnet3d": _mmaction,
    "mmaction-slowfast": _mmaction_slowfast,
    "hara": _hara,
    "inception-i3d": _inception_i3d,
}

SIGNS: tuple[tuple[str, Callable[[Collection[str]], bool]], ...] = (
    ("torchvision-video", _is_torchvision),
    ("pytorchvideo", _is_pytorchvideo),
    ("pyslowfast-x3d", lambda names: "s1.pathway0_stem.conv_xy.weight" in names),
    ("pyslowfast", _is_pyslowfast),
    ("mmaction-slowfast", _is_mmaction_slowfast),
    ("mmaction-resnet3d", _is_mmaction),
    ("inception-i3d", lambda names: "Conv3d_1a_7x7.conv3d.weight" in names),
)
