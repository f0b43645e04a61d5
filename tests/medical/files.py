"""The tensors of public files of medical networks, by the files' own names and shapes.

From other implementations where there is one (MONAI's ResNet, nnU-Net's own package), else from
what the published code builds.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from monai.networks.nets.resnet import ResNet, ResNetBlock, ResNetBottleneck, resnet50
from torch import Tensor, nn

from voxgraft.models import build_encoder
from voxgraft.weights import Source

State = dict[str, Tensor]

_RESNETS = {
    10: (ResNetBlock, [1, 1, 1, 1], "B"),
    18: (ResNetBlock, [2, 2, 2, 2], "A"),
    34: (ResNetBlock, [3, 4, 6, 3], "A"),
    50: (ResNetBottleneck, [3, 4, 6, 3], "B"),
    101: (ResNetBottleneck, [3, 4, 23, 3], "B"),
    152: (ResNetBottleneck, [3, 8, 36, 3], "B"),
    200: (ResNetBottleneck, [3, 24, 36, 3], "B"),
}


def medicalnet(layers: int) -> State:
    block, blocks, shortcut = _RESNETS[layers]
    network = ResNet(
        block, blocks, [64, 128, 256, 512], n_input_channels=1, conv1_t_stride=2,
        shortcut_type=shortcut, feed_forward=False, bias_downsample=False,
    )  # fmt: skip
    return {f"module.{name}": tensor for name, tensor in network.state_dict(keep_vars=True).items()}


def merlin(blocks: list[int], classes: int, *, with_text: bool) -> State:
    network = ResNet(
        ResNetBottleneck, blocks, [64, 128, 256, 512], n_input_channels=3,
        conv1_t_size=(3, 7, 7), conv1_t_stride=(1, 2, 2), feed_forward=False,
        bias_downsample=False,
    )  # fmt: skip
    network.classifier = nn.Conv3d(2048, classes, 1)
    network.contrastive_head = nn.Conv3d(2048, 512, 1)
    if not with_text:
        return network.state_dict(keep_vars=True)
    image = {
        f"encode_image.i3_resnet.{n}": t for n, t in network.state_dict(keep_vars=True).items()
    }
    return {
        "logit_scale": torch.ones(()),
        **image,
        "encode_text.text_encoder.embeddings.word_embeddings.weight": torch.ones(5, 4),
        "encode_text.linear_layer.weight": torch.ones(3, 4),
        "encode_text.linear_layer.bias": torch.ones(3),
    }


def fmcib() -> State:
    network = resnet50(n_input_channels=1, widen_factor=2, conv1_t_stride=2, feed_forward=False)
    return network.state_dict(keep_vars=True)


def penet(classes: int, *, old_names: bool) -> State:
    network = build_encoder("penet_3d", in_channels=3)
    network.classifier = nn.Sequential()
    network.classifier.add_module("fc", nn.Linear(2048, classes))
    old = ("penet_blocks", "xnet_blocks") if old_names else ("", "")
    return {
        f"module.{name.replace(*old)}": t for name, t in network.state_dict(keep_vars=True).items()
    }


def nnunet(
    kind: str, classes: int, features: tuple[int, ...], blocks: tuple[int, ...]
) -> nn.Module:
    stages = len(features)
    counts = (
        {"n_blocks_per_stage": blocks, "n_conv_per_stage_decoder": 1}
        if kind == "residual"
        else {"n_conv_per_stage": blocks, "n_conv_per_stage_decoder": 2}
    )
    made = ResidualEncoderUNet if kind == "residual" else PlainConvUNet
    network: nn.Module = made(
        1, stages, features, kernel_sizes=3, strides=[1, *[2] * (stages - 1)], num_classes=classes,
        conv_op=nn.Conv3d, conv_bias=True, norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True}, **counts,
    )  # fmt: skip
    return network


_RESENC = ("residual", 1, (32, 64, 128, 256, 320, 320), (1, 3, 4, 6, 6, 6))


def openmind(method: str) -> State:
    """As nnssl's trainers save them."""
    whole = nnunet(*_RESENC)
    if method in ("mae", "mg", "s3d", "vf"):
        return whole.state_dict(keep_vars=True)
    around = nn.Module()
    around.encoder = whole.encoder
    if method in ("voco", "simclr"):
        around.projector = nn.Module()
        for index, sizes in enumerate(((1280, 2048), (2048, 2048), (2048, 2048)), start=1):
            around.projector.add_module(f"layer{index}", nn.Sequential(nn.Linear(*sizes)))
    else:
        widths = [320, 320, 256, 128, 64, 32, 1]
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(pairwise(widths)):
            layers.append(nn.Conv3d(before, after, 3, padding=1))
            if index < 5:
                layers += [nn.InstanceNorm3d(after), nn.LeakyReLU(), nn.Upsample(scale_factor=2)]
        around.recon_proj_head = nn.Sequential(*layers)
        around.rotation_proj_head = nn.Linear(320, 4)
        around.contrast_proj_head = nn.Linear(320, 512)
    return around.state_dict(keep_vars=True)


