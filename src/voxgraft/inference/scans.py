"""Explanations of scans: heat on the scan's own grid, and a table of its own slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import ndimage

from voxgraft.files import atomic_path
from voxgraft.inference.explain import BOXES, Explanation, Method, explain
from voxgraft.inference.outputs import find_output, likely_output
from voxgraft.inference.predict import check_predicts_scans, read_prepared, score_image
from voxgraft.runs import TrainedRun
from voxgraft.types import Size3
from voxgraft.volumes import SCAN_SUFFIXES, Affine, Volume, write_volume


@dataclass(frozen=True, eq=False)
class ExplainedScan:
    """A scan, what the network was shown of it, and why it scores it as it does."""

    scan: Volume
    """As it was read."""
    prepared: Volume
    """As the network was shown it, RAS+."""
    explanation: Explanation
    heat: Volume
    """float32 from 0 to 1 on the scan's own grid; 0 beyond what the network was shown."""
    slices: pd.DataFrame
    """A row a slice of the scan: ``slice`` (from 0, in the order of the file); ``position_mm``
    of its center along the axis of the slices, growing to superior, anterior or right; ``score``
    and ``attention`` of the windows that hold it, see
    :attr:`~voxgraft.inference.explain.Explanation.slice_profile`; ``heat``, the largest in it.
    Score and attention are missing where the network was shown nothing of the slice, and in scans
    whose slices do not lie across the body's long axis, along which windows run."""


def explain_scan(
    run: TrainedRun,
    path: Path,
    *,
    output: str | None = None,
    method: Method = "grad_cam",
    boxes: Size3 = BOXES,
) -> ExplainedScan:
    """Read a scan, preprocess it as in training, and explain its score.

    Args:
        run: A trained run.
        path: A file or DICOM folder.
        output: Name of the class or label to explain; None takes the likeliest (of a binary
            target the second class, of a regression its value).
        method: As for :func:`~voxgraft.inference.explain.explain`.
        boxes: Likewise.

    Raises:
        VolumeError: If the scan cannot be read or has other channels than the run's.
        PreprocessingError: If it cannot be preprocessed.
        InferenceError: If it cannot be explained, see ``explain``.
        RunError: If the run was trained on clips of videos.
    """
    check_predicts_scans(run)
    target = run.recipe.target
    named = None if output is None else find_output(target, output)
    scan, prepared = read_prepared(run, path)
    if named is None:
        several = target.kind in ("multiclass", "multilabel")
        named = likely_output(target, score_image(run, prepared.voxels)) if several else 0
    found = explain(run, prepared.voxels, output=named, method=method, boxes=boxes)
    heat = heat_on_scan(found.heat, prepared.affine, scan)
    return ExplainedScan(scan, prepared, found, heat, _slices(scan, prepared, found, heat))


def heat_on_scan(heat: Float[np.ndarray, "d h w"], affine: Affine, scan: Volume) -> Volume:
    """Bring heat back onto a scan's own grid, by world position, interpolated linearly.

    Args:
        heat: On a preprocessed grid.
        affine: Where that grid lies.
        scan: The scan; its voxels are not looked at.
    """
    onto = affine.inverse @ scan.affine.matrix
    # The outermost voxels reach beyond their centers: half a voxel is kept around the grid.
    wide = np.pad(heat, 1, mode="edge")
    voxels = ndimage.affine_transform(
        wide,
        onto[:3, :3],
        offset=onto[:3, 3] + 1,
        output_shape=scan.shape,
        output=np.float32,
        order=1,
        mode="constant",
        cval=0.0,
    )
    return Volume(voxels[None], scan.affine)


def scan_slice_of(scan: Volume, prepared: Volume, depth: int) -> int | None:
    """Return the scan's slice that a preprocessed one lies in; None where it cuts through them."""
    if not _along(scan, prepared):
        return None
    middle = [depth, *((size - 1) / 2 for size in prepared.shape[1:])]
    place = scan.affine.to_index(prepared.affine.to_world(np.array(middle)))
    return int(np.clip(np.rint(place[0]), 0, scan.shape[0] - 1))


