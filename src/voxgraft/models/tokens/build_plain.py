"""Builds the 3D twins of timm's plain vision transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.models.eva import Eva

from voxgraft.errors import ModelError
from voxgraft.models.declaration import Declaration, Native, Positions
from voxgraft.models.initialization import seeded
from voxgraft.models.tokens.plain import ViT3D
from voxgraft.models.tokens.timm_network import PLAIN, build_image_network
from voxgraft.models.twin import check_options, preferred_size
from voxgraft.types import Size3

PLAIN_OPTIONS = frozenset(
    {
        "balance_prefix",
        "depth_embed",
        "drop_path",
        "input_size",
        "patch_depth",
        "patch_size",
        "seed",
    }
)
"""Options of the 3D twins of plain vision transformers."""

PLANES = 8
"""Planes of tokens for which a twin has positions, unless ``input_size`` says otherwise."""


def build_vit(
    architecture: str,
    *,
    in_channels: int = 1,
    patch_size: int | None = None,
    patch_depth: int | None = None,
    input_size: Sequence[int] | None = None,
    balance_prefix: bool = True,
    depth_embed: bool = False,
    drop_path: float = 0.0,
    seed: int | None = None,
    timm_options: dict[str, Any] | None = None,
) -> ViT3D:
    """Build the 3D twin of one of timm's plain vision transformers.

    Args:
        architecture: timm's name of the 2D network.
        in_channels: Channels of the volumes.
        patch_size: Height and width of a patch in voxels; by default the 2D network's.
        patch_depth: Depth of a patch in voxels; by default that of ``patch_size``.
        input_size: Size in voxels (depth, height, width) whose grid of tokens the learned table
            of positions has; other inputs get interpolated positions. By default the plane that
            the 2D network was made for, eight patches deep.
        balance_prefix: Let class and register tokens count once for each plane of patches, so
            that equal planes attend as one image does.
        depth_embed: Add a learned table of depth alone, zero at first; for networks with rotary
            positions only, which do not see depth otherwise.
        drop_path: Probability of stochastic depth in the deepest block.
        seed: Seed of the random weights; None draws from PyTorch's global generator.
        timm_options: Options of timm's for the 2D network; the result is then a twin of no
            network of timm's by name.

    Raises:
        ModelError: If timm has no such network, it has no 3D rule, or an option is impossible.
    """
    check_options(in_channels, drop_path)
    options: dict[str, Any] = dict(timm_options or {})
    if drop_path > 0:
        options["drop_path_rate"] = drop_path
    with seeded(seed):
        network = build_image_network(architecture, in_channels, **options)
        if type(network) not in PLAIN:
            raise ModelError(f"{architecture} is no plain vision transformer.")
        embed = network.patch_embed
        height, width = (
            whole_voxels("patch_size", patch_size, int(size)) for size in embed.patch_size
        )
        depth = whole_voxels("patch_depth", patch_depth, max(height, width))
        patch = (depth, height, width)
        rows, columns = embed.img_size
        grid = table_grid(input_size, patch, (PLANES * depth, int(rows), int(columns)))
        if depth_embed and network.pos_embed is not None:
            raise ModelError(
                f"depth_embed is True, but {architecture} has a learned table of positions, which "
                "learns depth as well. Leave it out."
            )
        declaration = declare(
            network,
            patch,
            grid,
            twin_of=None if timm_options else architecture,
            depth_embed=depth_embed,
        )
        return ViT3D(
            network,
            declaration,
            in_channels=in_channels,
            patch=patch,
            grid=grid,
            balance_prefix=balance_prefix,
            depth_embed=depth_embed,
        )


def declare(
    network: Any,
    patch: Size3,
    grid: Size3,
    *,
    family: str | None = None,
    twin_of: str | None = None,
    native: Native = "image",
    reference: str | None = None,
    depth_embed: bool = False,
) -> Declaration:
    """Say what a twin of a plain vision transformer is.

    Args:
        network: timm's network.
        patch: Size of a patch in voxels.
        grid: Grid of the table of positions.
        family: Name of the family; by default "vit" or "eva".
        twin_of: timm's name of the 2D network, or None.
        native: What the published weights were trained on.
        reference: The public implementation, where it is no twin.
        depth_embed: Whether it has a table of depth alone.
    """
    width = int(network.embed_dim)
    table = Positions(
        name="pos_embed",
        kind="absolute",
        grid=grid,
        prefix=0 if network.no_embed_class else int(network.num_prefix_tokens),
    )
    return Declaration(
        family=family or ("eva" if isinstance(network, Eva) else "vit"),
        stem="patch_embed.proj.weight",
        head=str(getattr(network, "pretrained_cfg", {}).get("classifier") or "head"),
        feature_channels=(width,) * min(4, len(network.blocks)),
        strides=(patch,) * min(4, len(network.blocks)),
        num_features=int(network.head_hidden_size),
        min_size=(1, 1, 1),
        preferred_size=preferred_size(patch),
        twin_of=twin_of,
        native=native,
        reference=reference,
        positions=() if network.pos_embed is None else (table,),
        additions=("depth_embed",) if depth_embed else (),
    )


def whole_voxels(option: str, value: int | None, usual: int) -> int:
    """Return the size of a patch along an axis, as asked for or as usual.

    Raises:
        ModelError: If it is no positive whole number.
    """
    if value is None:
        return usual
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError(
            f"{option} is {value!r}; expected a whole number of voxels of at least 1. Leave it "
            "out for that of the 2D network."
        )
    return value


def table_grid(given: Sequence[int] | None, patch: Size3, usual: Size3) -> Size3:
    """Return the grid of tokens of an input, as asked for or as usual, in voxels.

    Raises:
        ModelError: If the size is not three positive whole numbers.
    """
    size = tuple(usual if given is None else given)
    if len(size) != 3 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in size):
        raise ModelError(
            f"input_size is {given!r}; expected three whole numbers of voxels (depth, height, "
            "width), such as (96, 96, 96)."
        )
    depth, height, width = (-(-n // step) for n, step in zip(size, patch, strict=True))
    return depth, height, width
