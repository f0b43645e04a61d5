"""A 2D network on the slices of a volume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from timm.models import model_entrypoint
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from voxgraft.errors import ModelError
from voxgraft.models.declaration import Declaration
from voxgraft.models.depth import check_choice
from voxgraft.models.encoder import Encoder
from voxgraft.models.initialization import seeded
from voxgraft.models.slicewise.join import make_join
from voxgraft.models.slicewise.planar import Planar, build_planar, describe_planar
from voxgraft.models.slicewise.slices import PLANES, Plane, lay_back, merge_planes, take_slices
from voxgraft.models.twin import check_options, preferred_size
from voxgraft.types import Size3

SLICEWISE_OPTIONS = frozenset(
    {
        "planes",
        "neighbors",
        "join",
        "join_channels",
        "slice_stride",
        "drop_path",
        "pixels_at_once",
        "seed",
    }
)
"""Options of every 2D network on slices."""


@dataclass(frozen=True)
class Slices:
    """What the 2D network gives for the slices of one plane."""

    plane: Plane
    maps: Float[Tensor, "b n f u v"]
    vectors: Float[Tensor, "b n g"]


class SlicewiseEncoder(Encoder):
    """timm's 2D network on each slice of a volume, unchanged, and a module that joins the slices.

    Its tensors lie under ``network.`` with timm's names and shapes; those of the joining module
    under ``join.``. ``forward`` joins the vectors that the 2D network has for the slices (those
    that its classifier takes), plane by plane, and returns the mean over the planes.
    ``forward_features`` lays the slices' feature maps back into a volume; of three planes, it
    returns the mean of the three on the grid that is coarse along every axis.

    Slices run through the network in portions of at most ``pixels_at_once`` pixels, which bounds
    the memory where no gradients are kept. Only where batch normalization in it trains, which has
    statistics of all slices of the batch, do all run at once. Otherwise a volume's features do not
    depend on what else is in the batch, unless the join is ``"lrcn"`` and trains.
    """

    def __init__(
        self,
        declaration: Declaration,
        network: nn.Module,
        planar: Planar,
        join: nn.Module,
        *,
        in_channels: int,
        planes: tuple[Plane, ...],
        neighbors: int,
        slice_stride: int,
        pixels_at_once: int,
    ) -> None:
        """Put a 2D network to the slices, see :func:`build_slicewise`."""
        super().__init__(declaration, in_channels=in_channels)
        self.planar = planar
        self.planes = planes
        self.neighbors = neighbors
        self.slice_stride = slice_stride
        self.pixels_at_once = pixels_at_once
        self.network = network
        self.join = join

    def take_slices(self, x: Float[Tensor, "b c d h w"], plane: Plane) -> Tensor:
        """Return the images that the 2D network is given, ``(b, n, k, u, v)``."""
        return take_slices(x, plane, step=self.slice_stride, neighbors=self.neighbors)

    def forward_slices(self, x: Float[Tensor, "b c d h w"]) -> list[Slices]:
        """Return feature maps and vector of every slice, a plane an item.

        Raises:
            ModelError: As ``forward_features``.
        """
        self.check_input(x)
        found = []
        for plane in self.planes:
            images = self.take_slices(x, plane)
            maps, vectors = self._in_portions(images, self._maps)
            found.append(Slices(plane, maps, vectors))
        return found

    def forward_features(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f e i j"]:
        """Return the final feature maps of the slices, as a volume.

        Raises:
            ModelError: If ``x`` does not have five axes, the encoder's channels and at least its
                minimal size; or, in training, if there is one value a channel to normalize.
        """
        return merge_planes([lay_back(s.maps, s.plane) for s in self.forward_slices(x)])

    def forward_stages(self, x: Float[Tensor, "b c d h w"]) -> list[Tensor]:
        """Return the feature maps of each stage, as volumes, shallowest first.

        Of a plain vision transformer these are the maps, normalized, after each quarter of its
        blocks, which all have the same grid.

        Raises:
            ModelError: As ``forward_features``.
        """
        self.check_input(x)
        planes = []
        for plane in self.planes:
            stages = self._in_portions(self.take_slices(x, plane), self._stages)
            planes.append([lay_back(maps, plane) for maps in stages])
        return [merge_planes(list(stage)) for stage in zip(*planes, strict=True)]

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b n"]:
        """Return the joined vectors of the slices, which a classifier takes.

        Raises:
            ModelError: As ``forward_features``; or, in training, if the join is ``"lrcn"`` and the
                batch has one volume.
        """
        joined = [
            self.run_block("join", self.join, slices.vectors) for slices in self.forward_slices(x)
        ]
        return joined[0] if len(joined) == 1 else torch.stack(joined).mean(0)

    @property
    def slice_channels(self) -> int:
        """Channels of the images that the 2D network is given."""
        return self.in_channels * (2 * self.neighbors + 1)

    def build_reference(self, channels: int | None = None) -> PlanarReference:
        """Build timm's 2D network alone, for a parity check; by default for the slices' channels.

        Its tensors have this encoder's names.
        """
        given = self.slice_channels if channels is None else channels
        return PlanarReference(self.planar, build_planar(self.planar.architecture, given)).eval()

    def _maps(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.planar.maps(self.network, images, self.run_block)

    def _stages(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.planar.stage_maps(self.network, images, self.run_block))

    def _in_portions(
        self, images: Tensor, run: Callable[[Tensor], tuple[Tensor, ...]]
    ) -> list[Tensor]:
        """Run the 2D network on all slices; each result gets the axes of volume and slice back."""
        volumes, slices = images.shape[:2]
        flat = images.flatten(0, 1)
        portion = max(1, self.pixels_at_once // (flat.shape[2] * flat.shape[3]))
        # A frozen network, and one whose norms were exchanged, has no statistics of the batch.
        if any(isinstance(m, _BatchNorm) and m.training for m in self.network.modules()):
            portion = len(flat)
        results = [run(part) for part in torch.split(flat, portion)]
        whole = [
            torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*results, strict=True)
        ]
        return [result.unflatten(0, (volumes, slices)) for result in whole]


class PlanarReference(nn.Module):
    """timm's 2D network alone, whose features are maps ``(b, f, u, v)`` whatever its kind."""

    def __init__(self, planar: Planar, network: nn.Module) -> None:
        """Adopt the network."""
        super().__init__()
        self._planar = planar
        self.network = network

    def forward(self, images: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor]:
        """Return maps and vectors by timm's own functions."""
        return self._planar.by_timm(self.network, images)


