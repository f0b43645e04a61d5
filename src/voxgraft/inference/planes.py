"""The planes of a study that tell most of why it is scored as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from voxgraft.inference.explain import Explanation

PlaneName = Literal["axial", "coronal", "sagittal"]
ACROSS: tuple[PlaneName, ...] = ("axial", "coronal", "sagittal")
"""Plane across the first, second and third axis of a preprocessed study."""


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice of a preprocessed study, whole and at its own resolution, with its heat."""

    plane: PlaneName
    at: int
    """Position along the axis that it lies across."""
    image: Float[np.ndarray, "u v"]
    """float32, of the first channel."""
    heat: Float[np.ndarray, "u v"]


def telling_planes(
    found: Explanation, image: Float[np.ndarray, "c d h w"], most: int = 3
) -> tuple[Plane, ...]:
    """Choose the planes to show.

    Of a study seen through windows these are axial slices, see
    :meth:`~voxgraft.inference.explain.Explanation.telling_slices`; of a study seen whole, the three
    planes through its hottest voxel. A study without any heat is cut in its middle.

    Args:
        found: Its explanation.
        image: The preprocessed study.
        most: How many axial slices at most.
    """
    places: list[tuple[int, int]]
    if found.windowed:
        places = [(0, at) for at in found.telling_slices(most)]
    elif found.heat.max() > 0:
        hottest = np.unravel_index(int(found.heat.argmax()), found.heat.shape)
        places = [(axis, int(at)) for axis, at in enumerate(hottest)]
    else:
        places = [(axis, size // 2) for axis, size in enumerate(found.heat.shape)]
    return tuple(
        Plane(
            plane=ACROSS[axis],
            at=at,
            image=np.ascontiguousarray(image[0].take(at, axis=axis), dtype=np.float32),
            heat=np.ascontiguousarray(found.heat.take(at, axis=axis), dtype=np.float32),
        )
        for axis, at in places
    )
