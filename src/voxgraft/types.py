"""Names for the axes and small shapes that every room uses.

Arrays and tensors are ``(batch, channels, depth, height, width)``. A triple of sizes or spacings
is always ``(depth, height, width)``; depth runs to superior, height to anterior, width to right
once a volume is in RAS+.
"""

from __future__ import annotations

from typing import Any

Size3 = tuple[int, int, int]
"""(depth, height, width), in voxels."""

Spacing3 = tuple[float, float, float]
"""(depth, height, width), in mm."""

PartialSize3 = tuple[int | None, int | None, int | None]
"""(depth, height, width), in voxels; None leaves an axis as it is."""

PartialSpacing3 = tuple[float | None, float | None, float | None]
"""(depth, height, width), in mm; None leaves an axis as it is."""

Json = dict[str, Any]
"""A JSON object."""
