"""The files of example cases: ``.npz`` with a study's image, and what explains its score."""

from __future__ import annotations

import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxgraft.reports.comparison import Example
from voxgraft.reports.heat import SIDES, HeatPicture, HeatPlane, gray_range, plane_label
from voxgraft.reports.predictions import inside

_MOST_PLANES = 6
_DAMAGE = (
    OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError, RuntimeError,
    MemoryError, SyntaxError, Warning, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy and zipfile raise on damaged .npz files; found by damaging some thousands."""


def read_arrays(folder: Path, example: Example) -> dict[str, NDArray[Any]] | str:
    """Return the arrays of an example's file, or why they cannot be read."""
    return read_npz(folder, example.file)


def read_npz(folder: Path, file: str) -> dict[str, NDArray[Any]] | str:
    """Return the arrays of a file of the comparison's folder, or why they cannot be read."""
    path = inside(folder, file)
    if path is None:
        return f"{file!r} is not inside the comparison's folder"
    if not path.is_file():
        return f"{file} is missing"
    try:
        with (
            warnings.catch_warnings(action="error"),
            path.open("rb") as handle,
            np.load(handle, allow_pickle=False) as content,
        ):
            return {name: np.asarray(content[name]) for name in content.files}
    except _DAMAGE as error:
        return f"{file} is damaged ({str(error)[:80] or type(error).__name__})"


def plain_numbers(values: NDArray[Any], axes: int) -> bool:
    """Return whether these are real numbers along so many axes, at least one."""
    return values.ndim == axes and 0 not in values.shape and values.dtype.kind in "iuf"


def sensible_mm(spacing: NDArray[Any]) -> bool:
    """Return whether this is a voxel's size in mm."""
    return (
        plain_numbers(spacing, 1)
        and len(spacing) == 3
        and bool(((spacing > 1e-3) & (spacing < 1e3)).all())
    )


def read_heat(content: dict[str, NDArray[Any]], example: Example) -> HeatPicture | str:
    """Return what explains an example's score, or what is wrong with it.

    Args:
        content: Arrays of its file.
        example: What stands of it in ``comparison.json``.
    """
    try:
        picture = _picture(content, example)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        return f"its heat is damaged ({str(error)[:80] or type(error).__name__})"
    faults = _faults(picture)
    return f"its heat is damaged ({faults[0]})" if faults else picture


def _picture(content: dict[str, NDArray[Any]], example: Example) -> HeatPicture:
    position, heat = _floats(content["position_mm"]), _floats(content["slice_heat"])
    score = _floats(content["slice_score"]) if "slice_score" in content else None
    planes = []
    named, places = content["planes"].tolist(), content["planes_at"].tolist()
    for number, (name, at) in enumerate(list(zip(named, places, strict=True))[:_MOST_PLANES]):
        if name not in SIDES or not isinstance(at, int) or at < 0:
            raise ValueError(f"plane {name!r} at {at!r}")
        axial = name == "axial"
        place = float(position[at]) if axial else None
        alone = None if score is None or not axial else float(score[at])
        planes.append(
            HeatPlane(
                plane=name,
                image=content[f"plane{number}"].astype(np.float32),
                heat=content[f"heat{number}"].astype(np.float32),
                label=plane_label(name, at if axial else None, place, alone),
                position_mm=place,
            )
        )
    if not planes:
        raise ValueError("no planes")
    voxel = content["voxel_mm"]
    if not sensible_mm(voxel):
        raise ValueError(f"voxels of {voxel.tolist()} mm")
    depth, height, width = (float(value) for value in voxel)
    return HeatPicture(
        planes=tuple(planes),
        voxel_mm=(depth, height, width),
        gray=gray_range(np.concatenate([plane.image.ravel() for plane in planes])),
        position_mm=position,
        heat=heat,
        score=score,
        attention=_floats(content["slice_attention"]) if "slice_attention" in content else None,
        score_label=example.heat.output if example.heat is not None else "",
    )


def _floats(values: NDArray[Any]) -> NDArray[np.float64]:
    if not plain_numbers(values, 1) or not np.isfinite(values).all():
        raise ValueError(f"a profile of shape {values.shape} and dtype {values.dtype}")
    return values.astype(np.float64)


def _faults(picture: HeatPicture) -> list[str]:
    faults = []
    for plane in picture.planes:
        whole = plane.image.ndim == 2 and 0 not in plane.image.shape
        if not whole or plane.image.shape != plane.heat.shape:
            faults.append(f"planes of shape {plane.image.shape} and {plane.heat.shape}")
        elif not (np.isfinite(plane.image).all() and np.isfinite(plane.heat).all()):
            faults.append("values that are not finite")
        elif plane.heat.min() < 0 or plane.heat.max() > 1:
            faults.append("heat beyond 0 to 1")
    along = [picture.heat, picture.score, picture.attention]
    if any(values is not None and len(values) != len(picture.position_mm) for values in along):
        faults.append("profiles of different lengths")
    if np.abs(picture.position_mm).max() > 1e6 or picture.heat.min() < 0 or picture.heat.max() > 1:
        faults.append("positions or heat beyond all bounds")
    return faults
