"""From a scan as it comes to a volume as networks want it: the settings, and their application."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import prod
from typing import Any, Literal, TypeGuard, get_args

import numpy as np

from voxgraft.errors import PreprocessingError, raise_faults
from voxgraft.transforms.checks import is_number, is_whole
from voxgraft.transforms.geometry import crop_or_pad, name_of, orient
from voxgraft.transforms.hu_windows import Window, WindowChannels
from voxgraft.transforms.intensity import (
    Intensity,
    MinMax,
    Scale,
    intensity_to_dict,
    parse_intensity,
)
from voxgraft.transforms.resampling import MAX_VOXELS, Interpolation, resample
from voxgraft.types import Json, PartialSize3, PartialSpacing3, Size3, Spacing3
from voxgraft.volumes import Volume

PREPROCESSING_VERSION = 2
"""Goes into the key of stored volumes: raised whenever :func:`preprocess` gives other numbers."""

Storage = Literal["float16", "float32", "uint8", "uint16"]

_AXES = ("depth", "height", "width")


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How scans are made ready, once, before training.

    Attributes:
        spacing_mm: (depth, height, width) to resample to; None keeps each scan's own, for an
            axis or for all.
        resize_voxels: (depth, height, width) to resample to, whatever that is in mm; the field
            of view stays. None leaves an axis, or all. An axis takes this or ``spacing_mm``.
        size_voxels: (depth, height, width) to crop and pad to, around the center; None keeps
            the size, of an axis or of all.
        intensity: What becomes of the values.
        interpolation: ``"linear"`` (with averaging where the grid gets coarser) or ``"nearest"``.
        background: The normalized value that padding has. None: 0 for a window, min-max and
            scale; the volume's own minimum for z-score and keep.
        storage: How the store keeps the values. ``"float16"`` has a relative precision of
            1/2048; ``"uint16"`` and ``"uint8"`` divide the volume's range into 65,535 or 255
            steps; ``"float32"`` is exact.

    Raises:
        PreprocessingError: If a setting is impossible; all such settings are named.
    """

    spacing_mm: PartialSpacing3 | None = None
    resize_voxels: PartialSize3 | None = None
    size_voxels: PartialSize3 | None = None
    intensity: Intensity = field(default_factory=MinMax)
    interpolation: Interpolation = "linear"
    background: float | None = None
    storage: Storage = "float16"

    def __post_init__(self) -> None:
        _raise_faults(_setting_faults(vars(self)))
        for name, number in (("spacing_mm", float), ("resize_voxels", int), ("size_voxels", int)):
            triple = getattr(self, name)
            if triple is not None:
                clean = tuple(None if value is None else number(value) for value in triple)
                object.__setattr__(self, name, None if clean == (None,) * 3 else clean)
        if self.background is not None:
            object.__setattr__(self, "background", float(self.background))

    def to_dict(self) -> Json:
        """Return the complete settings as JSON; :meth:`from_dict` reads them again."""
        return {
            "spacing_mm": None if self.spacing_mm is None else list(self.spacing_mm),
            "resize_voxels": None if self.resize_voxels is None else list(self.resize_voxels),
            "size_voxels": None if self.size_voxels is None else list(self.size_voxels),
            "intensity": intensity_to_dict(self.intensity),
            "interpolation": self.interpolation,
            "background": self.background,
            "storage": self.storage,
        }

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Preprocessing:
        """Read settings as they stand in a YAML file; what is left out has its default.

        Raises:
            PreprocessingError: Naming all unknown, mistyped and impossible settings at once.
        """
        if not isinstance(settings, Mapping):
            raise PreprocessingError(
                f"preprocessing is {settings!r}, not a mapping. Expected the settings "
                f"{', '.join(_names())}."
            )
        values = dict(settings)
        faults = [f"unknown setting {key!r}" for key in values if key not in _names()]
        if "intensity" in values:
            try:
                values["intensity"] = parse_intensity(values["intensity"])
            except PreprocessingError as error:
                faults.append(str(error))
                del values["intensity"]
        known = {key: value for key, value in values.items() if key in _names()}
        _raise_faults(faults + _setting_faults(known))
        return cls(**known)

    def describe(self) -> str:
        """Return the steps in words, one a line."""
        lines = ["orient to RAS+ (depth to superior, height to anterior, width to right)"]
        if self.spacing_mm is not None:
            lines.append(f"resample{_to(self.spacing_mm)} mm, {self.interpolation}")
        if self.resize_voxels is not None:
            lines.append(
                f"resample{_to(self.resize_voxels)} voxels, {self.interpolation}, "
                "keeping the field of view"
            )
        lines.append(self.intensity.describe())
        if self.size_voxels is not None:
            background = self.fixed_background
            fill = "the volume's minimum" if background is None else f"{background:g}"
            lines.append(
                f"crop and pad{_to(self.size_voxels)} voxels around the center, padding with {fill}"
            )
        lines.append(f"store as {self.storage}")
        return "\n".join(lines)

    @property
    def fixed_spacing_mm(self) -> Spacing3 | None:
        """(depth, height, width) of every volume; None where scans keep theirs along an axis."""
        if self.spacing_mm is None:
            return None
        depth, height, width = self.spacing_mm
        if depth is None or height is None or width is None:
            return None
        return depth, height, width

    @property
    def known_size_voxels(self) -> PartialSize3 | None:
        """(depth, height, width) of every volume; None along axes where scans keep theirs."""
        none = (None, None, None)
        pairs = zip(self.size_voxels or none, self.resize_voxels or none, strict=True)
        depth, height, width = (resized if cut is None else cut for cut, resized in pairs)
        known = depth, height, width
        return None if known == none else known

    @property
    def fixed_background(self) -> float | None:
        """The background of every volume, or None where it is each volume's own minimum."""
        return self.background if self.background is not None else self.intensity.background

    def background_of(self, normalized: Any) -> float:
        """Return the value that padding has around normalized voxels."""
        fixed = self.fixed_background
        return float(normalized.min()) if fixed is None else fixed


