"""The lists of an nnU-Net's plan that say what its encoder is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from voxgraft.errors import ModelError, raise_faults
from voxgraft.types import Size3

_MOST = 4096
"""Largest entry of a list: beyond it lies a slip, which would ask for memory without end."""


@dataclass(frozen=True, kw_only=True)
class NnUNetPlan:
    """An encoder in four lists of one entry a stage, as ``plans.json`` has them."""

    features: tuple[int, ...]
    """Channels."""
    blocks: tuple[int, ...]
    """Convolutions, or residual blocks."""
    kernels: tuple[Size3, ...]
    """(depth, height, width), odd."""
    strides: tuple[Size3, ...]
    """At the start of the stage, (depth, height, width)."""

    def changed(
        self, *, features: object, blocks: object, kernels: object, strides: object
    ) -> NnUNetPlan:
        """Return the plan with other lists where they are given.

        Raises:
            ModelError: If a list is none, has an impossible entry, or not one entry a stage; all
                faults are named.
        """
        given = {"features": features, "blocks": blocks, "kernels": kernels, "strides": strides}
        faults: list[str] = []
        lists: dict[str, tuple[object, ...]] = {}
        for name, value in given.items():
            if value is None:
                lists[name] = getattr(self, name)
            else:
                lists[name] = _list(name, value, faults)
        stages = len(lists["features"])
        for name, entries in lists.items():
            if not faults and len(entries) != stages:
                faults.append(
                    f"{name} has {len(entries)} entries, but features has {stages}: one a stage"
                )
        if faults:
            raise_faults(
                ModelError,
                "this is no plan of an nnU-Net",
                faults,
                "Give the lists as the plans.json beside the checkpoint has them.",
            )
        return NnUNetPlan(
            features=cast(tuple[int, ...], lists["features"]),
            blocks=cast(tuple[int, ...], lists["blocks"]),
            kernels=cast(tuple[Size3, ...], lists["kernels"]),
            strides=cast(tuple[Size3, ...], lists["strides"]),
        )


def _list(name: str, value: object, faults: list[str]) -> tuple[object, ...]:
    if not _is_list(value) or not value:
        faults.append(f"{name} is {value!r}, expected a list with an entry for each stage")
        return ()
    entries: list[object] = []
    for stage, entry in enumerate(cast(Sequence[object], value)):
        if name in ("features", "blocks"):
            fits = _is_count(entry)
            expected = f"a whole number from 1 to {_MOST}"
        else:
            if _is_list(entry):
                entry = tuple(cast(Sequence[object], entry))
            odd = name == "kernels"
            fits = (
                isinstance(entry, tuple)
                and len(entry) == 3
                and all(_is_count(size) and (not odd or cast(int, size) % 2) for size in entry)
            )
            kind = "odd whole numbers" if odd else "whole numbers"
            expected = f"three {kind} from 1 to {_MOST}, (depth, height, width)"
        if not fits:
            faults.append(f"{name}[{stage}] is {entry!r}, expected {expected}")
        entries.append(entry)
    return tuple(entries)


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST


def isotropic(features: tuple[int, ...], blocks: tuple[int, ...]) -> NnUNetPlan:
    """Return the plan for voxels of equal edges: kernels of 3, halving from stage to stage."""
    halving: list[Size3] = [(2, 2, 2)] * (len(features) - 1)
    return NnUNetPlan(
        features=features,
        blocks=blocks,
        kernels=((3, 3, 3),) * len(features),
        strides=((1, 1, 1), *halving),
    )


PLAIN_6 = isotropic((32, 64, 128, 256, 320, 320), (2,) * 6)
"""nnU-Net's usual plan: patches of 128 voxels at one spacing."""

PLAIN_5 = isotropic((32, 64, 128, 256, 320), (2,) * 5)
"""The same for patches of about 112 voxels, as TotalSegmentator has at 3 mm."""

RESIDUAL_6 = isotropic((32, 64, 128, 256, 320, 320), (1, 3, 4, 6, 6, 6))
"""ResEnc: M, L and XL are this network, on patches of different sizes."""
