"""The option ``input_size``: a volume whose grid of tokens tables of positions have."""

from __future__ import annotations

from collections.abc import Sequence

from voxgraft.errors import ModelError
from voxgraft.types import Size3


def check_input_size(input_size: Sequence[int], least: Size3) -> Size3:
    """Return an ``input_size`` that is one.

    Args:
        input_size: What was given: (depth, height, width) in voxels.
        least: The smallest that makes sense.

    Raises:
        ModelError: If it is no three whole numbers of at least ``least``.
    """
    size = tuple(input_size) if isinstance(input_size, list | tuple) else ()
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in size)
    if len(size) != 3 or not whole or any(n < m for n, m in zip(size, least, strict=True)):
        raise ModelError(
            f"input_size is {input_size!r}; expected three whole numbers (depth, height, width), "
            f"at least {least}."
        )
    return size[0], size[1], size[2]
