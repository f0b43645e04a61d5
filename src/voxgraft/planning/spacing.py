"""The spacing that scans are resampled to."""

from __future__ import annotations

import numpy as np

from voxgraft.planning.decision import Decision, times
from voxgraft.planning.fingerprint import DataFingerprint
from voxgraft.types import Spacing3
from voxgraft.weights import InputContract

_ANISOTROPIC = 3.0
"""An axis this many times coarser than the others, with as many times fewer voxels, is coarse."""
_SAME = 0.1
"""Relative difference up to which two spacings are the same."""
_THIN = 3.0
"""Structures of fewer voxels across are named."""
_LOST = 1.0
"""Structures of fewer voxels across cannot be drawn: the start's spacing is not taken then."""
_DRAWN = 2.0
"""Voxels across that such a structure must have at the data's own spacing, for that to help."""


def scratch_spacing(data: DataFingerprint) -> Spacing3:
    """Return the spacing for a training from scratch.

    The median along each axis; where one axis is three times as coarse as the others, in mm and in
    voxels, its 10th percentile, but nothing finer than the other axes.

    Source: Isensee et al., nnU-Net, Nature Methods 18, 2021, supplementary note 2.
    """
    spacing = list(data.spacing_mm.median)
    shape = data.shape_voxels.median
    axis = int(np.argmax(spacing))
    others = [place for place in range(3) if place != axis]
    coarse = all(spacing[axis] > _ANISOTROPIC * spacing[place] for place in others)
    few = all(shape[axis] * _ANISOTROPIC < shape[place] for place in others)
    if coarse and few:
        finest = max(spacing[place] for place in others)
        spacing[axis] = max(data.spacing_mm.low[axis], finest)
    depth, height, width = (float(f"{value:.4g}") for value in spacing)
    return depth, height, width


def decide_spacing(
    data: DataFingerprint, contract: InputContract | None
) -> tuple[Spacing3, Decision]:
    """Decide on the spacing.

    The start's, if it was trained at one, unless a structure that the data's own spacing can draw
    would be thinner than a voxel; else the data's.

    Args:
        data: Fingerprint of the training cases.
        contract: Of the start; None from scratch.
    """
    own = scratch_spacing(data)
    rule = "the median of the scans"
    if own != tuple(float(f"{value:.4g}") for value in data.spacing_mm.median):
        rule += ", along the coarse axis the 10th percentile"
    said = f"median {times(data.spacing_mm.median)} mm"
    if data.spacing_mm.smallest != data.spacing_mm.largest:
        said += f", from {times(data.spacing_mm.smallest)} to {times(data.spacing_mm.largest)}"
    if contract is None or contract.spacing_mm is None:
        why = f"{rule} (nnU-Net's rule)"
        if contract is not None:
            why += "; the start knows no spacing"
        decision = Decision(
            what="spacing",
            value=f"{times(own)} mm",
            why=why + thin_structures(data, own),
            from_data=said,
            from_start="none" if contract is not None else "",
        )
        return own, decision
    theirs = contract.spacing_mm
    lost = [
        f"{name} ({structure.across(theirs):.1f})"
        for name, structure in data.structures.items()
        if structure.across(theirs) < _LOST and structure.across(own) >= _DRAWN
    ]
    same = all(abs(a / b - 1) <= _SAME for a, b in zip(data.spacing_mm.median, theirs, strict=True))
    spread = all(
        abs(edge / b - 1) <= _SAME
        for edges in (data.spacing_mm.low, data.spacing_mm.high)
        for edge, b in zip(edges, theirs, strict=True)
    )
    if lost:
        looks = [b / a for a, b in zip(own, theirs, strict=True)]
        taken, why = (
            own,
            (
                "the data cannot follow the start: at its spacing "
                f"{', '.join(lost)} would be fewer than {_LOST:g} voxel across. "
                f"Takes {rule}; what the weights have seen looks "
                f"{times(looks)} times as large to them here"
            ),
        )
    elif same and spread:
        taken, why = theirs, "the start's, which is the data's too"
    elif same:
        taken, why = (
            theirs,
            ("the start's, which is the data's median; scans that differ are resampled to it"),
        )
    else:
        taken, why = (
            theirs,
            (
                "the start's, so that organs have the size in voxels that its weights know; scans "
                f"are resampled ({_resampled(data.spacing_mm.median, theirs)})"
            ),
        )
    decision = Decision(
        what="spacing",
        value=f"{times(taken)} mm",
        why=why + thin_structures(data, taken),
        from_data=said,
        from_start=f"trained at {times(theirs)} mm",
        differs=not same,
    )
    return taken, decision


def thin_structures(data: DataFingerprint, spacing_mm: Spacing3) -> str:
    """Return a sentence on the structures that are thin at a spacing; nothing if there are none."""
    thin = sorted(
        (structure.across(spacing_mm), name)
        for name, structure in data.structures.items()
        if structure.present and structure.across(spacing_mm) < _THIN
    )
    if not thin:
        return ""
    named = ", ".join(f"{name} ({across:.1f})" for across, name in thin)
    return f". Structures thinner than {_THIN:g} voxels there: {named}; expect a loss there"


def _resampled(own: Spacing3, wanted: Spacing3) -> str:
    words = []
    for axis, mine, theirs in zip(("depth", "height", "width"), own, wanted, strict=True):
        ratio = mine / theirs
        if ratio > 1 + _SAME:
            words.append(f"{axis} {ratio:.2g} times finer, without new detail")
        elif ratio < 1 - _SAME:
            words.append(f"{axis} {1 / ratio:.2g} times coarser, which loses detail")
    return "; ".join(words)
