"""A table's scans, segmented by a run one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from voxgraft.datasets import Table
from voxgraft.errors import InferenceError
from voxgraft.files import content_key, file_sha256, scan_sha256
from voxgraft.inference.scoring.class_names import match_names
from voxgraft.inference.scoring.predicted import Predicted, left_out
from voxgraft.inference.scoring.probabilities import segment_and_keep
from voxgraft.inference.segment import segment_scan
from voxgraft.inference.segmented import SegmentedScan, pack_masks
from voxgraft.runs import TrainedSegmentation


class RunPredictions:
    """Scans segmented by a run, as ``voxgraft predict`` does.

    Args:
        run: A trained segmentation.
        table: The cases.
        drawn: Structures that the table has.
        with_probabilities: Classes whose probabilities are kept.
        on_windows: Told of a case in work how many windows were seen, and of how many.

    Raises:
        InferenceError: If the run has no class of the table.
    """

    def __init__(
        self,
        run: TrainedSegmentation,
        table: Table,
        drawn: Sequence[str],
        with_probabilities: Sequence[str] = (),
        on_windows: Callable[[str, int, int], None] | None = None,
    ) -> None:
        matched = match_names(run.recipe.target.classes, drawn)
        self._place = {
            matched[name][0]: index
            for index, name in enumerate(run.recipe.target.classes)
            if name in matched
        }
        if not self._place:
            raise InferenceError(
                f"the run in {run.folder} segments {', '.join(run.recipe.target.classes)}; drawn "
                f"in {_named(table)} are {', '.join(drawn)}: nothing is in both. Give the table of "
                "masks that the run was made for."
            )
        self.classes = tuple(self._place)
        self.notes = left_out(
            [name for name in run.recipe.target.classes if name not in matched],
            [name for name in drawn if name not in self._place],
            by="the run",
        )
        self._run, self._table, self._on_windows = run, table, on_windows
        self._kept = tuple(name for name in with_probabilities if name in self._place)
        self._weights = content_key(
            [file_sha256(run.folder / "model.safetensors"), run.recipe.to_dict()]
        )

    def digest(self, case_id: str) -> str:
        """Return a digest of the weights, the recipe and the scan's bytes."""
        return content_key(
            [self._weights, self._kept, scan_sha256(self._table.image_path(case_id))]
        )

    def read(self, case_id: str) -> Predicted:
        """Segment a case's scan.

        Raises:
            VoxgraftError: As ``segment_scan``.
        """
        path = self._table.image_path(case_id)
        told = None if self._on_windows is None else partial(self._on_windows, case_id)
        places = [self._place[name] for name in self._kept]
        if places:
            found, seen = segment_and_keep(self._run, path, places, told)
            probabilities = seen.named(self._kept)
        else:
            found, probabilities = segment_scan(self._run, path, on_windows=told), None
        return Predicted(self._chosen(found), probabilities)

    def _chosen(self, found: SegmentedScan) -> SegmentedScan:
        if self.classes == found.classes:
            return found
        if not isinstance(found.found, np.ndarray):
            masks = ((k, found.mask(place)) for k, place in enumerate(self._place.values()))
            packed = pack_masks(masks, len(self.classes), found.shape)
            return SegmentedScan(self.classes, found.affine, packed)
        lookup = np.zeros(len(found.classes) + 1, found.found.dtype)
        for k, place in enumerate(self._place.values()):
            lookup[place + 1] = k + 1
        return SegmentedScan(self.classes, found.affine, lookup[found.found])


def _named(table: Table) -> str:
    return "the table" if table.path is None else str(table.path)
