"""What goes wrong in files: the exceptions that readers raise on broken bytes, in our words."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from voxgraft.errors import VolumeError

DAMAGE: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    AssertionError,
    UserWarning,
    RuntimeWarning,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)
"""What the parsers of nibabel, SimpleITK, pydicom and numpy raise on damaged files."""

_MAX_INFLATION = 1100
"""Deflate cannot shrink data more than about 1,030 times."""


class MissingScanError(VolumeError):
    """There is no file or folder at the path."""


class DimensionsError(VolumeError):
    """The scan is not one three-dimensional volume."""


class GeometryError(VolumeError):
    """Voxel size, orientation or slice positions make no sense."""


class VoxelValuesError(VolumeError):
    """Voxels are NaN or infinite."""


def damaged(path: Path, what: str, error: Exception) -> VolumeError:
    """Return the error for a file that its parser gave up on."""
    reason = " ".join(str(error).split())[-300:] or type(error).__name__
    return VolumeError(
        f"{path}: cannot be read as {what}: {reason}. The file is damaged, truncated or of another "
        "format: copy or export it again."
    )


@contextmanager
def no_bare_os_error(path: Path) -> Iterator[None]:
    """Turn what the system says of a file into an error that says what to do.

    Raises:
        VolumeError: For any OSError.
    """
    try:
        yield
    except OSError as error:
        raise VolumeError(
            f"{path}: cannot be opened: {error.strerror or error}. Check the path and its "
            "permissions."
        ) from error


def check_room(path: Path, needed_bytes: int, stored_bytes: int, packed: bool) -> None:
    """Refuse a header that promises more voxels than the file can hold.

    Raises:
        VolumeError: If ``needed_bytes`` cannot come out of ``stored_bytes``.
    """
    room = stored_bytes * _MAX_INFLATION if packed else stored_bytes
    if needed_bytes > room:
        raise VolumeError(
            f"{path}: truncated: its header promises {needed_bytes:,} bytes of voxels, the file "
            f"has {stored_bytes:,}{' compressed' if packed else ''}. Copy or export it again."
        )


def check_finite(voxels: Shaped[np.ndarray, "*shape"], path: Path) -> None:
    """Refuse NaN and infinite voxels.

    Raises:
        VoxelValuesError: If there are any; their number and the first place are named.
    """
    if voxels.dtype.kind != "f":
        return
    with np.errstate(all="ignore"):
        if np.isfinite(voxels.sum(dtype=np.float64)):
            return
    finite = np.isfinite(voxels)
    if finite.all():
        return
    first = np.unravel_index(int(np.argmin(finite)), voxels.shape)
    place = ", ".join(str(int(index)) for index in first)
    raise VoxelValuesError(
        f"{path}: {int((~finite).sum()):,} of {voxels.size:,} voxels are NaN or infinite, the "
        f"first at (channel, depth, height, width) = ({place}); expected finite numbers. Replace "
        "them (by the background's value, say) and save the scan again."
    )