def build_slicewise(
    architecture: str,
    *,
    in_channels: int = 1,
    planes: str = "axial",
    neighbors: int = 0,
    join: str = "mean",
    join_channels: int | None = None,
    slice_stride: int = 1,
    drop_path: float = 0.0,
    pixels_at_once: int = 4_194_304,
    seed: int | None = None,
) -> SlicewiseEncoder:
    """Build an encoder that applies a 2D network of timm to the slices of volumes.

    Args:
        architecture: timm's name of the 2D network, convolutional or transformer.
        in_channels: Channels of the volumes.
        planes: ``"axial"``, or ``"all"``: axial, coronal and sagittal slices, by the same network.
        neighbors: Slices on either side that each slice gets as further channels (2.5D): with 1
            and one channel, three channels, as an RGB network has them.
        join: How the vectors of a plane's slices become one: ``"mean"``, ``"max"``,
            ``"attention"`` (gated attention, arXiv:1802.04712), ``"gru"`` (recurrent in both
            directions, then the mean), ``"lrcn"`` (the same on vectors with their differences to
            both neighbors, then batch normalization: :class:`~.join.LrcnJoin`).
        join_channels: Channels within a join that learns: hidden ones of ``"attention"`` (by
            default 128), those of each direction of ``"gru"`` (half of the vector's) and
            ``"lrcn"`` (256).
        slice_stride: Every how many slices one is taken.
        drop_path: Probability of stochastic depth in the 2D network's deepest block.
        pixels_at_once: Pixels of the slices that run through the network at a time: with the
            default, 16 slices of 512 x 512.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If timm has no such network, it takes images of its own size alone, or an
            option is impossible.
    """
    check_options(in_channels, drop_path)
    check_choice("planes", planes, ("axial", "all"))
    for option, value, least in (
        ("neighbors", neighbors, 0),
        ("slice_stride", slice_stride, 1),
        ("pixels_at_once", pixels_at_once, 1),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ModelError(f"{option} is {value!r}; expected a whole number of at least {least}.")
    chosen: tuple[Plane, ...] = PLANES if planes == "all" else ("axial",)
    with seeded(seed):
        network = build_planar(architecture, in_channels * (2 * neighbors + 1), drop_path)
        planar = describe_planar(network, architecture)
        joining, length = make_join(join, planar.num_features, join_channels)
    return SlicewiseEncoder(
        _declare(planar, chosen, slice_stride, length),
        network,
        planar,
        joining,
        in_channels=in_channels,
        planes=chosen,
        neighbors=neighbors,
        slice_stride=slice_stride,
        pixels_at_once=pixels_at_once,
    )


def _declare(
    planar: Planar, planes: tuple[Plane, ...], slice_stride: int, length: int
) -> Declaration:
    cubic = len(planes) > 1
    strides: tuple[Size3, ...] = tuple(
        (step if cubic else slice_stride, step, step) for step in planar.reductions
    )
    least = planar.min_size
    entry: Any = model_entrypoint(planar.architecture)
    return Declaration(
        family="slicewise",
        stem=f"network.{planar.stems[0]}",
        more_stems=tuple(f"network.{stem}" for stem in planar.stems[1:]),
        head=f"network.{planar.head}",
        feature_channels=planar.channels,
        strides=strides,
        num_features=length,
        min_size=(least if cubic else 1, least, least),
        preferred_size=preferred_size(strides[-1]),
        twin_of=None,
        slices_of=planar.architecture,
        with_head=("join.",),
        reference=f"{entry.__module__}.{planar.architecture}",
        gradient_checkpointing=bool(planar.trunk) or not planar.batch_norm,
    )
