"""Windows of Hounsfield units: one that becomes the values, or several that become channels.

A window is always ``(low, high)`` bounds in here. Papers and viewers often print a window as
(center, width), and some print that pair as if it were a range: Ke et al. (MIDL 2023,
arXiv:2304.00546) give "[400, 1000]" for pulmonary embolism and "[-600, 1500]" for the lung, which
are (center, width) and mean the bounds [-100, 900] and [-1350, 150] HU. So a pair is only ever
accepted with its names, ``center`` and ``width`` or ``low`` and ``high``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from voxgraft.errors import PreprocessingError
from voxgraft.transforms.checks import number_faults, raise_if

Voxels = Float[np.ndarray, "channels depth height width"]

WINDOWS_HU: dict[str, tuple[float, float]] = {
    "lung": (-1350.0, 150.0),
    "pe": (-100.0, 900.0),
    "pe_rsna": (-250.0, 450.0),
    "mediastinum": (-160.0, 240.0),
    "soft_tissue": (-160.0, 240.0),
    "abdomen": (-160.0, 240.0),
    "liver": (-45.0, 105.0),
    "brain": (0.0, 80.0),
    "bone": (-500.0, 1300.0),
    "wide": (-1000.0, 1000.0),
}
"""Named windows, as (low, high) bounds in HU; docs/preprocessing.md says where each is from."""


@dataclass(frozen=True)
class Window:
    """Clip to bounds in HU (or whatever the voxels hold) and map them to [0, 1]."""

    low: float
    high: float

    kind: ClassVar[str] = "window"
    background: ClassVar[float | None] = 0.0

    def __post_init__(self) -> None:
        faults = number_faults("window", {"low": self.low, "high": self.high})
        if not faults and not self.low < self.high:
            faults.append(
                f"window low {self.low:g} is not below high {self.high:g}. If the pair is "
                f"(center, width), its bounds are "
                f"[{self.low - self.high / 2:g}, {self.low + self.high / 2:g}]."
            )
        raise_if(faults, "Give bounds as low and high, or the pair as center and width.")
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))

    @classmethod
    def from_center_width(cls, center: float, width: float) -> Window:
        """Return the window of a (center, width) pair, as viewers print it.

        Raises:
            PreprocessingError: If the width is not positive, or a number is not finite.
        """
        faults = number_faults("window", {"center": center, "width": width})
        if not faults and width <= 0:
            faults.append(f"window.width is {width:g}. Expected a positive number of HU.")
        raise_if(faults, "Give the pair as center and width, or the bounds as low and high.")
        return cls(center - width / 2, center + width / 2)

    @classmethod
    def named(cls, name: str) -> Window:
        """Return a window of :data:`WINDOWS_HU`.

        Raises:
            PreprocessingError: If there is none of that name.
        """
        if name not in WINDOWS_HU:
            raise PreprocessingError(
                f"no window is called {name!r}. Known are {', '.join(WINDOWS_HU)}; "
                "or give low and high in HU."
            )
        return cls(*WINDOWS_HU[name])

    @property
    def bounds_hu(self) -> tuple[float, float]:
        """What becomes 0 and what becomes 1."""
        return self.low, self.high

    def apply(self, voxels: Voxels, where: str = "the volume") -> Voxels:
        """Return the windowed voxels, in [0, 1].

        Raises:
            PreprocessingError: If every voxel gets the same value: nothing lies in the window.
        """
        result = self._mapped(voxels)
        _refuse_constant(result, voxels, f"window {self.in_brackets}", where)
        return result

    def _mapped(self, voxels: Voxels) -> Voxels:
        with np.errstate(over="ignore"):  # what overflows lies outside of the window
            result = voxels - np.float32(self.low)
            result /= np.float32(self.high - self.low)
        np.clip(result, 0.0, 1.0, out=result)
        return result

    @property
    def in_brackets(self) -> str:
        """The bounds, as they are printed."""
        return f"[{self.low:g}, {self.high:g}]"

    def describe(self) -> str:
        """Return one line in words, with the bounds."""
        return (
            f"window {self.in_brackets} → [0, 1] "
            f"(center {(self.low + self.high) / 2:g}, width {self.high - self.low:g})"
        )


@dataclass(frozen=True)
class WindowChannels:
    """One channel of HU seen through several windows, each of which becomes a channel in [0, 1].

    So a network made for the three colors of pictures or video sees lung, vessels and soft tissue
    at once. A window may stand in more than one channel.
    """

    windows: tuple[Window, ...]

    kind: ClassVar[str] = "window_channels"
    background: ClassVar[float | None] = 0.0

    def __post_init__(self) -> None:
        given: object = self.windows
        faults = []
        if not isinstance(given, tuple | list) or not given:
            faults.append(f"window_channels.windows is {given!r}. Expected a list of windows.")
        else:
            faults += [
                f"window_channels.windows[{place}] is {window!r}. Expected a Window."
                for place, window in enumerate(given)
                if not isinstance(window, Window)
            ]
        raise_if(faults, "Give for instance [lung, pe, {low: -160, high: 240}].")
        object.__setattr__(self, "windows", tuple(self.windows))

    @classmethod
    def read(cls, entries: object) -> WindowChannels:
        """Read the windows as they stand in a YAML file.

        Args:
            entries: A list; each entry a name of :data:`WINDOWS_HU`, ``{low, high}``,
                ``{center, width}``, ``{name}``, or a Window.

        Raises:
            PreprocessingError: Naming all entries that are no window.
        """
        if not isinstance(entries, tuple | list):
            return cls(entries)  # type: ignore[arg-type]  # which refuses it
        windows, faults = [], []
        for place, entry in enumerate(entries):
            try:
                windows.append(read_window(entry))
            except PreprocessingError as error:
                faults.append(f"window_channels.windows[{place}]: {error}")
        raise_if(faults, "Give for instance [lung, pe, {low: -160, high: 240}].")
        return cls(tuple(windows))

    @property
    def bounds_hu(self) -> tuple[tuple[float, float], ...]:
        """What becomes 0 and what becomes 1, for each channel."""
        return tuple(window.bounds_hu for window in self.windows)

    def apply(self, voxels: Voxels, where: str = "the volume") -> Voxels:
        """Return (windows, D, H, W) of (1, D, H, W), in [0, 1].

        Raises:
            PreprocessingError: If there are several channels already, or nothing lies in any of
                the windows. (One window may be empty: of a lung nodule, bone may show nothing.)
        """
        if len(voxels) != 1:
            raise PreprocessingError(
                f"{where} has {len(voxels)} channels. Expected one channel of HU, to make "
                f"{len(self.windows)} channels by windows. Use the intensity `window`, which maps "
                "every channel through the same bounds, or leave the case out."
            )
        result = np.empty((len(self.windows), *voxels.shape[1:]), dtype=np.float32)
        for channel, window in zip(result, self.windows, strict=True):
            channel[:] = window._mapped(voxels)[0]
        if all(channel.min() == channel.max() for channel in result):
            _refuse_constant(result[:1], voxels, f"windows {self._listed()}", where)
        return result

    def describe(self) -> str:
        """Return one line in words, with the bounds."""
        return f"{len(self.windows)} channels by windows {self._listed()}, each → [0, 1]"

    def _listed(self) -> str:
        return ", ".join(window.in_brackets for window in self.windows)


def read_window(entry: object) -> Window:
    """Read one window: a name, ``{low, high}``, ``{center, width}`` or ``{name}``.

    Raises:
        PreprocessingError: If it is none of these.
    """
    if isinstance(entry, Window):
        return entry
    if isinstance(entry, str):
        return Window.named(entry)
    keys = set(entry) if isinstance(entry, Mapping) else None
    if isinstance(entry, Mapping) and keys == {"low", "high"}:
        return Window(entry["low"], entry["high"])
    if isinstance(entry, Mapping) and keys == {"center", "width"}:
        return Window.from_center_width(entry["center"], entry["width"])
    if isinstance(entry, Mapping) and keys == {"name"}:
        return Window.named(str(entry["name"]))
    raise PreprocessingError(
        f"{entry!r} is no window. Expected a name ({', '.join(WINDOWS_HU)}), {{low, high}}, or "
        "{center, width}; a pair without names could be either."
    )


def _refuse_constant(result: Voxels, voxels: Voxels, window: str, where: str) -> None:
    """Refuse a volume that windowing made one value, which nothing can be learnt from."""
    if result.size > 1 and result.min() == result.max():
        raise PreprocessingError(
            f"{where} is constant after the {window}: its values run from "
            f"{voxels.min():g} to {voxels.max():g}. Expected values that differ inside the "
            "window. Check the window and the units of the file, or leave the case out."
        )