def preprocess(volume: Volume, preprocessing: Preprocessing) -> Volume:
    """Make one scan ready: RAS+, resampled, normalized, then cropped and padded.

    Percentiles, mean and standard deviation are taken after resampling and before cropping; each
    channel has its own. Padding comes last and has the background's normalized value.

    Args:
        volume: A scan of any orientation, spacing and real dtype.
        preprocessing: The settings.

    Returns:
        A float32 volume with its affine; contiguous and independent of the input.

    Raises:
        PreprocessingError: If a value is NaN or infinite, if the values cannot be normalized, or
            if the spacing would make an absurd number of voxels. The message names the file.
    """
    where = name_of(volume)
    _check_finite(volume.voxels, where)
    turned = orient(volume)
    turned = resample(
        turned,
        preprocessing.spacing_mm,
        preprocessing.interpolation,
        size_voxels=preprocessing.resize_voxels,
    )
    intensity = preprocessing.intensity
    size = _own_where_none(preprocessing.size_voxels, turned.shape)
    if size is not None and isinstance(intensity, Window | WindowChannels | Scale):
        # Values depend on nothing but themselves: only those that stay need to be computed.
        depth, height, width = (min(pair) for pair in zip(size, turned.shape, strict=True))
        turned = crop_or_pad(turned, (depth, height, width))
    values = intensity.apply(_float32(turned.voxels), where)
    result = replace(turned, voxels=values)
    if size is not None:
        result = crop_or_pad(result, size, value=preprocessing.background_of(values))
    _check_finite(result.voxels, f"{where}, after {intensity.describe()},")
    voxels = np.ascontiguousarray(result.voxels)
    if np.may_share_memory(voxels, volume.voxels):
        voxels = voxels.copy()
    return replace(result, voxels=voxels)


