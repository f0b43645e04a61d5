"""Grad-CAM in volumes: which places of a network's feature map speak for an output."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.errors import InferenceError, ModelError
from voxgraft.inference.places import Axis, cell_axes, lay_out
from voxgraft.models import Encoder, Network
from voxgraft.models.slicewise import SlicewiseEncoder
from voxgraft.models.slicewise.slices import PLANES, Plane, slice_positions
from voxgraft.models.video.slowfast import SlowFast
from voxgraft.types import Size3

_REMEDY = "Explain it by occlusion: `--explain-method occlusion`, or method='occlusion' in Python."


@dataclass(frozen=True, eq=False)
class _Sight:
    """A vector with tensors on the way to it."""

    vector: Float[Tensor, "b n"]
    tensors: tuple[Tensor, ...]
    """Where a gradient is asked for; the first that has one is taken."""
    grid: Size3
    """Places of the tensors, in order."""
    channels: int


class GradCam:
    """Grad-CAM of one network on volumes (or windows) of one size.

    The map is the final feature map, from which the network pools its vector. Where the vector is
    a class token, which comes from no map, it is the patches' tokens as the last block reads them
    (after its first normalization). Of a 2D network on slices, each slice has a map of its own,
    and weights of its own.

    A place counts ``relu(sum over channels of weight × activation)``. The weight of a channel is
    the mean gradient over the map, times the number of its places: where a linear head follows a
    mean over the map, that is the head's weight, and the result is CAM (arXiv:1512.04150).

    Source: arXiv:1610.02391, equations 1 and 2.
    """

    def __init__(self, network: Network, size_voxels: Size3) -> None:
        """Find out where the network's maps look.

        Args:
            network: In evaluation mode.
            size_voxels: (depth, height, width) of what it will be shown.

        Raises:
            ModelError: If the network does not take volumes of that size.
        """
        self._network = network
        self._size = size_voxels
        self._axes: dict[str, tuple[Axis, ...]] = {}

    def heat(
        self,
        image: Float[Tensor, "c d h w"],
        direction: Float[Tensor, " n"],
        vector: Float[Tensor, " n"],
    ) -> Float[Tensor, "d h w"]:
        """Return how much each place speaks for a direction of the vector; not normalized.

        Args:
            image: What the network is shown.
            direction: Gradient of an output with respect to the vector.
            vector: What the network makes of the image.

        Raises:
            InferenceError: If the vector comes from no map that could be found.
            ModelError: If the network does not take such an image.
        """
        encoder = self._network.encoder
        with _frozen(self._network), torch.no_grad():
            x = self._network.prepare(image[None])
            if isinstance(encoder, SlicewiseEncoder):
                return self._of_slices(encoder, x, direction)
            features = encoder.forward_features(x)
            if not self._axes:
                self._axes["volume"] = cell_axes(
                    encoder,
                    encoder.forward_features,
                    channels=x.shape[1],
                    size=x.shape[2:],
                    cells=features.shape[2:],
                    strides=encoder.declaration.strides[-1],
                    smallest=encoder.declaration.min_size,
                )
            sight = _from_map(encoder, features) or _from_last_block(encoder, x, features)
            _check_vector(encoder, sight.vector[0], vector)
            values, gradients = _gradients(encoder, sight, direction[None])
            weights = gradients.sum((0, 1, 2))
            cells = (values * weights).sum(-1).relu()
            return lay_out(cells, self._size, self._axes["volume"])

    def _of_slices(self, encoder: SlicewiseEncoder, x: Tensor, direction: Tensor) -> Tensor:
        """Return the heat of a 2D network on slices: the mean over its planes."""
        planes = []
        for plane in encoder.planes:
            images = encoder.take_slices(x, plane)[0]
            portion = max(1, encoder.pixels_at_once // (images.shape[2] * images.shape[3]))
            parts = torch.split(images, portion)
            vectors = torch.cat([encoder.planar.maps(encoder.network, p, _run)[1] for p in parts])
            # The mean over planes divides by their number, and so does this.
            own = _through_join(encoder, vectors, direction) / len(encoder.planes)
            cells = []
            for part, wanted in zip(parts, torch.split(own, portion), strict=True):
                values, gradients = _gradients(encoder, _from_slices(encoder, part), wanted)
                weights = gradients.sum((1, 2), keepdim=True) * len(images)
                cells.append((values * weights).sum(-1).relu())
            whole = torch.cat(cells)
            if plane not in self._axes:
                self._axes[plane] = _plane_axes(encoder, plane, x, images, whole)
            axis = PLANES.index(plane)
            planes.append(lay_out(whole.movedim(0, axis), self._size, self._axes[plane]))
        return torch.stack(planes).sum(0)


def _run(name: str, block: Any, *inputs: Any) -> Any:
    return block(*inputs)


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Let no parameter ask for a gradient: a graph then begins at the map, not at the image."""
    asking = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


def _from_map(encoder: Encoder, features: Tensor) -> _Sight | None:
    """Pool the final map; None where the vector is no function of it."""
    leaf = features.detach().requires_grad_()
    depth, height, width = features.shape[2:]
    with torch.enable_grad():
        try:
            vector = encoder.pool(leaf.clone())  # pooling may change its input in place
        except (ModelError, NotImplementedError):
            return None
    return _Sight(vector, (leaf,), (depth, height, width), features.shape[1])


def _from_last_block(encoder: Encoder, x: Tensor, features: Tensor) -> _Sight:
    depth, height, width = features.shape[2:]
    blocks = dict(encoder.named_children()).get("blocks")
    with torch.enable_grad(), _last_block_read(blocks, encoder) as kept:
        vector = encoder(x)
    return _Sight(vector, tuple(kept), (depth, height, width), features.shape[1])


