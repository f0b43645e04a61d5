"""What a start's weights expect of their input, held against what they are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from voxgraft.types import PartialSize3, PartialSpacing3
from voxgraft.weights.source import InputContract

_SAME_SPACING = 0.1
_OTHER_SIZE = 1.5


@dataclass(frozen=True, kw_only=True)
class GivenInput:
    """Volumes as they come to a network, before it takes its mean and divides by its sd."""

    channels: int
    scaling: Literal["unit", "z_score", "raw"]
    """``"unit"``: each volume in [0, 1]; ``"z_score"``: mean 0 and standard deviation 1 each;
    ``"raw"``: numbers as they stand in the file."""
    window_hu: tuple[float, float] | None = None
    """Hounsfield units that were mapped to 0 and 1; None if each volume had bounds of its own."""
    channel_windows_hu: tuple[tuple[float, float], ...] = ()
    """Such bounds of each channel of a scan, where each has its own; ``window_hu`` is None."""
    spacing_mm: PartialSpacing3 | None = None
    """None, for an axis or all: each scan keeps its own."""
    size_voxels: PartialSize3 | None = None
    """None, for an axis or all: each scan keeps its own."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One point of the contract."""

    what: Literal["channels", "intensity", "spacing", "size"]
    differs: bool
    text: str
    """What the weights expect, what they are given, and what is done about it."""


def contract_in_words(contract: InputContract) -> str:
    """Return what weights expect of their input, in a line."""
    channels = f"{contract.channels} channel{'s' if contract.channels > 1 else ''}"
    parts = [channels, _expected(contract)]
    if any(contract.mean) or set(contract.sd) != {1.0}:
        mean, sd = (", ".join(f"{v:.3g}" for v in each) for each in (contract.mean, contract.sd))
        parts.append(f"less {mean}, over {sd}")
    if contract.size is not None:
        unit = "pixels" if len(contract.size) == 2 else "voxels"
        parts.append(f"{_times(contract.size)} {unit}")
    if contract.spacing_mm is not None:
        parts.append(f"at {_times(contract.spacing_mm)} mm")
    return "; ".join(parts)