_TOTALSEGMENTATOR = {291: 25, 292: 27, 293: 19, 294: 24, 295: 27, 297: 118, 299: 3}
"""Task and its classes, with background; of others, nobody says how many."""


def totalsegmentator(task: int) -> State:
    features = (32, 64, 128, 256, 320) if task == 297 else (32, 64, 128, 256, 320, 320)
    return nnunet(
        "plain", _TOTALSEGMENTATOR.get(task, 2), features, (2,) * len(features)
    ).state_dict(keep_vars=True)


def stunet(size: str) -> State:
    """The encoder's tensors are ours; the decoder mirrors them, with 105 classes."""
    encoder = build_encoder(f"stunet_{size}_3d").state_dict(keep_vars=True)
    widths = [encoder[f"conv_blocks_context.{stage}.0.conv1.weight"].shape[0] for stage in range(6)]
    blocks = sum(name.endswith("conv1.weight") for name in encoder) // 6
    decoder: State = {}

    def add(name: str, *shape: int) -> None:
        decoder[f"{name}.weight"] = torch.ones(shape)
        decoder[f"{name}.bias"] = torch.ones(shape[0])

    for index, (width, below) in enumerate(zip(widths[-2::-1], widths[:0:-1], strict=True)):
        add(f"upsample_layers.{index}.conv", width, below, 1, 1, 1)
        add(f"seg_outputs.{index}", 105, width, 1, 1, 1)
        for block in range(blocks):
            name = f"conv_blocks_localization.{index}.{block}"
            before = 2 * width if block == 0 else width
            add(f"{name}.conv1", width, before, 3, 3, 3)
            add(f"{name}.conv2", width, width, 3, 3, 3)
            add(f"{name}.norm1", width)
            add(f"{name}.norm2", width)
            if block == 0:
                add(f"{name}.conv3", width, before, 1, 1, 1)
    return {**encoder, **decoder}


def published(source: Source) -> State:
    """Return tensors of the names and shapes of a source's file."""
    family, _, tag = source.id.partition(".")
    if family.startswith("medicalnet"):
        return medicalnet(int(family.removeprefix("medicalnet_resnet")))
    if family == "merlin_resnet152":
        text = tag == "abdominal_ct"
        return merlin([3, 8, 36, 3], 1692 if text else 6, with_text=text)
    if family == "fmcib_resnet50":
        return fmcib()
    if family == "penet":
        return penet(600 if tag == "kinetics600" else 1, old_names=tag == "kinetics600")
    if family == "nnunet_resenc":
        return openmind(tag.removeprefix("openmind_"))
    if family == "nnunet":
        return totalsegmentator(int(tag.removeprefix("totalsegmentator_")))
    return stunet(family.removeprefix("stunet_"))


def distinct(state: Mapping[str, Tensor]) -> int:
    """Count the trainable values, those of tensors with two names once."""
    sizes = {
        id(tensor): tensor.numel()
        for name, tensor in state.items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }
    return sum(sizes.values())


def randomized(state: Mapping[str, Tensor]) -> State:
    """Values under which no layer is trivial, in memory of their own but for shared tensors."""
    generator = torch.Generator().manual_seed(1)
    drawn: dict[int, Tensor] = {}
    for name, tensor in state.items():
        if id(tensor) in drawn:
            continue
        values = tensor.detach().clone()
        if tensor.is_floating_point():
            scale = (2 / tensor[0].numel()) ** 0.5 if tensor.ndim > 1 else 0.1
            values = torch.randn(tensor.shape, generator=generator) * scale
            if tensor.ndim == 1 and name.endswith(("weight", "running_var")):
                values = 1 + values.abs()
        drawn[id(tensor)] = values
    return {name: drawn[id(tensor)] for name, tensor in state.items()}