def _own_where_none(size: PartialSize3 | None, own: Size3) -> Size3 | None:
    if size is None:
        return None
    depth, height, width = (
        mine if wanted is None else wanted for wanted, mine in zip(size, own, strict=True)
    )
    return depth, height, width


def _float32(voxels: Any) -> Any:
    with np.errstate(over="ignore"):  # infinities are refused at the end
        return voxels.astype(np.float32, copy=False)


def _check_finite(voxels: Any, where: str) -> None:
    if voxels.dtype.kind != "f":
        return
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(voxels.sum(dtype=np.float64))
    if np.isfinite(total):
        return
    bad = ~np.isfinite(voxels)
    if bad.any():
        first = tuple(int(index) for index in np.argwhere(bad)[0])
        raise PreprocessingError(
            f"{where} has {int(bad.sum())} NaN or infinite of {voxels.size} values, the first at "
            f"(channel, depth, height, width) {first}. Expected finite numbers. Mend the file, or "
            "leave the case out."
        )


def _names() -> list[str]:
    return [each.name for each in fields(Preprocessing)]


def _is_triple(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, tuple | list) and len(value) == 3


def _setting_faults(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the settings that are given."""
    faults = []
    spacing = values.get("spacing_mm")
    if spacing is not None and not (
        _is_triple(spacing)
        and all(mm is None or (is_number(mm) and 1e-3 <= mm <= 1e3) for mm in spacing)
    ):
        faults.append(
            f"spacing_mm is {spacing!r}. Expected three numbers (depth, height, width) between "
            "0.001 and 1000 mm; null for an axis keeps each scan's own."
        )
    for name in ("resize_voxels", "size_voxels"):
        size = values.get(name)
        if size is None:
            continue
        if not (_is_triple(size) and all(n is None or (is_whole(n) and n >= 1) for n in size)):
            faults.append(
                f"{name} is {size!r}. Expected three whole numbers (depth, height, width), "
                "each at least 1; null for an axis keeps each scan's own."
            )
        elif prod(int(n) for n in size if is_whole(n)) > MAX_VOXELS:
            faults.append(f"{name} is {size!r}. Expected at most {MAX_VOXELS:,} voxels.")
    resized = values.get("resize_voxels")
    if _is_triple(spacing) and _is_triple(resized):
        both = [
            axis
            for axis, mm, n in zip(_AXES, spacing, resized, strict=True)
            if mm is not None and n is not None
        ]
        if both:
            faults.append(
                f"spacing_mm and resize_voxels are both given for {_and(both)}. Expected one of "
                "them for an axis, and null in the other."
            )
    intensity = values.get("intensity", MinMax())
    if not isinstance(intensity, Intensity):
        faults.append(
            f"intensity is {intensity!r}. Expected Window, WindowChannels, MinMax, ZScore, "
            "Scale or Keep."
        )
    background = values.get("background")
    if background is not None and not is_number(background):
        faults.append(f"background is {background!r}. Expected a finite number, or nothing.")
    for key, choices in (("interpolation", Interpolation), ("storage", Storage)):
        if key in values and values[key] not in get_args(choices):
            expected = ", ".join(map(repr, get_args(choices)))
            faults.append(f"{key} is {values[key]!r}. Expected one of {expected}.")
    return faults


def _raise_faults(faults: list[str]) -> None:
    if faults:
        raise_faults(
            PreprocessingError,
            "the preprocessing is impossible",
            faults,
            f"The settings are {', '.join(_names())}.",
        )


def _to(values: Sequence[float | None]) -> str:
    """Return " to 2 × 1 × 1", naming the axes where not all have a value."""
    chosen = [(axis, value) for axis, value in zip(_AXES, values, strict=True) if value is not None]
    numbers = " × ".join(f"{value:g}" for _, value in chosen)
    named = f" {_and([axis for axis, _ in chosen])}" if len(chosen) < len(_AXES) else ""
    return f"{named} to {numbers}"


def _and(words: list[str]) -> str:
    return " and ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} and {words[-1]}"