def network_scaling(
    contract: InputContract, given: GivenInput
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and sd that a network must normalize by, to see what its weights expect.

    Volumes in [0, 1] are taken as the whole of the contract's range of values: the contract's
    mean and sd become those of that scale. Standardized volumes are left as they are.

    Args:
        contract: Of the source.
        given: The volumes.

    Returns:
        One mean and one sd for each channel of the volumes.
    """
    mean, sd = contract.carried_to(given.channels)
    if given.scaling == "z_score":
        return (0.0,) * given.channels, (1.0,) * given.channels
    if given.scaling == "raw":
        return mean, sd
    low, high = contract.value_range
    return tuple((m - low) / (high - low) for m in mean), tuple(s / (high - low) for s in sd)


def compare_input(contract: InputContract, given: GivenInput, *, stem: str) -> list[Finding]:
    """Say for each point of a contract what the weights expect and what they are given.

    Args:
        contract: Of the source.
        given: The volumes.
        stem: How the stem is folded where the channels differ.
    """
    return [
        _channels(contract, given, stem),
        _intensity(contract, given),
        *_spacing(contract, given),
        *_size(contract, given),
    ]


def _channels(contract: InputContract, given: GivenInput, stem: str) -> Finding:
    if contract.channels == given.channels:
        text = f"{given.channels} channel{'s' if given.channels > 1 else ''}, as in training"
        return Finding(what="channels", differs=False, text=text)
    text = (
        f"trained on {contract.channels}, the volumes have {given.channels}: the stem is folded "
        f"({stem}), mean and sd are averaged over the source's channels"
    )
    return Finding(what="channels", differs=True, text=text)


def _intensity(contract: InputContract, given: GivenInput) -> Finding:
    expected = _expected(contract)
    if given.scaling == "raw":
        text = (
            f"trained on {expected}; the volumes keep the numbers of their files, and the source's "
            "mean and sd are applied to those. Set preprocessing.intensity"
        )
        return Finding(what="intensity", differs=True, text=text)
    if given.scaling == "z_score":
        if contract.z_score:
            return Finding(what="intensity", differs=False, text=f"{expected}, as in training")
        text = (
            f"trained on {expected}; the volumes are standardized one by one, and go to the "
            "network as they are"
        )
        return Finding(what="intensity", differs=True, text=text)
    if contract.z_score:
        low, high = contract.value_range
        text = (
            f"trained on {expected}; the volumes are in [0, 1], which is stretched to "
            f"[{low:g}, {high:g}]. `preprocessing.intensity: z_score` is as in training"
        )
        return Finding(what="intensity", differs=True, text=text)
    theirs = contract.channel_windows_hu or _once(contract.window_hu)
    ours = given.channel_windows_hu or _once(given.window_hu)
    if theirs and not ours:
        text = (
            f"trained on {expected}; each volume here has bounds of its own, so that a tissue's "
            f"value varies. For CT set preprocessing.intensity to {_setting(theirs)}"
        )
        return Finding(what="intensity", differs=True, text=text)
    if theirs and ours != theirs and {*ours, *theirs} != {theirs[0]}:
        one = "the window here is" if len(ours) == 1 else "the channels' windows here are"
        text = (
            f"trained on {expected}; {one} {_listed(ours)} HU, which gives each tissue another "
            "value"
        )
        return Finding(what="intensity", differs=True, text=text)
    text = f"{expected}; the volumes are in [0, 1], the source's mean and sd are applied"
    return Finding(what="intensity", differs=False, text=text)


def _expected(contract: InputContract) -> str:
    if contract.z_score:
        return "scans standardized one by one"
    low, high = contract.value_range
    windows = contract.channel_windows_hu or _once(contract.window_hu)
    if not windows:
        return f"values from {low:g} to {high:g}"
    each = ", a channel each," if len(windows) > 1 else ""
    return f"{_listed(windows)} HU{each} mapped to {low:g} to {high:g}"


def _once(bounds: tuple[float, float] | None) -> tuple[tuple[float, float], ...]:
    return () if bounds is None else (bounds,)


def _listed(windows: tuple[tuple[float, float], ...]) -> str:
    return " and ".join(f"{low:g} to {high:g}" for low, high in windows)


def _setting(windows: tuple[tuple[float, float], ...]) -> str:
    return f"the window{'s' if len(windows) > 1 else ''} {_listed(windows)}"


def _spacing(contract: InputContract, given: GivenInput) -> list[Finding]:
    expected = contract.spacing_mm
    if expected is None:
        return []
    shown = _times(expected)
    own = given.spacing_mm or (None, None, None)
    ratios = [
        None if ours is None else ours / theirs for ours, theirs in zip(own, expected, strict=True)
    ]
    known = [ratio for ratio in ratios if ratio is not None]
    if not known:
        text = (
            f"trained at {shown} mm; each scan here keeps its own spacing. "
            f"Set preprocessing.spacing_mm"
        )
        return [Finding(what="spacing", differs=True, text=text)]
    if len(known) == 3 and all(abs(ratio - 1) <= _SAME_SPACING for ratio in known):
        return [Finding(what="spacing", differs=False, text=f"{shown} mm, as in training")]
    larger = tuple(None if ratio is None else 1 / ratio for ratio in ratios)
    text = (
        f"trained at {shown} mm, the volumes are at {_times(own)} mm: what is in them "
        f"looks {_times(larger, unknown='?')} times as large"
    )
    return [Finding(what="spacing", differs=True, text=text)]


def _size(contract: InputContract, given: GivenInput) -> list[Finding]:
    expected, own = contract.size, given.size_voxels
    if expected is None:
        return []
    unit = "pixels" if len(expected) == 2 else "voxels"
    shown = f"{_times(expected)} {unit}"
    seen = (own or (None, None, None))[-len(expected) :]
    ratios = [
        None if ours is None else ours / theirs for ours, theirs in zip(seen, expected, strict=True)
    ]
    known = [ratio for ratio in ratios if ratio is not None]
    if own is None or not known:
        text = f"trained at {shown}; each scan here keeps its own size"
        return [Finding(what="size", differs=True, text=text)]
    if len(known) == len(ratios) and all(1 / _OTHER_SIZE <= r <= _OTHER_SIZE for r in known):
        text = f"{_times(own)} voxels, near the {shown} of the training"
        return [Finding(what="size", differs=False, text=text)]
    text = (
        f"trained at {shown}, the volumes have {_times(own)} voxels; convolutions run at any size, "
        "tables of positions are interpolated"
    )
    return [Finding(what="size", differs=True, text=text)]


def _times(values: Sequence[float | None], unknown: str = "own") -> str:
    """Return "2 × 1 × 1"; an axis along which each scan has its own value is unknown."""
    return " × ".join(unknown if value is None else f"{value:.3g}" for value in values)
