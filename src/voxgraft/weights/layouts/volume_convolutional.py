"""How public files of MedicalNet, PENet, Merlin, FMCIB, nnU-Net and STU-Net name their tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from voxgraft.weights.convert.rules import Drop, Rename, Rule


def _medicalnet(architecture: str) -> tuple[Rule, ...]:
    return (
        Rename(r"^module\.", ""),
        Drop(r"conv_seg\..*", "layers of a segmentation that the network was fine-tuned for"),
    )


def _penet(architecture: str) -> tuple[Rule, ...]:
    # PENet was called XNet while its weights were trained.
    return (
        Rename(r"^module\.", ""),
        Rename(r"^(encoders\.\d+\.)xnet_blocks\.", r"\1penet_blocks."),
    )


def _merlin(architecture: str) -> tuple[Rule, ...]:
    return (
        Drop(r"(?:.*\.)?encode_text\..*", "the text encoder"),
        Drop(r"(?:.*\.)?logit_scale", "the temperature of the contrast with the reports"),
        Rename(r"^(?:model\.)?(?:encode_image\.)?i3_resnet\.", ""),
    )


def _fmcib(architecture: str) -> tuple[Rule, ...]:
    return (
        Rename(r"^(?:model\.)?trunk\.", ""),
        Drop(r"(?:model\.)?heads\..*", "a head that lesions were classified with"),
    )


def _nnunet(architecture: str) -> tuple[Rule, ...]:
    return (
        Rename(r"^module\.", ""),
        Rename(r"^_orig_mod\.", ""),
        Drop(r"decoder\.encoder\..*", "the encoder again, which the decoder refers to"),
        Drop(r".*\.all_modules\.\d+\..*", "a tensor again that is also named conv or norm"),
        Rename(r"^encoder\.", ""),
        # The names of nnU-Net's first version. Its deepest stage is two stacks, of one
        # convolution each; its decoder has no biases.
        Rename(r"^conv_blocks_context\.(\d+)\.([01])\.blocks\.0\.", r"stages.\1.0.convs.\2."),
        Rename(r"^conv_blocks_context\.(\d+)\.blocks\.(\d+)\.", r"stages.\1.0.convs.\2."),
        Rename(r"^(stages\.\d+\.0\.convs\.\d+\.)instnorm\.", r"\1norm."),
        Drop(r"(?:conv_blocks_localization|tu|seg_outputs)\..*", "part of the source's decoder"),
    )


def _stunet(architecture: str) -> tuple[Rule, ...]:
    return (Rename(r"^module\.", ""),)


LAYOUTS: Mapping[str, Callable[[str], tuple[Rule, ...]]] = {
    "medicalnet": _medicalnet,
    "penet": _penet,
    "merlin": _merlin,
    "fmcib": _fmcib,
    "nnunet": _nnunet,
    "stunet": _stunet,
}


def _any(pattern: str) -> Callable[[Collection[str]], bool]:
    sign = re.compile(pattern)
    return lambda names: any(sign.search(name) for name in names)


SIGNS: tuple[tuple[str, Callable[[Collection[str]], bool]], ...] = (
    ("penet", _any(r"encoders\.0\.(?:xnet|penet)_blocks\.0\.se_block\.")),
    ("merlin", _any(r"(?:^|\.)i3_resnet\.conv1\.")),
    ("fmcib", _any(r"^(?:model\.)?trunk\.layer4\.0\.conv3\.")),
    ("nnunet", _any(r"encoder\.stages\.0\.(?:0\.convs\.0\.conv|blocks\.0\.conv1\.conv)\.")),
    ("nnunet", _any(r"conv_blocks_context\.0\.blocks\.0\.conv\.")),
    ("stunet", _any(r"conv_blocks_context\.0\.0\.conv1\.")),
    ("medicalnet", _any(r"(?:^|\.)conv_seg\.0\.")),
)
