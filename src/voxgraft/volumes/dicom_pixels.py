"""The pixels of DICOM slices: decoded, freed of what is no measurement, rescaled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from jaxtyping import Bool, Shaped
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, RLELossless

from voxgraft.errors import VolumeError, listed, raise_faults
from voxgraft.volumes.damage import check_finite, damaged
from voxgraft.volumes.dicom_files import DICOM_DAMAGE
from voxgraft.volumes.dicom_quiet import quiet
from voxgraft.volumes.dicom_slices import Slice, counted
from voxgraft.volumes.dicom_streams import check_stream
from voxgraft.volumes.dicom_values import is_empty


@dataclass(frozen=True)
class _Pixels:
    """Rescaled values of a slice, and where the scanner measured nothing."""

    values: Shaped[np.ndarray, "h w"]
    padded: Bool[np.ndarray, "h w"] | None


def check_decodable(folder: Path, slices: Sequence[Slice]) -> None:
    """Refuse slices whose compression cannot be undone here.

    Raises:
        VolumeError: With the transfer syntaxes and the files.
    """
    faults = []
    for syntax in sorted({item.syntax for item in slices}):
        reason = _undecodable(UID(syntax))
        if reason:
            names = [item.name for item in slices if item.syntax == syntax]
            faults.append(f"{UID(syntax).name} ({syntax}), {reason}: {listed(names)}")
    if faults:
        raise_faults(
            VolumeError,
            f"{folder}: slices are compressed in a way that cannot be undone here",
            faults,
            "Expected no compression, RLE, JPEG, JPEG-LS or JPEG 2000. Decompress the files first "
            "(gdcmconv --raw or dcmdjpeg do it), or convert the series to .nii.gz (dcm2niix).",
        )


def read_voxels(
    folder: Path, slices: Sequence[Slice]
) -> tuple[Shaped[np.ndarray, "d h w"], tuple[str, ...]]:
    """Decode and rescale slices, in the order given.

    In CT, pixels that hold PixelPaddingValue (outside the circle that was scanned; GE writes
    -2000) become the smallest value that was measured. Where padding has a value from amid the
    measured ones, it cannot be told from tissue and stays.

    Returns:
        Voxels of the smallest of int16, int32, float32 and float64 that holds them, and notes.

    Raises:
        VolumeError: If a file is damaged, or holds NaN.
    """
    pads = slices[0].modality == "CT"
    voxels, padding = _decode(slices, pads=pads)
    notes: tuple[str, ...] = ()
    if padding.count:
        if padding.apart:
            padding.fill(voxels)
            notes = (
                f"{counted(padding.count, 'voxel')} of PixelPaddingValue were set to the smallest "
                f"measured value, {padding.low:g}",
            )
        else:
            voxels, _ = _decode(slices, pads=False)
            notes = (
                "PixelPaddingValue lies amid the measured values: voxels that hold it are kept",
            )
    check_finite(voxels[None], folder)
    return voxels, notes


def same_values(one: Slice, other: Slice) -> bool:
    """Whether two slices have the same rescaled values.

    Raises:
        VolumeError: If a file is damaged.
    """
    first, second = (next(_pixels([item], pads=False)).values for item in (one, other))
    return np.array_equal(first, second)


class _Padding:
    """Where padding stands in a volume, a bit a voxel, and which values it has."""

    def __init__(self) -> None:
        self.count = 0
        self.low, self.high = np.inf, -np.inf  # of measured values
        self._values: list[tuple[float, float]] = []
        self._masks: dict[int, Shaped[np.ndarray, " bytes"]] = {}

    @property
    def apart(self) -> bool:
        """Whether padding is below or above all measured values, and there are any."""
        low = min(low for low, _ in self._values)
        high = max(high for _, high in self._values)
        return self.low <= self.high and (high < self.low or low > self.high)

    def take_out(self, level: int, pixels: _Pixels) -> Shaped[np.ndarray, "h w"]:
        """Note a slice's padding, and return its values with a measured one in its place."""
        values, padded = pixels.values, pixels.padded
        measured = values if padded is None else values[~padded]
        if measured.size:
            self.low = min(self.low, float(measured.min()))
            self.high = max(self.high, float(measured.max()))
        if padded is not None:
            lost = values[padded]
            self.count += lost.size
            self._values.append((float(lost.min()), float(lost.max())))
            self._masks[level] = np.packbits(padded)
            values[padded] = measured.min() if measured.size else 0
        return values

    def fill(self, voxels: Shaped[np.ndarray, "d h w"]) -> None:
        """Write the smallest measured value over all padding."""
        for level, packed in self._masks.items():
            plane = voxels[level]
            plane[np.unpackbits(packed, count=plane.size).reshape(plane.shape) == 1] = self.low


