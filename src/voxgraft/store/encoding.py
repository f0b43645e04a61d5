"""How a float volume becomes the numbers that are stored, and comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from voxgraft.errors import StoreError
from voxgraft.types import Json

_LEVELS = {"uint8": 255, "uint16": 65535}
_INTEGERS = (*_LEVELS, "uint32")

MAX_FLOAT16_ERROR = 1e-3
"""Largest error of float16 storage, as a fraction of the volume's range, that is accepted."""

_LARGEST_FLOAT16 = 65504.0
_FLOAT16_ROUNDING = 2.0**-11
_FLOAT16_SMALLEST = 2.0**-25
"""Half the last bit of a float16, relative to the number, and among those next to zero."""


@dataclass(frozen=True)
class Encoding:
    """Stored numbers ``q`` mean ``offset + scale * q``."""

    dtype: str
    scale: float = 1.0
    offset: float = 0.0

    @classmethod
    def of(cls, voxels: Float[np.ndarray, "c d h w"], dtype: str) -> Encoding:
        """Choose the encoding of a volume.

        Whole numbers that fit an integer dtype are kept exactly; else the volume's range is
        divided into the dtype's steps.

        Raises:
            StoreError: If float16 would overflow or blur the values.
        """
        low, high = float(voxels.min()), float(voxels.max())
        if dtype == "float16":
            _check_float16(voxels, low, high)
        if dtype not in _LEVELS:
            return cls(dtype)
        levels = _LEVELS[dtype]
        if high == low or (
            high - low <= levels and all(bool((part == np.rint(part)).all()) for part in voxels)
        ):
            return cls(dtype, 1.0, low)
        return cls(dtype, (high - low) / levels, low)

    def encode(self, voxels: Shaped[np.ndarray, "*size"]) -> Shaped[np.ndarray, "*size"]:
        """Return the numbers to store; integers of the stored dtype are those already."""
        if self.dtype in _INTEGERS and voxels.dtype == self.dtype:
            return voxels
        if self.dtype not in _LEVELS:
            return voxels.astype(self.dtype)
        steps = np.rint((voxels.astype(np.float64) - self.offset) / self.scale)
        return np.clip(steps, 0, _LEVELS[self.dtype]).astype(self.dtype)

    def decode_into(self, stored: Any, out: Any) -> None:
        """Write the meaning of stored numbers into a float32 array of the same shape."""
        np.copyto(out, stored, casting="unsafe")
        if self.scale != 1.0:
            out *= np.float32(self.scale)
        if self.offset != 0.0:
            out += np.float32(self.offset)

    def decode(self, stored: Shaped[np.ndarray, "*size"]) -> Float[np.ndarray, "*size"]:
        """Return the meaning of stored numbers, as float32."""
        out = np.empty(stored.shape, dtype=np.float32)
        self.decode_into(stored, out)
        return out

    def rounded(self, value: float) -> float:
        """Return a value as it comes back from the store, if it can be stored at all."""
        if self.dtype in _LEVELS:
            levels = _LEVELS[self.dtype]
            if not self.offset <= value <= self.offset + self.scale * levels:
                return value
        with np.errstate(over="ignore"):
            back = float(self.decode(self.encode(np.array([value], dtype=np.float32)))[0])
        return back if np.isfinite(back) else value

    def to_dict(self) -> Json:
        """Return it as JSON."""
        return {"dtype": self.dtype, "scale": self.scale, "offset": self.offset}

    @classmethod
    def from_dict(cls, value: Json) -> Encoding:
        """Read what :meth:`to_dict` returned."""
        return cls(value["dtype"], value["scale"], value["offset"])


def _check_float16(voxels: Float[np.ndarray, "c d h w"], low: float, high: float) -> None:
    largest = max(abs(low), abs(high))
    if largest <= _LARGEST_FLOAT16 and (
        largest * _FLOAT16_ROUNDING + _FLOAT16_SMALLEST <= MAX_FLOAT16_ERROR * (high - low)
    ):
        return  # no value can be changed by more: none needs to be looked at
    worst = 0.0
    for channel in voxels:
        for plane in channel:
            with np.errstate(over="ignore"):
                back = plane.astype(np.float16).astype(np.float32)
            worst = max(worst, float(np.abs(back - plane).max()))
    # One constant value needs to come back to a thousandth of itself.
    extent = high - low if high > low else abs(high)
    if not worst <= MAX_FLOAT16_ERROR * extent:
        raise StoreError(
            f"float16 storage would change values by up to {worst:g}; they run from {low:g} to "
            f"{high:g}, and at most {MAX_FLOAT16_ERROR:g} of that range is accepted. Set "
            "storage: float32 (or uint16) in the preprocessing, or normalize the intensity."
        )
