"""What a voxel's value means: Hounsfield windows, z-scores, min-max, or as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from voxgraft.errors import PreprocessingError, raise_faults
from voxgraft.transforms.checks import number_faults, raise_if
from voxgraft.transforms.hu_windows import (
    WINDOWS_HU,
    Voxels,
    Window,
    WindowChannels,
    read_window,
)
from voxgraft.types import Json


def _percentile_faults(where: str, low: object, high: object) -> list[str]:
    faults = number_faults(where, {"low_percentile": low, "high_percentile": high})
    if not faults and not 0 <= low < high <= 100:  # type: ignore[operator]
        faults.append(
            f"{where} has percentiles {low:g} and {high:g}. Expected 0 <= low < high <= 100."
        )
    return faults


def _bounds(channel: Any, low_percentile: float, high_percentile: float) -> tuple[float, float]:
    if (low_percentile, high_percentile) == (0.0, 100.0):
        return float(channel.min()), float(channel.max())
    low, high = np.percentile(channel, [low_percentile, high_percentile])
    return float(low), float(high)


def _moments(values: Any) -> tuple[float, float]:
    """Return mean and standard deviation, in float64 without a float64 copy of all values."""
    flat = values.reshape(-1)
    mean = float(flat.mean(dtype=np.float64))
    blocks = range(0, flat.size, 2**20)
    squares = sum(
        float(np.square(flat[i : i + 2**20].astype(np.float64) - mean).sum()) for i in blocks
    )
    return mean, math.sqrt(squares / flat.size)


@dataclass(frozen=True)
class MinMax:
    """Map two percentiles of each channel to 0 and 1 and clip to them."""

    low_percentile: float = 0.5
    high_percentile: float = 99.5

    kind: ClassVar[str] = "min_max"
    background: ClassVar[float | None] = 0.0

    def __post_init__(self) -> None:
        faults = _percentile_faults("min_max", self.low_percentile, self.high_percentile)
        raise_if(faults, "Give percentiles such as 0.5 and 99.5.")
        object.__setattr__(self, "low_percentile", float(self.low_percentile))
        object.__setattr__(self, "high_percentile", float(self.high_percentile))

    def apply(self, voxels: Voxels, where: str = "the volume") -> Voxels:
        """Return the voxels in [0, 1].

        Raises:
            PreprocessingError: If the two percentiles of a channel coincide.
        """
        result = np.empty(voxels.shape, dtype=np.float32)
        for number, channel in enumerate(voxels):
            low, high = _bounds(channel, self.low_percentile, self.high_percentile)
            if not low < high:
                raise PreprocessingError(
                    f"{where}: percentiles {self.low_percentile:g} and {self.high_percentile:g} "
                    f"of channel {number} are both {low:g}; its values run from "
                    f"{channel.min():g} to {channel.max():g}. Expected two different values. "
                    "Use percentiles 0 and 100, or `keep` for a mask; a constant volume must be "
                    "left out."
                )
            for plane, mapped in zip(channel, result[number], strict=True):
                # In float64: the difference of two float32 may not be a float32.
                mapped[:] = np.clip((plane.astype(np.float64) - low) / (high - low), 0.0, 1.0)
        return result

    def describe(self) -> str:
        """Return one line in words."""
        low, high = self.low_percentile, self.high_percentile
        return f"min-max: percentiles {low:g} and {high:g} of each channel → [0, 1], clipped"


@dataclass(frozen=True)
class ZScore:
    """Subtract each channel's mean and divide by its standard deviation.

    Percentiles other than 0 and 100 clip first. With ``foreground_only``, percentiles, mean and
    standard deviation are those of the voxels above the channel's minimum (the air around a
    head); all voxels are mapped.
    """

    low_percentile: float = 0.0
    high_percentile: float = 100.0
    foreground_only: bool = False

    kind: ClassVar[str] = "z_score"
    background: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        faults = _percentile_faults("z_score", self.low_percentile, self.high_percentile)
        foreground_only: object = self.foreground_only
        if not isinstance(foreground_only, bool):
            faults.append(
                f"z_score.foreground_only is {foreground_only!r}. Expected true or false."
            )
        raise_if(faults, "Give percentiles such as 0.5 and 99.5.")
        object.__setattr__(self, "low_percentile", float(self.low_percentile))
        object.__setattr__(self, "high_percentile", float(self.high_percentile))

    def apply(self, voxels: Voxels, where: str = "the volume") -> Voxels:
        """Return the z-scored voxels.

        Raises:
            PreprocessingError: If a channel's standard deviation is zero.
        """
        result = np.empty(voxels.shape, dtype=np.float32)
        for number, channel in enumerate(voxels):
            floor, low, high = channel.min(), -np.inf, np.inf
            chosen = channel[channel > floor] if self.foreground_only else channel
            if chosen.size and (self.low_percentile, self.high_percentile) != (0.0, 100.0):
                low, high = _bounds(chosen, self.low_percentile, self.high_percentile)
                chosen = np.clip(chosen, low, high)
            if not chosen.size or not chosen.min() < chosen.max():
                voxels_meant = "foreground of " if self.foreground_only else ""
                raise PreprocessingError(
                    f"{where}: the {voxels_meant}channel {number} is constant "
                    f"({chosen.min() if chosen.size else floor:g}), so its standard deviation "
                    "is 0. Expected values that differ. Leave the case out, widen the "
                    "percentiles, or use `keep` for a mask."
                )
            mean, deviation = _moments(chosen)
            for plane, mapped in zip(channel, result[number], strict=True):
                mapped[:] = (np.clip(plane.astype(np.float64), low, high) - mean) / deviation
        return result

    def describe(self) -> str:
        """Return one line in words."""
        clip = ""
        if (self.low_percentile, self.high_percentile) != (0.0, 100.0):
            clip = f" after clipping to percentiles {self.low_percentile:g} and " + (
                f"{self.high_percentile:g}"
            )
        over = "the voxels above its minimum" if self.foreground_only else "all its voxels"
        return f"z-score: each channel by mean and sd of {over}{clip}"


@dataclass(frozen=True)
class Scale:
    """Map ``low`` to 0 and ``high`` to 1, linearly, without clipping (0 and 255, for instance)."""

    low: float
    high: float

    kind: ClassVar[str] = "scale"
    background: ClassVar[float | None] = 0.0

    def __post_init__(self) -> None:
        faults = number_faults("scale", {"low": self.low, "high": self.high})
        if not faults and not self.low < self.high:
            faults.append(f"scale low {self.low:g} is not below high {self.high:g}.")
        raise_if(faults, "Give the value that becomes 0 as low and the one that becomes 1 as high.")
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))

    def apply(self, voxels: Voxels, where: str = "the volume") -> Voxels:
        """Return the scaled voxels."""
        with np.errstate(over="ignore"):  # preprocess refuses what is not finite then
            result = voxels - np.float32(self.low)
            result /= np.float32(self.high - self.low)
        return result

    def describe(self) -> str:
        """Return one line in words."""
        return f"scale {self.low:g} → 0, {self.high:g} → 1, without clipping"


@dataclass(frozen=True)
class Keep:
    """Leave the values as they are (masks, maps that are already normalized)."""

    kind: ClassVar[str] = "keep"
    background: ClassVar[float | None] = None

    def apply(self, voxels: Voxels, where: str = "the volume") -> Voxels:
        """Return the voxels."""
        return voxels

    def describe(self) -> str:
        """Return one line in words."""
        return "values kept as they are"


Intensity = Window | WindowChannels | MinMax | ZScore | Scale | Keep

_KINDS: dict[str, type[Intensity]] = {
    kind.kind: kind for kind in (Window, WindowChannels, MinMax, ZScore, Scale, Keep)
}
_REQUIRED = ("low", "high", "windows")


def intensity_to_dict(intensity: Intensity) -> Json:
    """Return the setting as JSON; windows as bounds."""
    if isinstance(intensity, WindowChannels):
        bounds = [{"low": window.low, "high": window.high} for window in intensity.windows]
        return {"kind": intensity.kind, "windows": bounds}
    values = {field.name: getattr(intensity, field.name) for field in fields(intensity)}
    return {"kind": intensity.kind, **values}


def parse_intensity(value: object) -> Intensity:
    """Read an intensity setting as it stands in a YAML file.

    Args:
        value: A mapping with ``kind`` (window, window_channels, min_max, z_score, scale, keep) and
            that kind's settings; ``kind: window`` may be left out, and a window is ``low`` and
            ``high``, or ``center`` and ``width``, or ``name``; ``window_channels`` takes a list of
            such ``windows``. A kind without settings, or the name of a window, may stand alone as
            text. An intensity comes back as it is.

    Raises:
        PreprocessingError: Naming all unknown and missing settings.
    """
    if isinstance(value, Intensity):
        return value
    remedy = (
        f"Expected kind: {', '.join(_KINDS)}, for instance {{kind: window, low: -1350, high: 150}} "
        "or {kind: window, center: -600, width: 1500}; or the name of a window: "
        f"{', '.join(WINDOWS_HU)}."
    )
    if isinstance(value, str):
        value = {"name": value} if value in WINDOWS_HU else {"kind": value}
    if not isinstance(value, Mapping):
        raise PreprocessingError(f"intensity is {value!r}, not a mapping. {remedy}")
    settings = {str(key): item for key, item in value.items()}
    kind = settings.pop("kind", _unsaid_kind(settings))
    if not isinstance(kind, str) or kind not in _KINDS:
        raise PreprocessingError(f"intensity.kind is {kind!r}. {remedy}")
    if kind == "window" and set(settings) in ({"center", "width"}, {"name"}):
        return read_window(settings)
    chosen = _KINDS[kind]
    known = [field.name for field in fields(chosen)]
    faults = [f"unknown setting {key!r}" for key in settings if key not in known]
    faults += [
        f"missing setting {key!r}" for key in known if key in _REQUIRED and key not in settings
    ]
    if faults:
        pairs = " (or center and width, or name)" if kind == "window" else ""
        raise_faults(
            PreprocessingError,
            f"intensity of kind {kind!r} cannot be read",
            faults,
            f"{kind} takes {', '.join(known) or 'no settings'}{pairs}.",
        )
    if chosen is WindowChannels:
        return WindowChannels.read(settings["windows"])
    return chosen(**settings)


def _unsaid_kind(settings: Mapping[str, object]) -> str | None:
    if not settings:
        return None
    return "window_channels" if "windows" in settings else "window"
