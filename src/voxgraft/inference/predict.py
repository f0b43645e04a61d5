"""Predict on new scans with a trained run, with the preprocessing that it was trained with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from voxgraft.datasets import pool_windows
from voxgraft.errors import RunError, VolumeError, VoxgraftError, raise_faults
from voxgraft.feeds import cut_windows
from voxgraft.runs import TrainedRun
from voxgraft.transforms import preprocess
from voxgraft.volumes import Volume, read_volume


def predict(
    run: TrainedRun,
    scans: Sequence[Path],
    *,
    on_scan: Callable[[Path], None] | None = None,
    on_fault: Callable[[Path, str], None] | None = None,
) -> pd.DataFrame:
    """Predict scans, one at a time.

    Args:
        run: A trained run.
        scans: Files or DICOM folders, of any supported format.
        on_scan: Told of each scan that was worked off.
        on_fault: Told of each scan that cannot be read or preprocessed, and why; the others are
            predicted then. Without it one such scan is an error.

    Returns:
        One row a scan that was predicted: ``scan``; for classes ``predicted`` (the class, or the
        labels above .5) and ``probability_<class>``; for regression ``predicted`` in the target's
        unit.

    Raises:
        VolumeError: If scans cannot be read or preprocessed; all are named, none is predicted. With
            ``on_fault`` only if none can.
    """
    check_predicts_scans(run)
    faults: list[str] = []
    done: list[str] = []
    scores: list[Float[np.ndarray, " k"]] = []
    for path in scans:
        try:
            _, prepared = read_prepared(run, Path(path))
        except VoxgraftError as error:
            faults.append(str(error))
            if on_fault is not None:
                on_fault(Path(path), str(error))
        else:
            if not faults or on_fault is not None:
                done.append(str(path))
                scores.append(score_image(run, prepared.voxels))
        if on_scan is not None:
            on_scan(Path(path))
    if faults and (on_fault is None or not done):
        raise_faults(
            VolumeError,
            f"{len(faults)} of {len(scans)} scans cannot be predicted",
            faults,
            "Mend or leave out those files; nothing was written.",
        )
    return in_words(run, done, np.stack(scores))


def check_predicts_scans(run: TrainedRun) -> None:
    """See that a run was trained on scans.

    Raises:
        RunError: If it was trained on clips of videos.
    """
    if run.recipe.clips is not None:
        raise RunError(
            f"{run.folder} was trained on clips of videos, so it predicts no scans. Give it as a "
            "source instead: `voxgraft graft`, or a start of `voxgraft compare`."
        )


def score_image(run: TrainedRun, image: Float[np.ndarray, "c d h w"]) -> Float[np.ndarray, " k"]:
    """Return the scores of one preprocessed volume: of a study seen through windows, pooled."""
    windows = run.recipe.seen_windows
    if windows is None:
        return np.asarray(score_items(run, image[None])[0])
    parts = cut_windows(image, windows, run.background_of(image))
    if windows.aggregate == "attention":
        return np.asarray(score_items(run, parts, np.zeros(len(parts), dtype=np.int64))[0])
    scores = score_items(run, parts)
    studies = np.zeros(len(parts), dtype=np.int64)
    pooled = pool_windows(scores, studies, 1, windows.aggregate, top_k=windows.top_k)
    return np.asarray(pooled[0])


def score_items(
    run: TrainedRun,
    images: Float[np.ndarray, "m c d h w"],
    bags: Int[np.ndarray, " m"] | None = None,
) -> Float[np.ndarray, "n k"]:
    """Return the scores of images, each by itself or (with bags) as windows of studies."""
    given = torch.from_numpy(np.ascontiguousarray(images, np.float32))
    with torch.inference_mode():
        logits = run.network(given, None if bags is None else torch.from_numpy(bags))
    return run.task.decode(logits)


def in_words(run: TrainedRun, scans: Sequence[str], scores: np.ndarray) -> pd.DataFrame:
    """Return predictions as a table with named classes.

    Args:
        run: The run that made them.
        scans: Names of the rows.
        scores: ``(n, k)``, as the task decodes them.
    """
    target = run.recipe.target
    frame = pd.DataFrame({"scan": list(scans)})
    if target.kind == "regression":
        frame["predicted"] = scores[:, 0]
        frame["unit"] = target.unit
        return frame
    if target.kind == "multilabel":
        frame["predicted"] = [
            ";".join(name for name, p in zip(target.columns, row, strict=True) if p >= 0.5)
            for row in scores
        ]
        for column, name in enumerate(target.columns):
            frame[f"probability_{name}"] = scores[:, column]
        return frame
    if target.kind == "binary":
        scores = np.concatenate([1.0 - scores, scores], axis=1)
    frame["predicted"] = [target.classes[index] for index in scores.argmax(axis=1)]
    for column, name in enumerate(target.classes):
        frame[f"probability_{name}"] = scores[:, column]
    return frame


def read_prepared(run: TrainedRun, path: Path) -> tuple[Volume, Volume]:
    """Read a scan and preprocess it as in training; return both.

    Raises:
        VolumeError: If it cannot be read, or has other channels than the run's.
        PreprocessingError: If it cannot be preprocessed.
    """
    scan = read_volume(path)
    prepared = preprocess(scan, run.recipe.preprocessing)
    if prepared.channels != run.volume_channels:
        raise VolumeError(
            f"{path} has {prepared.channels} channel(s); the run in {run.folder} was trained "
            f"on {run.volume_channels}. Give scans with that many channels."
        )
    return scan, prepared
