"""A fault of PyTorch on a processor: in bf16, wrong weight gradients for maps of depth 2."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from voxgraft.errors import RecipeError
from voxgraft.models import Network, SegmentationNetwork
from voxgraft.training.batchnorm import pooled_features


def refuse_wrong_gradients(
    network: Network | SegmentationNetwork,
    image_shape: Sequence[int],
    *,
    encoder_trains: bool,
    channels_last: bool,
) -> None:
    """Refuse a training in bf16 on a processor whose gradients would be wrong.

    A convolution with kernels of depth 3 whose input and output have a depth of 2 gets a weight
    gradient of which a part is what the memory held before (seen with PyTorch 2.14 and oneDNN on
    x86-64; in float32 and at other depths never, nor in groups unless ``channels_last``).

    Args:
        network: On the processor; it sees one empty image, and stays as it is.
        image_shape: (channels, depth, height, width) of an image.
        encoder_trains: Whether the encoder's weights have a gradient.
        channels_last: Whether the network lies in memory so.

    Raises:
        RecipeError: If a convolution is one of these; they are named.
    """
    found = [
        name
        for name in flat_convolutions(network, image_shape, grouped=channels_last)
        if encoder_trains or not name.startswith("encoder.")
    ]
    if found:
        shown = ", ".join(found[:3]) + (" and others" if len(found) > 3 else "")
        raise RecipeError(
            f"optimization.precision is 'bf16' on a CPU, and {len(found)} convolutions see maps of "
            f"depth 2 ({shown}): there PyTorch gives wrong gradients in bf16. Set precision to "
            "'no', train on a GPU, or choose another depth of the crops."
        )


def flat_convolutions(
    network: Network | SegmentationNetwork, image_shape: Sequence[int], *, grouped: bool = True
) -> list[str]:
    """Return the names of 3D convolutions with deep kernels from maps of depth 2 to such maps.

    Args:
        network: It sees one empty image in evaluation mode, and stays as it is.
        image_shape: (channels, depth, height, width) of an image.
        grouped: Whether convolutions in groups are asked for, too.
    """
    found: dict[str, None] = {}
    modes = [(module, module.training) for module in network.modules()]
    with ExitStack() as stack, torch.no_grad():
        for name, layer in network.named_modules():
            deep = isinstance(layer, nn.Conv3d) and layer.kernel_size[0] > 1
            if deep and (grouped or layer.groups == 1):

                def note(_: object, given: tuple[Tensor, ...], out: Tensor, at: str = name) -> None:
                    if given[0].shape[-3] == 2 == out.shape[-3]:
                        found[at] = None

                stack.callback(layer.register_forward_hook(note).remove)
        like = next(network.parameters())
        network.eval()
        try:
            pooled_features(network)(like.new_zeros((1, *image_shape)))
        finally:
            for module, training in modes:
                module.training = training
    return list(found)
