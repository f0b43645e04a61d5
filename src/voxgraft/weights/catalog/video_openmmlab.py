"""Channel-separated networks and Slow, as OpenMMLab's mmaction2 publishes them."""

from __future__ import annotations

from voxgraft.weights.source import InputContract, Source, WebFile

_PLACE = "https://download.openmmlab.com/mmaction"
_NOTE = "the code is Apache-2.0; no licence is stated for the weights"
_WHOLE = "its head averages the whole map, which here is the model option pooling: whole"
_K400 = "Kinetics-400"

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CAFFE2 = (
    (110.2008 / 255, 100.63983 / 255, 95.99475 / 255),
    (58.14765 / 255, 56.46975 / 255, 55.332195 / 255),
)
_BACKBONES = {
    "ircsn_r50": 12_311_552,
    "ircsn_r152": 28_883_968,
    "ipcsn_r152": 32_196_992,
    "slow_r50": 31_634_496,
    "slow_r101": 59_539_520,
}


def _source(
    architecture: str,
    tag: str,
    file: str,
    frames: int,
    trained_on: tuple[str, ...],
    *,
    classes: int = 400,
    contract: tuple[tuple[float, ...], tuple[float, ...]] = _IMAGENET,
) -> Source:
    mean, sd = contract
    head = 2049 * classes
    return Source(
        id=f"{architecture}.{tag}",
        file=WebFile(url=f"{_PLACE}/{file}"),
        sha256=None,
        layout="video",
        input=InputContract(channels=3, mean=mean, sd=sd, size=(frames, 224, 224)),
        architecture=architecture,
        key_layout="mmaction-resnet3d",
        stem=("blocks.0.conv",),
        head=("cls_head",),
        parameters=_BACKBONES[architecture] + head,
        head_parameters=head,
        paper="arXiv:1812.03982" if architecture.startswith("slow") else "arXiv:1904.02811",
        trained_on=trained_on,
        note=f"{_NOTE}; {_WHOLE}" if architecture == "slow_r50" else _NOTE,
    )


def _ported(architecture: str, tag: str, file: str, more: tuple[str, ...] = ()) -> Source:
    """Return a source that mmaction2 converted from Caffe2."""
    return _source(
        architecture,
        tag,
        f"recognition/csn/vmz/vmz_{file}.pth",
        32,
        (*more, _K400),
        # Only for this one does mmaction2's configuration inherit ImageNet's numbers.
        contract=_IMAGENET if tag == "ig65m_k400" else _CAFFE2,
    )


def _csn(architecture: str, tag: str, name: str, suffix: str) -> Source:
    whole = f"{name}_8xb12-32x2x1-58e_kinetics400-rgb"
    file = f"v1.0/recognition/csn/{whole}/{whole}_{suffix}.pth"
    return _source(architecture, tag, file, 32, ("IG-65M", _K400))


def _slow(
    architecture: str,
    tag: str,
    folder: str,
    file: str,
    frames: int,
    trained_on: tuple[str, ...],
    classes: int = 400,
) -> Source:
    place = f"v1.0/recognition/slowonly/{folder}/{file}.pth"
    return _source(architecture, tag, place, frames, trained_on, classes=classes)


_PRETRAINED = "slowonly_imagenet-pretrained-r50"
_STEPS = "steplr-150e"

