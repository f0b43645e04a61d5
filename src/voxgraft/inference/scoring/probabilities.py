"""A scan segmented together with the probabilities of a few of its classes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt16
from scipy import ndimage

from voxgraft.inference.probabilities import FULL, Probabilities
from voxgraft.inference.segment import segment_scan
from voxgraft.inference.segmented import SegmentedScan
from voxgraft.inference.windows_seen import OnWindows
from voxgraft.runs import TrainedSegmentation
from voxgraft.volumes import Affine


@dataclass(frozen=True, eq=False)
class SeenProbabilities:
    """Probabilities on the grid that the network saw.

    Attributes:
        affine: Where that lies.
        maps: Class to (depth, height, width) in steps of 1/``FULL``.
    """

    affine: Affine
    maps: Mapping[str, UInt16[np.ndarray, "d h w"]] = field(repr=False)

    def named(self, names: Sequence[str]) -> SeenProbabilities:
        """Return the same under other names, in their order."""
        return SeenProbabilities(self.affine, dict(zip(names, self.maps.values(), strict=True)))

    def highest(self, name: str) -> float:
        """Return the highest probability of a class in the scan."""
        return float(self.maps[name].max()) / FULL

    def in_box(
        self, name: str, box: tuple[slice, slice, slice], scan_affine: Affine
    ) -> Float[np.ndarray, "D H W"]:
        """Return a class's probabilities in a box of the scan, interpolated linearly.

        Args:
            name: The class.
            box: Of the scan's own grid.
            scan_affine: Where the scan lies.

        Returns:
            float32; 0 beyond half a voxel around what the network saw.
        """
        onto = self.affine.inverse @ scan_affine.matrix
        start = np.array([side.start for side in box], np.float64)
        wide = np.pad(self.maps[name].astype(np.float32) / FULL, 1, mode="edge")
        found = ndimage.affine_transform(
            wide,
            onto[:3, :3],
            offset=onto[:3, :3] @ start + onto[:3, 3] + 1,
            output_shape=tuple(side.stop - side.start for side in box),
            output=np.float32,
            order=1,
            mode="constant",
            cval=0.0,
        )
        return np.clip(found, 0.0, 1.0, out=found)


def segment_and_keep(
    run: TrainedSegmentation,
    path: Path,
    kept: Sequence[int],
    on_windows: OnWindows | None = None,
) -> tuple[SegmentedScan, SeenProbabilities]:
    """Segment a scan as ``segment_scan`` does, and keep the probabilities of some classes.

    Args:
        run: A trained segmentation.
        path: File or DICOM folder.
        kept: Classes by their place in the run's target.
        on_windows: As for ``segment_scan``.

    Returns:
        What was found on the scan's own grid; and the probabilities (softmax, or a sigmoid where
        classes may overlap) on the network's, named by the run's classes.

    Raises:
        VoxgraftError: As ``segment_scan``.
    """
    classes, overlapping = run.recipe.target.classes, run.settings.overlapping
    with Probabilities(Path(tempfile.gettempdir())) as every:
        found = segment_scan(run, path, probabilities=every, on_windows=on_windows)
        if every.affine is None:
            raise AssertionError("a segmented scan has a grid")
        maps = {classes[index]: every.read(index if overlapping else index + 1) for index in kept}
        return found, SeenProbabilities(every.affine, maps)