def _from_slices(encoder: SlicewiseEncoder, images: Tensor) -> _Sight:
    """Run the 2D network on some slices, with a graph from its final maps on."""
    planar, network = encoder.planar, encoder.network
    net: Any = network
    kept: list[Tensor] = []

    def run(name: str, block: Any, given: Tensor) -> Any:
        if name == "network":
            found = net.forward_features(given)
        elif name == planar.trunk[-1]:
            found = block(given)
        else:
            return block(given)
        kept.append(found.detach().requires_grad_())
        after = kept[-1].clone()
        return (after, net.forward_head(after, pre_logits=True)) if name == "network" else after

    with torch.enable_grad():
        maps, vectors = planar.maps(network, images, run)
    grid = (len(images), maps.shape[2], maps.shape[3])
    sight = _Sight(vectors, tuple(kept), grid, maps.shape[1])
    if kept[0].ndim != 3 or not _patches_unused(sight):
        return sight
    blocks = dict(network.named_children()).get("blocks")
    with torch.enable_grad(), _last_block_read(blocks, encoder) as tokens:
        _, vectors = planar.maps(network, images, _run)
    return _Sight(vectors, tuple(tokens), grid, maps.shape[1])


def _patches_unused(sight: _Sight) -> bool:
    """Return whether the vectors ignore the patches' tokens: they are class tokens then."""
    (gradient,) = torch.autograd.grad(
        sight.vector,
        sight.tensors,
        torch.ones_like(sight.vector),
        retain_graph=True,
        allow_unused=True,
    )
    return gradient is None or not bool(_by_place(gradient, sight).any())


@contextmanager
def _last_block_read(blocks: nn.Module | None, encoder: Encoder) -> Iterator[list[Tensor]]:
    """Keep what the last block reads: normalized first, then as it came."""
    if not isinstance(blocks, nn.Sequential | nn.ModuleList) or len(blocks) == 0:
        raise InferenceError(
            f"Grad-CAM needs a feature map that the vector comes from, and this "
            f"{encoder.declaration.family} network has none that is known. {_REMEDY}"
        )
    last = blocks[-1]
    kept: list[Tensor] = []

    def enter(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        kept[:] = [given[0].detach().requires_grad_()]
        return (kept[0], *given[1:])

    def leave(_: nn.Module, given: Any, found: Tensor) -> None:
        kept.insert(0, found)

    handles = [last.register_forward_pre_hook(enter)]
    norm = getattr(last, "norm1", None)
    if isinstance(norm, nn.Module):
        handles.append(norm.register_forward_hook(leave))
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _check_vector(encoder: Encoder, found: Tensor, vector: Tensor) -> None:
    if isinstance(encoder, SlowFast):  # the fast map is averaged in groups, the last one smaller
        return
    if not torch.allclose(found, vector, rtol=1e-3, atol=1e-4 * float(vector.abs().max() + 1)):
        raise InferenceError(
            f"Grad-CAM needs a feature map that the vector comes from; that of this "
            f"{encoder.declaration.family} network is no function of its final map. {_REMEDY}"
        )


def _gradients(encoder: Encoder, sight: _Sight, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return a map's values and the gradients there, both (i, j, k, channels).

    Raises:
        InferenceError: If the vector depends on none of the tensors.
    """
    found = torch.autograd.grad(
        sight.vector, sight.tensors, directions, retain_graph=True, allow_unused=True
    )
    known = [
        (_by_place(tensor.detach(), sight), _by_place(gradient, sight))
        for tensor, gradient in zip(sight.tensors, found, strict=True)
        if gradient is not None
    ]
    if not known:
        raise InferenceError(
            f"Grad-CAM finds no gradient at the feature map of this {encoder.declaration.family} "
            f"network: what it predicts does not come from there. {_REMEDY}"
        )
    return next(((values, slopes) for values, slopes in known if slopes.any()), known[0])


def _by_place(tensor: Tensor, sight: _Sight) -> Float[Tensor, "i j k c"]:
    """Lay a map or tokens out by place: channels last, tokens of no patch left out."""
    if tensor.ndim == 5:
        return tensor[0].movedim(0, -1)
    if tensor.ndim == 4:
        last = tuple(tensor.shape[1:3]) == sight.grid[1:] and tensor.shape[3] == sight.channels
        return tensor if last else tensor.movedim(1, -1)
    patches = math.prod(sight.grid) // len(tensor)
    return tensor[:, -patches:].reshape(*sight.grid, -1)


def _through_join(encoder: SlicewiseEncoder, vectors: Tensor, direction: Tensor) -> Tensor:
    """Return the gradient at each slice's vector."""
    leaf = vectors.detach()[None].requires_grad_()
    with torch.enable_grad():
        joined = encoder.join(leaf)
        (gradient,) = torch.autograd.grad(joined, leaf, direction[None])
    return gradient[0]


def _plane_axes(
    encoder: SlicewiseEncoder, plane: Plane, x: Tensor, images: Tensor, cells: Tensor
) -> tuple[Axis, ...]:
    """Return where the cells of a plane's slices look, in the volume's order of axes."""
    planar, network = encoder.planar, encoder.network
    step = planar.reductions[-1]
    within = cell_axes(
        network,
        lambda probe: planar.maps(network, probe, _run)[0],
        channels=images.shape[1],
        size=images.shape[2:],
        cells=cells.shape[1:],
        strides=(step, step),
        smallest=(planar.min_size, planar.min_size),
    )
    axis = PLANES.index(plane)
    taken: Sequence[int] = slice_positions(x.shape[2 + axis], encoder.slice_stride)
    axes = list(within)
    axes.insert(axis, Axis(float(taken[0]), float(encoder.slice_stride)))
    return tuple(axes)
