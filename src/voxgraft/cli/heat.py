"""The files of ``voxgraft predict --explain``: heat, slices and a picture of each scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from voxgraft.errors import UsageError

if TYPE_CHECKING:
    from voxgraft.inference import ExplainedScan
    from voxgraft.inference.explain import Method
    from voxgraft.reports.heat import HeatPicture
    from voxgraft.runs import TrainedRun

METHOD_WORDS: dict[Method, str] = {"grad_cam": "Grad-CAM", "occlusion": "occlusion"}


def method_named(text: str) -> Method:
    """Return a method of explanation by what a person calls it.

    Raises:
        UsageError: If there is none.
    """
    for method in METHOD_WORDS:
        if text.replace("-", "_").lower() == method:
            return method
    raise UsageError(f"--explain-method {text}: expected grad_cam or occlusion.")


def explain_to(
    folder: Path,
    run: TrainedRun,
    scans: Sequence[Path],
    *,
    method: Method,
    output: str | None,
    on_scan: Callable[[Path], None],
) -> list[str]:
    """Explain each scan and write ``NAME_heat.nii.gz``, ``NAME_slices.csv`` and ``NAME.png``.

    Returns:
        The name of each scan's files.

    Raises:
        VoxgraftError: If a scan cannot be explained, or a file cannot be written.
    """
    from voxgraft.inference import explain_scan, names_of_scans, write_explained
    from voxgraft.reports.heat import write_heat_png

    folder.mkdir(parents=True, exist_ok=True)
    names = names_of_scans(scans)
    for path, name in zip(scans, names, strict=True):
        found = explain_scan(run, path, output=output, method=method)
        write_explained(found, folder, name)
        write_heat_png(_picture(run, found), folder / f"{name}.png", _title(run, found, name))
        on_scan(path)
    return names


def _title(run: TrainedRun, found: ExplainedScan, name: str) -> str:
    from voxgraft.inference import output_label
    from voxgraft.reports.wording import short

    label = output_label(run.recipe.target, found.explanation.output)
    words = METHOD_WORDS[found.explanation.method]
    score = f"{found.explanation.score:.3g}"
    return f"{short(name, 48)}: {short(label)} {score}\n{words}, run {short(run.folder.name, 60)}"


def _picture(run: TrainedRun, found: ExplainedScan) -> HeatPicture:
    import numpy as np

    from voxgraft.inference import output_label, scan_slice_of, telling_planes
    from voxgraft.reports.heat import HeatPicture, HeatPlane, gray_range, plane_label

    prepared, explained = found.prepared, found.explanation
    middle = [(size - 1) / 2 for size in prepared.shape[1:]]
    centers = np.array([[depth, *middle] for depth in range(prepared.shape[0])])
    positions = prepared.affine.to_world(centers)[:, 2]
    score = explained.slice_profile if explained.windowed else None
    planes = []
    for plane in telling_planes(explained, prepared.voxels):
        axial = plane.plane == "axial"
        position = float(positions[plane.at]) if axial else None
        label = plane_label(
            plane.plane,
            scan_slice_of(found.scan, prepared, plane.at) if axial else None,
            position,
            None if score is None or not axial else float(score[plane.at]),
        )
        planes.append(HeatPlane(plane.plane, plane.image, plane.heat, label, position))
    return HeatPicture(
        planes=tuple(planes),
        voxel_mm=prepared.spacing_mm,
        gray=gray_range(prepared.voxels[0]),
        position_mm=positions,
        heat=explained.slice_heat,
        score=score,
        attention=explained.slice_attention,
        score_label=output_label(run.recipe.target, explained.output),
    )
