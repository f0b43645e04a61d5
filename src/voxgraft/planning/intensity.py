"""What becomes of the values: a window in Hounsfield units, z-scores, or bounds of each scan."""

from __future__ import annotations

from voxgraft.planning.decision import Decision
from voxgraft.planning.fingerprint import DataFingerprint
from voxgraft.transforms import Intensity, MinMax, Window, WindowChannels, ZScore
from voxgraft.weights import InputContract

_ROUND_HU = 5.0
_NEAR_HU = 50.0
"""Bounds of two windows that differ by less are the same."""


def decide_intensity(
    data: DataFingerprint, contract: InputContract | None
) -> tuple[Intensity, Decision]:
    """Decide what becomes of the values.

    From scratch: CT within the window of 0.5 and 99.5 percentiles of the structures' values,
    anything else z-scored scan by scan. A start's own window or z-score goes first, where the data
    can follow: a window of Hounsfield units needs CT, and must hold the median of each structure.

    Args:
        data: Fingerprint of the training cases.
        contract: Of the start; None from scratch.

    Source: Isensee et al., nnU-Net, 2021 (percentiles of the foreground for CT, else z-scores).
    """
    ct = data.modality.kind == "ct"
    values = data.values[0]
    low, high = values.percentile(0.5), values.percentile(99.5)
    if ct:
        said = f"CT ({data.modality.sure}), structures from {low:.0f} to {high:.0f} HU"
    else:
        said = f"no CT ({data.modality.sure}), structures from {low:.4g} to {high:.4g}"
    said += " (0.5 and 99.5 percentiles)"
    if contract is None or not (
        contract.z_score or contract.window_hu or contract.channel_windows_hu
    ):
        return _of_data(data, contract, said)
    if contract.z_score:
        why = "the start's: each scan is standardized by itself"
        if ct:
            why += "; Hounsfield units lose their absolute meaning by it, which the data have"
        return ZScore(), Decision(
            what="intensity",
            value="z-score",
            why=why,
            from_data=said,
            from_start="scans standardized one by one",
            differs=ct,
        )
    windows = contract.channel_windows_hu or (contract.window_hu or (0.0, 1.0),)
    shown = " and ".join(f"{a:g} to {b:g}" for a, b in windows)
    theirs = f"window {shown} HU"
    if not ct:
        return MinMax(), Decision(
            what="intensity",
            value="min-max of each scan (0.5 and 99.5 percentiles) to [0, 1]",
            why="the start's window is in Hounsfield units, which these scans have not: each scan "
            "is brought to the same range, but a tissue's value varies between scans",
            from_data=said,
            from_start=theirs,
            differs=True,
        )
    if len(windows) > 1 and data.channels == 1:
        return WindowChannels(tuple(Window(a, b) for a, b in windows)), Decision(
            what="intensity",
            value=f"windows {shown} HU, a channel each",
            why="the start's; each scan becomes as many channels",
            from_data=said,
            from_start=theirs,
        )
    window = windows[0]
    outside = [
        f"{name} ({structure.value:.0f} HU)"
        for name, structure in data.structures.items()
        if structure.present and not window[0] < structure.value < window[1]
    ]
    if outside:
        wide = Window(_down(min(low, window[0])), _up(max(high, window[1])))
        return wide, Decision(
            what="intensity",
            value=f"window {wide.low:g} to {wide.high:g} HU",
            why="the data cannot follow the start: in its window more than half of "
            f"{', '.join(outside)} would be black or white. Widened to the structures' values; "
            "each tissue's value is another than the weights know",
            from_data=said,
            from_start=theirs,
            differs=True,
        )
    clipped = values.share_outside(*window)
    same = abs(low - window[0]) < _NEAR_HU and abs(high - window[1]) < _NEAR_HU
    why = "the start's, so that each tissue has the value that its weights know"
    if clipped > 0:
        why += f"; {clipped:.1%} of the structures' values lie outside of it and are clipped"
    return Window(*window), Decision(
        what="intensity",
        value=f"window {window[0]:g} to {window[1]:g} HU",
        why=why,
        from_data=said,
        from_start=theirs,
        differs=not same,
    )


def _of_data(
    data: DataFingerprint, contract: InputContract | None, said: str
) -> tuple[Intensity, Decision]:
    theirs = ""
    if contract is not None:
        low, high = contract.value_range
        theirs = f"values from {low:g} to {high:g}, no window"
    if data.modality.kind != "ct":
        return ZScore(), Decision(
            what="intensity",
            value="z-score",
            why="values of these scans have no unit: each is standardized by itself",
            from_data=said,
            from_start=theirs,
            differs=contract is not None,
        )
    values = data.values[0]
    low, high = _down(values.percentile(0.5)), _up(values.percentile(99.5))
    why = "0.5 and 99.5 percentiles of the values within the structures, to [0, 1] (nnU-Net's rule)"
    if low == high:
        low, high = low - _NEAR_HU, high + _NEAR_HU
        why += f"; the structures have one value alone, so {_NEAR_HU:g} HU are added on both sides"
    window = Window(low, high)
    if data.modality.sure != "certain":
        why += f"; that this is CT in HU is {data.modality.sure}: {data.modality.why}"
    if contract is not None:
        why += ". The start says no window; its mean and sd are applied to that range"
    return window, Decision(
        what="intensity",
        value=f"window {window.low:g} to {window.high:g} HU",
        why=why,
        from_data=said,
        from_start=theirs,
        differs=contract is not None,
    )


def _down(value: float) -> float:
    return _ROUND_HU * (value // _ROUND_HU)


def _up(value: float) -> float:
    return -_down(-value)