SOURCES: tuple[Source, ...] = (
    _csn("ircsn_r152", "ig65m_k400", "ircsn_ig65m-pretrained-r152", "20220811-c7a3cc5b"),
    _csn(
        "ircsn_r152",
        "ig65m_k400_bn_frozen",
        "ircsn_ig65m-pretrained-r152-bnfrozen",
        "20220811-7d1dacde",
    ),
    _csn(
        "ircsn_r50",
        "ig65m_k400_bn_frozen",
        "ircsn_ig65m-pretrained-r50-bnfrozen",
        "20220811-44395bae",
    ),
    _ported(
        "ircsn_r152",
        "k400",
        "ircsn_from_scratch_r152_32x2x1_180e_kinetics400_rgb_20210617-5c933ae1",
    ),
    _ported(
        "ircsn_r152",
        "sports1m_k400",
        "ircsn_sports1m_pretrained_r152_32x2x1_58e_kinetics400_rgb_20210617-b9b10241",
        ("Sports-1M",),
    ),
    _ported(
        "ipcsn_r152",
        "k400",
        "ipcsn_from_scratch_r152_32x2x1_180e_kinetics400_rgb_20210617-d565828d",
    ),
    _ported(
        "ipcsn_r152",
        "ig65m_k400",
        "ipcsn_ig65m_pretrained_r152_32x2x1_58e_kinetics400_rgb_20210617-c3be9793",
        ("IG-65M",),
    ),
    _ported(
        "ipcsn_r152",
        "sports1m_k400",
        "ipcsn_sports1m_pretrained_r152_32x2x1_58e_kinetics400_rgb_20210617-3367437a",
        ("Sports-1M",),
    ),
    _slow(
        "slow_r50",
        "mmaction_k400_4x16",
        "slowonly_r50_8xb16-4x16x1-256e_kinetics400-rgb",
        "slowonly_r50_4x16x1_256e_8xb16_kinetics400-rgb_20220901-f6a40d08",
        4,
        (_K400,),
    ),
    _slow(
        "slow_r50",
        "mmaction_k400_8x8",
        "slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb",
        "slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb_20220901-2132fc87",
        8,
        (_K400,),
    ),
    _slow(
        "slow_r101",
        "mmaction_k400_8x8",
        "slowonly_r101_8xb16-8x8x1-196e_kinetics400-rgb",
        "slowonly_r101_8xb16-8x8x1-196e_kinetics400-rgb_20220901-e6281431",
        8,
        (_K400,),
    ),
    _slow(
        "slow_r50",
        "mmaction_in1k_k400_4x16",
        f"{_PRETRAINED}_8xb16-4x16x1-{_STEPS}_kinetics400-rgb",
        f"{_PRETRAINED}_8xb16-4x16x1-{_STEPS}_kinetics400-rgb_20220901-e7b65fad",
        4,
        ("ImageNet-1k", _K400),
    ),
    _slow(
        "slow_r50",
        "mmaction_in1k_k400_8x8",
        f"{_PRETRAINED}_8xb16-8x8x1-{_STEPS}_kinetics400-rgb",
        f"{_PRETRAINED}_8xb16-8x8x1-{_STEPS}_kinetics400-rgb_20220901-df42dc84",
        8,
        ("ImageNet-1k", _K400),
    ),
    _slow(
        "slow_r50",
        "mmaction_in1k_k700_4x16",
        f"{_PRETRAINED}_8xb16-4x16x1-{_STEPS}_kinetics700-rgb",
        f"{_PRETRAINED}_16xb16-4x16x1-{_STEPS}_kinetics700-rgb_20220901-f73b3e89",
        4,
        ("ImageNet-1k", "Kinetics-700"),
        700,
    ),
    _slow(
        "slow_r50",
        "mmaction_in1k_k700_8x8",
        f"{_PRETRAINED}_8xb16-8x8x1-{_STEPS}_kinetics700-rgb",
        f"{_PRETRAINED}_16xb16-8x8x1-{_STEPS}_kinetics700-rgb_20220901-4098e1eb",
        8,
        ("ImageNet-1k", "Kinetics-700"),
        700,
    ),
    _slow(
        "slow_r50",
        "mmaction_in1k_k710_8x8",
        f"{_PRETRAINED}_32xb8-8x8x1-{_STEPS}_kinetics710-rgb",
        f"{_PRETRAINED}_32xb8-8x8x1-{_STEPS}_kinetics710-rgb_20230612-12ce977c",
        8,
        ("ImageNet-1k", "Kinetics-710"),
        710,
    ),
)
