"""Windows of studies as batches: one window an item, or a study's windows as a bag."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from voxgraft.datasets import SliceLabels
from voxgraft.datasets.windows import Windows, pool_windows, window_labels
from voxgraft.errors import StoreError, TableError
from voxgraft.feeds.kept import KeptVolumes, cut
from voxgraft.feeds.prefetch import Batch, Feed
from voxgraft.feeds.volumes import check_channels, crop_start
from voxgraft.store import Prepared

_PLANE = 0x706C616E
_DRAW = 0x77696E64
"""Set the random streams of crops in the plane, and of a bag's windows, apart."""
_BAG_VOXELS = 2**26


class WindowFeed(Feed):
    """Serves the windows that cover each study.

    With attention an item is a study and a batch has bags: in training at most
    ``windows.per_study`` windows of each, drawn anew at every step, otherwise all. Else an item is
    a window, and scores of studies are pooled from those of their windows.
    """

    def __init__(
        self,
        prepared: Prepared,
        case_ids: Sequence[str],
        targets: Float[np.ndarray, "n k"],
        windows: Windows,
        *,
        slice_labels: SliceLabels | None = None,
        training: bool = False,
        seed: int = 0,
        memory_budget_mib: float = 2048,
        threads: int = 2,
    ) -> None:
        """Lay out the windows and their labels; no volume is read yet.

        Args:
            prepared: Where the volumes are.
            case_ids: The studies.
            targets: (n, K), a row a study.
            windows: How studies are covered.
            slice_labels: Labels slice by slice; windows of studies without take the study's.
            training: Whether places in the plane, and the windows of a bag, are drawn at random.
            seed: Of what is random.
            memory_budget_mib: For volumes that are kept, in MiB; 0 keeps none.
            threads: That make batches.

        Raises:
            StoreError: If a case is unknown, or targets or channels do not match.
            TableError: If slice labels do not fit a scan.
        """
        values = np.asarray(targets, dtype=np.float64)
        if values.ndim != 2 or len(values) != len(case_ids):
            raise StoreError(
                f"targets have shape {values.shape} for {len(case_ids)} cases. "
                "Expected numbers of shape (cases, targets)."
            )
        self.prepared = prepared
        self.case_ids = tuple(case_ids)
        self.windows = windows
        self.starts = tuple(windows.starts(prepared.shape(case)[1]) for case in self.case_ids)
        """First slice of each window, a tuple a study."""
        self.studies = np.repeat(np.arange(len(self.starts)), [len(own) for own in self.starts])
        """Which study each window is of."""
        self._first = np.concatenate([np.asarray(own) for own in self.starts] or [np.empty(0)])
        self._bags = windows.aggregate == "attention"
        labels = values
        if not self._bags:
            labels = np.concatenate(
                [self._labels(position, values, slice_labels) for position in range(len(values))]
                or [values]
            )
        super().__init__(labels, threads=threads)
        check_channels(prepared, self.case_ids)
        self._case_targets = torch.from_numpy(values.astype(np.float32))
        self._training = training
        self._seed = seed
        self._kept = KeptVolumes(prepared, self.case_ids, memory_budget_mib)

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """(channels, depth, height, width) of a window."""
        channels = self.prepared.shape(self.case_ids[0])[0]
        return (channels * (2 * self.windows.neighbors + 1), *self.windows.size_voxels)

    @property
    def case_targets(self) -> Tensor:
        """Targets (n, K) of the studies."""
        return self._case_targets

    @property
    def evaluation_batch_size(self) -> int:
        """Items in one batch of an evaluation: of bags, as many studies as memory allows."""
        if not self._bags:
            return super().evaluation_batch_size
        most = max(len(own) for own in self.starts)
        return max(1, min(16, _BAG_VOXELS // (most * int(np.prod(self.image_shape)))))

    def pool(self, scores: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "n k"]:
        """Return the scores of studies from those of all windows."""
        if self._bags:
            return scores
        windows = self.windows
        return pool_windows(
            scores, self.studies, len(self.case_ids), windows.aggregate, top_k=windows.top_k
        )

    def _labels(
        self,
        position: int,
        targets: Float[np.ndarray, "n k"],
        slice_labels: SliceLabels | None,
    ) -> Float[np.ndarray, "windows k"]:
        windows, starts = self.windows, self.starts[position]
        if windows.labels == "slices" and slice_labels is not None:
            positive = stored_slice_labels(self.prepared, self.case_ids[position], slice_labels)
            if positive is not None:
                return window_labels(
                    positive, starts, windows.size_voxels[0], windows.min_positive_slices
                )
        return np.repeat(targets[position : position + 1], len(starts), axis=0)

    def _batch(self, step: int, positions: Int[np.ndarray, " b"]) -> Batch:
        if not self._bags:
            images = self._images(step, self.studies[positions], self._first[positions])
            return Batch(images, self._targets_at(positions))
        chosen = [self._chosen(step, place, study) for place, study in enumerate(positions)]
        studies = np.repeat(positions, [len(own) for own in chosen])
        bags = np.repeat(np.arange(len(positions)), [len(own) for own in chosen])
        images = self._images(step, studies, np.concatenate(chosen))
        return Batch(images, self._targets_at(positions), torch.from_numpy(bags))

    def _chosen(self, step: int, place: int, study: int) -> Int[np.ndarray, " w"]:
        starts = np.asarray(self.starts[study])
        if not self._training or len(starts) <= self.windows.per_study:
            return starts
        entropy = (int(self._seed) % 2**64, step, place, _DRAW)
        drawn = np.random.default_rng(entropy).choice(len(starts), self.windows.per_study, False)
        return np.asarray(starts[np.sort(drawn)])

    def _images(
        self, step: int, studies: Int[np.ndarray, " m"], starts: Int[np.ndarray, " m"]
    ) -> Float[Tensor, "m c d h w"]:
        neighbors = self.windows.neighbors
        _, depth, height, width = self.image_shape
        channels = self.prepared.shape(self.case_ids[0])[0]
        images = np.empty((len(studies), *self.image_shape), dtype=np.float32)
        for place, (study, first) in enumerate(zip(studies, starts, strict=True)):
            shape = self.prepared.shape(self.case_ids[study])[1:]
            draw = (self._seed, step, place, _PLANE) if self._training else None
            _, top, left = crop_start(shape, (depth, height, width), draw)
            if not neighbors:
                self._kept.fill(images[place], int(study), (int(first), top, left))
                continue
            wide = np.empty((channels, depth + 2 * neighbors, height, width), dtype=np.float32)
            self._kept.fill(wide, int(study), (int(first) - neighbors, top, left))
            for shift in range(2 * neighbors + 1):
                part = slice(shift * channels, (shift + 1) * channels)
                images[place, part] = wide[:, shift : shift + depth]
        return torch.from_numpy(images)


def stored_slice_labels(
    prepared: Prepared, case_id: str, slice_labels: SliceLabels
) -> Bool[np.ndarray, "depth k"] | None:
    """Return which slices of a stored volume are positive; None without slice annotation.

    A stored slice is positive where a positive slice of the scan has its center in it; where none
    of the scan's slices has (the stored ones are thinner), where the nearest one is. Beyond the
    scan (padding) no slice is positive.

    Raises:
        TableError: If a label lies beyond the scan, or the scan's slices are not axial, so that
            windows along the body's axis cut through them.
        StoreError: If the stored volume is gone or damaged.
    """
    scan = prepared.scan(case_id)
    raw = slice_labels.positive(case_id, scan.shape[0])
    if raw is None:
        return None
    depth = prepared.shape(case_id)[1]
    middle = [(size - 1) / 2 for size in scan.shape[1:]]
    centers = np.array([[place, *middle] for place in range(scan.shape[0])], dtype=np.float64)
    inverse = np.linalg.inv(prepared.affine(case_id).matrix)
    homogeneous = np.concatenate([centers, np.ones((len(centers), 1))], axis=1)
    stored = (inverse @ scan.affine.matrix @ homogeneous.T).T[:, :3]
    if len(stored) > 1:
        steps = np.abs(stored[-1] - stored[0]) * np.asarray(prepared.affine(case_id).spacing_mm)
        if steps[0] < max(steps[1:]):
            raise TableError(
                f"case {case_id!r}: its slices run along "
                f"{('depth', 'height', 'width')[int(steps.argmax())]} of the body, not from feet "
                "to head, so windows of slices cannot have its labels. Set windows.labels: study, "
                "or leave the case out."
            )
    along = stored[:, 0]
    found = np.zeros((depth, raw.shape[1]), dtype=bool)
    thick = abs(along[1] - along[0]) if len(along) > 1 else 1.0
    for place in range(depth):
        apart = np.abs(along - place)
        inside = apart <= 0.5
        if inside.any():
            found[place] = raw[inside].any(axis=0)
        elif apart.min() <= max(0.5, thick / 2) + 1e-6:
            found[place] = raw[int(apart.argmin())]
    return found


def cut_windows(
    volume: Float[np.ndarray, "c d h w"], windows: Windows, background: float
) -> Float[np.ndarray, "m e i j k"]:
    """Return all windows of one preprocessed volume, in the center of the plane, float32.

    Args:
        volume: A preprocessed study.
        windows: How it is covered.
        background: Value of what lies outside of it.
    """
    shape = volume.shape[1:]
    size, near = windows.size_voxels, windows.neighbors
    _, top, left = crop_start((shape[0], shape[1], shape[2]), size, None)
    starts = windows.starts(shape[0])
    wide = (size[0] + 2 * near, size[1], size[2])
    parts = np.full((len(starts), volume.shape[0], *wide), background, dtype=np.float32)
    for part, first in zip(parts, starts, strict=True):
        inside, place = cut(volume, (first - near, top, left), wide)
        part[place] = inside
    shifted = [parts[:, :, shift : shift + size[0]] for shift in range(2 * near + 1)]
    return np.concatenate(shifted, axis=1)
