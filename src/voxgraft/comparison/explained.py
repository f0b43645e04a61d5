"""Why a network scores the example cases as it does: slices with heat, for the report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from voxgraft.errors import VoxgraftError
from voxgraft.inference import (
    Explanation,
    explain,
    load_trained,
    output_label,
    telling_planes,
)
from voxgraft.runs import RunFolder, TrainedRun
from voxgraft.types import Json
from voxgraft.volumes import Affine


class Explainer:
    """Explains studies by one run of a start: the first usable one whose weights were kept.

    What it gives for a study is what a report draws, which has no network: whole planes at the
    resolution of the stored study, their heat, and how heat and score run along the slices.
    """

    def __init__(self, folder: Path, runs: Sequence[Json]) -> None:
        """Remember the runs; the network is loaded when the first study comes.

        Args:
            folder: The comparison's folder.
            runs: The usable runs of the start whose cases are shown, in order.
        """
        self._folder = folder
        self._runs = [
            row for row in runs if RunFolder(folder / str(row["folder"])).weights_path.is_file()
        ]

    def __call__(
        self, image: Float[np.ndarray, "c d h w"], affine: Affine, row: pd.Series
    ) -> tuple[dict[str, np.ndarray], Json]:
        """Return arrays for the example's file, and what they show; or the reason for none.

        Of several classes it is the true one's score that is explained, as it is the one that the
        report tells; of several labels the first.

        Args:
            image: The preprocessed study.
            affine: Where it lies.
            row: Its predictions, with ``target_0``.
        """
        if not self._runs:
            return {}, {"reason": "no run of this start kept its weights"}
        try:
            run = self._run
            target = run.recipe.target
            output = int(row["target_0"]) if target.kind == "multiclass" else 0
            found = explain(run, image, output=output)
        except VoxgraftError as error:
            return {}, {"reason": str(error)}
        used = self._runs[0]
        return _arrays(found, image, affine), {
            "method": "Grad-CAM",
            "run": used["id"],
            "start": used["start"],
            "model": used["model"],
            "train_size": used["train_size"],
            "seed": used["seed"],
            "output": output_label(target, output),
            "score": found.score,
            "windows": len(found.windows) if found.windowed else None,
        }

    @cached_property
    def _run(self) -> TrainedRun:
        run = load_trained(self._folder / str(self._runs[0]["folder"]))
        run.network.to("cuda" if torch.cuda.is_available() else "cpu")
        return run


def _arrays(
    found: Explanation, image: Float[np.ndarray, "c d h w"], affine: Affine
) -> dict[str, np.ndarray]:
    middle = [(size - 1) / 2 for size in image.shape[2:]]
    centers = np.array([[depth, *middle] for depth in range(image.shape[1])])
    planes = telling_planes(found, image)
    arrays = {
        "planes": np.array([plane.plane for plane in planes]),
        "planes_at": np.array([plane.at for plane in planes]),
        "voxel_mm": np.asarray(affine.spacing_mm, dtype=np.float64),
        "position_mm": affine.to_world(centers)[:, 2],
        "slice_heat": found.slice_heat.astype(np.float64),
    }
    for number, plane in enumerate(planes):
        arrays[f"plane{number}"] = plane.image
        arrays[f"heat{number}"] = plane.heat
    if found.windowed:
        arrays["slice_score"] = found.slice_profile
        if found.slice_attention is not None:
            arrays["slice_attention"] = found.slice_attention
    return arrays