def _decode(slices: Sequence[Slice], *, pads: bool) -> tuple[Shaped[np.ndarray, "d h w"], _Padding]:
    voxels = np.empty((0, 0, 0), dtype=np.int16)
    padding = _Padding()
    for level, pixels in enumerate(_pixels(slices, pads=pads)):
        values = padding.take_out(level, pixels)
        needed = np.promote_types(voxels.dtype, _needed_dtype(values))
        if level == 0:
            voxels = np.empty((len(slices), *values.shape), dtype=needed)
        elif needed != voxels.dtype:
            voxels = voxels.astype(needed)
        voxels[level] = values
    return voxels, padding


def _pixels(slices: Sequence[Slice], *, pads: bool) -> Iterator[_Pixels]:
    """Decode slices one by one; a file with several of them is read once."""
    path, dataset = None, pydicom.Dataset()
    for item in slices:
        with quiet(), np.errstate(all="ignore"):
            try:
                if item.path != path:
                    path, dataset = item.path, pydicom.dcmread(item.path, force=True)
                stored = _stored(dataset, item)
                values = _significant(stored, dataset, item)
                padded = _padded(stored, values, dataset) if pads else None
            except DICOM_DAMAGE as error:
                raise damaged(item.path, "a DICOM slice", error) from error
            if values.shape != (item.rows, item.columns):
                raise VolumeError(
                    f"{item.path}: its pixels have shape {values.shape}, its header promises "
                    f"{(item.rows, item.columns)}. Export the series again."
                )
            found = _Pixels(_rescaled(values, item), padded)
        yield found


def _stored(dataset: pydicom.Dataset, item: Slice) -> Shaped[np.ndarray, "h w"]:
    check_stream(dataset, item)
    options: dict[str, Any] = {"correct_unused_bits": False}
    decoder = get_decoder(UID(item.syntax))
    stored: Shaped[np.ndarray, "h w"]
    stored, _ = decoder.as_array(dataset, index=item.frame or 0, raw=True, **options)
    return stored


def _significant(
    stored: Shaped[np.ndarray, "h w"], dataset: pydicom.Dataset, item: Slice
) -> Shaped[np.ndarray, "h w"]:
    """Keep the bits from HighBit downwards that BitsStored counts.

    Others hold overlays or nothing defined. Compressed values (but for RLE, which stores the
    bytes as they are) are the codec's own.

    Source:
        DICOM PS3.5, 8.1.1 (pixel data encoding; annex D shows the cells).
    """
    syntax = UID(item.syntax)
    if stored.dtype.kind not in "iu" or (syntax.is_encapsulated and syntax != RLELossless):
        return stored
    room = stored.dtype.itemsize * 8
    used = int(dataset.get("BitsStored") or item.bits)
    high = dataset.get("HighBit")
    high = used - 1 if is_empty(high) else int(high)
    if not (0 < used <= room and used - 1 <= high < room):
        raise ValueError(f"BitsStored {used} and HighBit {high} do not fit {room} bits")
    if used == room:
        return stored
    return (stored << (room - 1 - high)) >> (room - used)


def _padded(
    stored: Shaped[np.ndarray, "h w"], values: Shaped[np.ndarray, "h w"], dataset: pydicom.Dataset
) -> Bool[np.ndarray, "h w"] | None:
    """Return where PixelPaddingValue stands, before or after unused bits were dropped."""
    first, last = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if is_empty(first) or values.dtype.kind not in "iu":
        return None
    bounds = sorted(_as_stored(value, values.dtype) for value in (first, last) if value is not None)
    low, high = bounds[0], bounds[-1]
    padded = ((stored >= low) & (stored <= high)) | ((values >= low) & (values <= high))
    return padded if padded.any() else None


def _as_stored(value: Any, dtype: np.dtype[Any]) -> int:
    """Return a padding value in the pixels' own sign: -2000 is written as 63536 as well."""
    limits, number = np.iinfo(dtype), int(value)
    turns: int = 2 ** (dtype.itemsize * 8)
    if number > limits.max:
        return number - turns
    return number + turns if number < limits.min else number


def _rescaled(values: Shaped[np.ndarray, "h w"], item: Slice) -> Shaped[np.ndarray, "h w"]:
    """Return slope x pixel + intercept, in integers where all three are (and none is huge)."""
    whole = values.dtype.kind in "iu" and values.dtype.itemsize <= 4
    whole = whole and item.slope.is_integer() and item.intercept.is_integer()
    if whole and max(abs(item.slope), abs(item.intercept)) < 2**31 - 1:
        return values.astype(np.int64) * int(item.slope) + int(item.intercept)
    return values.astype(np.float64) * item.slope + item.intercept


def _needed_dtype(values: Shaped[np.ndarray, "h w"]) -> np.dtype[Any]:
    if values.dtype.kind == "f":
        return np.dtype(np.float32)
    low, high = int(values.min()), int(values.max())
    for dtype in (np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.float64)


def _undecodable(syntax: UID) -> str:
    """Return why a transfer syntax cannot be decoded, or nothing if it can."""
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        return "which no decoder knows"
    if decoder.is_available:
        return ""
    return f"for which a package is missing ({', '.join(decoder.missing_dependencies)})"