def scans_in(paths: Sequence[Path]) -> list[Path]:
    """Return the paths, and of a folder of scan files (not of a DICOM series) its files instead.

    A folder is one of scan files if some of its files end as those do, and no other file may be
    DICOM (``.dcm``, ``.ima`` or no suffix). Hidden files, and folders within, do not count.
    """
    found: list[Path] = []
    for path in paths:
        inner = sorted(path.iterdir()) if path.is_dir() else []
        files = [each for each in inner if each.is_file() and not each.name.startswith(".")]
        scans = [each for each in files if each.name.casefold().endswith(SCAN_SUFFIXES)]
        series = any(each.suffix.casefold() in ("", ".dcm", ".ima") for each in files)
        found += scans if scans and not series else [path]
    return found


def names_of_scans(paths: Sequence[Path]) -> list[str]:
    """Return a name for the files of each scan, all different, also where case does not count.

    It is the scan's file name without suffix (of a DICOM folder, its name); where several scans
    have the same, their folders' names stand before it, and last a number after it.
    """
    plain = [_stem(path) for path in paths]
    folded = [name.casefold() for name in plain]
    longer = [
        f"{path.resolve().parent.name}_{name}" if folded.count(name.casefold()) > 1 else name
        for path, name in zip(paths, plain, strict=True)
    ]
    taken: set[str] = set()
    names = []
    for name in longer:
        candidate, number = name, 2
        while candidate.casefold() in taken:
            candidate, number = f"{name}_{number}", number + 1
        taken.add(candidate.casefold())
        names.append(candidate)
    return names


def write_explained(found: ExplainedScan, folder: Path, name: str) -> list[Path]:
    """Write ``NAME_heat.nii.gz`` and ``NAME_slices.csv``, and return their paths.

    Raises:
        VolumeError: If the heat cannot be written.
    """
    heat, slices = folder / f"{name}_heat.nii.gz", folder / f"{name}_slices.csv"
    write_volume(found.heat, heat)
    with atomic_path(slices) as temporary:
        found.slices.to_csv(temporary, index=False, float_format="%.6g")
    return [heat, slices]


def _stem(path: Path) -> str:
    name = path.resolve().name
    for suffix in sorted(SCAN_SUFFIXES, key=len, reverse=True):
        if name.casefold().endswith(suffix) and len(name) > len(suffix) and not path.is_dir():
            return name[: -len(suffix)]
    return name or "scan"


def _along(scan: Volume, prepared: Volume) -> bool:
    """Return whether the scan's slices lie across the axis along which windows run."""
    step = (prepared.affine.inverse @ scan.affine.matrix)[:3, 0]
    return int(np.argmax(np.abs(step) * np.asarray(prepared.spacing_mm))) == 0


def _slices(scan: Volume, prepared: Volume, found: Explanation, heat: Volume) -> pd.DataFrame:
    count = scan.shape[0]
    centers = np.array(
        [[place, *((size - 1) / 2 for size in scan.shape[1:])] for place in range(count)]
    )
    axis = scan.affine.direction[:, 0]
    axis = axis * np.sign(axis[np.abs(axis).argmax()])
    frame = pd.DataFrame(
        {"slice": np.arange(count), "position_mm": scan.affine.to_world(centers) @ axis}
    )
    score, attention = np.full(count, np.nan), np.full(count, np.nan)
    if _along(scan, prepared):
        inside = prepared.affine.to_index(scan.affine.to_world(centers))[:, 0]
        thick = abs((prepared.affine.inverse @ scan.affine.matrix)[0, 0])
        stored = np.arange(prepared.shape[0])
        profile, own = found.slice_profile, found.slice_attention
        for place, center in enumerate(inside):
            held = np.abs(stored - center) <= max(0.5, thick / 2) + 1e-6
            if held.any():
                score[place] = profile[held].max()
                attention[place] = np.nan if own is None else own[held].max()
    frame["score"], frame["attention"] = score, attention
    frame["heat"] = heat.voxels[0].max(axis=(1, 2))
    return frame
