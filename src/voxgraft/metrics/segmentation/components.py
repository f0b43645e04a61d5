"""Connected components of a mask."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Int, Shaped
from scipy import ndimage

from voxgraft.errors import MetricError

Connectivity = Literal[6, 18, 26]
"""Which neighbors join: by faces; by faces and edges; by corners too."""

_RANK = {6: 1, 18: 2, 26: 3}


def label_components(
    mask: Shaped[np.ndarray, "d h w"], connectivity: Connectivity
) -> tuple[Int[np.ndarray, "d h w"], Int[np.ndarray, " n"]]:
    """Number the components of a mask.

    Args:
        mask: What is not 0 is inside.
        connectivity: 6, 18 or 26.

    Returns:
        The component of each voxel, from 1 on, 0 outside; and the voxels of components 1 to n.

    Raises:
        MetricError: If the connectivity is another.
    """
    if connectivity not in get_args(Connectivity):
        raise MetricError(f"connectivity is {connectivity!r}; expected 6, 18 or 26.")
    structure = ndimage.generate_binary_structure(3, _RANK[connectivity])
    labels = np.zeros(mask.shape, np.int32)
    count = ndimage.label(mask, structure=structure, output=labels)
    return labels, np.bincount(labels.ravel(), minlength=int(count) + 1)[1:]


def largest_component(
    mask: Shaped[np.ndarray, "d h w"], connectivity: Connectivity
) -> Bool[np.ndarray, "d h w"]:
    """Return the component with most voxels (of several, the first); empty for an empty mask."""
    labels, voxels = label_components(mask, connectivity)
    if not len(voxels):
        return np.zeros(mask.shape, np.bool_)
    largest: Bool[np.ndarray, "d h w"] = labels == int(voxels.argmax()) + 1
    return largest
