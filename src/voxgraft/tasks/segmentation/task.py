"""A segmentation's task: outputs, loss and primary metric of a target of structures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from voxgraft.datasets.target import Target
from voxgraft.errors import TaskError, raise_faults
from voxgraft.metrics.table import Metric, Scored, get_metric, score_all
from voxgraft.tasks.segmentation.levels import coarser_labels, level_weights
from voxgraft.tasks.segmentation.loss import SEGMENTATION_LOSSES, SegmentationLoss, crop_loss
from voxgraft.types import Json, Size3

PRIMARY_METRICS = ("dice", "surface_dice", "hausdorff95_mm", "volume_error")
"""What training of a segmentation may select by; the first unless said otherwise."""


class SegmentationTask:
    """Outputs, loss and primary metric of a target of structures.

    Without overlaps there is one softmax over the background (channel 0) and the K classes
    (channel k + 1 is class k); with overlaps each of K channels has a sigmoid of its own.
    """

    def __init__(
        self,
        target: Target,
        *,
        loss: SegmentationLoss,
        overlapping: bool,
        deep_supervision: bool,
        primary: str,
    ) -> None:
        """Put the parts together; use :func:`build_segmentation_task`."""
        self.target = target
        self.kind = loss
        self.overlapping = overlapping
        self.deep_supervision = deep_supervision
        self.outputs = len(target.classes) + (not overlapping)
        self._primary = primary
        self._annotated: tuple[int, ...] | None = None

    @property
    def primary(self) -> Metric:
        """The metric that training selects by and a comparison tests."""
        return get_metric(self._primary)

    @property
    def higher_is_better(self) -> bool:
        """Direction of the primary metric."""
        return self.primary.higher_is_better

    @property
    def annotated(self) -> tuple[int, ...]:
        """How many training cases annotate each class.

        Raises:
            TaskError: If ``fit`` was not called.
        """
        if self._annotated is None:
            raise TaskError(
                "the task of this segmentation was not fitted. Call task.fit(known) first, with "
                "the classes that each training case annotates."
            )
        return self._annotated

    def fit(self, known: Bool[np.ndarray, "n k"]) -> SegmentationTask:
        """Take from the training cases alone which classes can be learnt.

        Args:
            known: Which classes each training case annotates, as bool or 0 and 1.

        Returns:
            This task.

        Raises:
            TaskError: If a class is annotated by no case, or ``known`` does not fit the target.
        """
        found = np.asarray(known)
        classes = self.target.classes
        if found.ndim != 2 or found.shape[1] != len(classes) or len(found) == 0:
            raise TaskError(
                f"which classes the training cases annotate has the shape {found.shape}, expected "
                f"(n, {len(classes)}) with n > 0: a row for each case, a column for each class."
            )
        if not np.isin(found, (0, 1)).all():
            raise TaskError(
                "which classes the training cases annotate holds "
                f"{np.setdiff1d(found, (0, 1))[:5].tolist()}, expected 0 and 1 only."
            )
        counts = found.astype(bool).sum(axis=0)
        missing = [
            f"{name!r} is annotated by none of {len(found)} training cases"
            for name, count in zip(classes, counts, strict=True)
            if count == 0
        ]
        if missing:
            raise_faults(
                TaskError,
                f"{len(missing)} of {len(classes)} classes cannot be learnt",
                missing,
                "Leave them out of the target's classes, or train with cases that annotate them.",
                shown=len(missing),
            )
        self._annotated = tuple(int(count) for count in counts)
        return self

    def initial_bias(self) -> Float[Tensor, " o"]:
        """Return the bias that a new head begins with: zeros.

        All classes begin alike. The share of voxels that a small structure has would make its
        probability, and with it the gradient of its Dice, begin near zero.
        """
        return torch.zeros(self.outputs)

    def loss(
        self,
        outputs: Float[Tensor, "b o d h w"] | Sequence[Tensor],
        labels: Int[Tensor, "b l d h w"],
        known: Tensor,
        *,
        strides: Sequence[Size3] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the loss of a batch of crops; see :func:`crop_loss`.

        Coarser outputs weigh half of the next finer ones, in all 1. Their labels are those of the
        voxels in the middle of what each coarse voxel stands for. The Hausdorff loss is of the
        finest outputs alone.

        Args:
            outputs: Logits; or those of several levels, finest first.
            labels: 0 none of the layer's structures, k + 1 class k, -1 (first layer) unknown of
                all.
            known: ``(b, k)``, not 0 where a case annotates the class.
            strides: Of each level against the volume (``SegmentationNetwork.level_strides``);
                None infers them from the sizes.

        Raises:
            TaskError: If shapes do not fit the task or each other.
        """
        levels = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        self._check(levels, labels, known, strides)
        parts = []
        for place, (logits, weight) in enumerate(
            zip(levels, level_weights(len(levels)), strict=True)
        ):
            stride = None if strides is None else strides[place]
            own = coarser_labels(labels, logits.shape[2:], stride) if place else labels
            parts.append(
                weight
                * crop_loss(
                    logits,
                    own,
                    known > 0,
                    kind=self.kind,
                    overlapping=self.overlapping,
                    surfaces=place == 0,
                )
            )
        return torch.stack(parts).sum()

    def metrics(
        self, target: Float[np.ndarray, "n k"], score: Float[np.ndarray, "n s"]
    ) -> dict[str, Scored]:
        """Score cases with every metric of segmentations.

        Args:
            target: 1 where a case has the structure, 0 where not, NaN where not annotated.
            score: What was measured of each case, in the order of the metrics' columns.
        """
        return score_all("segmentation", target, score)

    def to_dict(self) -> Json:
        """Return the task's settings, to build it again by :meth:`restore`."""
        return {
            "loss": self.kind,
            "overlapping": self.overlapping,
            "deep_supervision": self.deep_supervision,
            "primary": self._primary,
            "annotated": None if self._annotated is None else list(self._annotated),
        }

    @staticmethod
    def restore(target: Target, data: Json) -> SegmentationTask:
        """Build the task of a trained network again.

        Args:
            target: The target that it was built for.
            data: What :meth:`to_dict` returned.

        Raises:
            TaskError: If a key is missing or a value does not fit.
        """
        keys = ("loss", "overlapping", "deep_supervision", "primary", "annotated")
        if not isinstance(data, dict) or set(data) != set(keys):
            raise TaskError(
                f"the record of a segmentation's task is {data!r:.200}, expected an object with "
                f"the keys {', '.join(keys)}. Take the file from the training's folder again."
            )
        settings = {key: data[key] for key in keys[:-1]}
        task = build_segmentation_task(target, **settings)
        counts = data["annotated"]
        if counts is not None:
            if not isinstance(counts, list) or len(counts) != len(target.classes):
                raise TaskError(
                    f"the record of a segmentation's task says of `annotated` {counts!r:.200}, "
                    f"expected {len(target.classes)} numbers of cases. Take the file from the "
                    "training's folder again."
                )
            task._annotated = tuple(int(count) for count in counts)
        return task

    def _check(
        self,
        levels: Sequence[Tensor],
        labels: Tensor,
        known: Tensor,
        strides: Sequence[Size3] | None,
    ) -> None:
        classes = len(self.target.classes)
        faults = []
        if not levels:
            faults.append("there are no outputs")
        if labels.ndim != 5 or 0 in labels.shape:
            faults.append(f"labels have the shape {tuple(labels.shape)}, expected (b, l, d, h, w)")
        if known.shape != (len(labels), classes):
            faults.append(
                f"known has the shape {tuple(known.shape)}, expected ({len(labels)}, {classes})"
            )
        if strides is not None and len(strides) != len(levels):
            faults.append(f"there are {len(strides)} strides for {len(levels)} levels of outputs")
        size = tuple(labels.shape[2:])
        for place, logits in enumerate(levels):
            fits = logits.ndim == 5 and tuple(logits.shape[:2]) == (len(labels), self.outputs)
            if labels.ndim != 5:
                own_grid = True  # There is no grid to be on; that is said above.
            elif place:
                own_grid = fits and all(
                    0 < own <= edge for own, edge in zip(logits.shape[2:], size, strict=True)
                )
            else:
                own_grid = tuple(logits.shape[2:]) == size
            if not (fits and own_grid):
                faults.append(
                    f"outputs of level {place} have the shape {tuple(logits.shape)}, expected "
                    f"({len(labels)}, {self.outputs}, ...) "
                    + ("on no finer grid than " if place else "on the grid ")
                    + f"{size}"
                )
        if faults:
            raise_faults(
                TaskError,
                f"the loss of a segmentation of {classes} classes does not fit",
                faults,
                f"Build the network with outputs={self.outputs}, and batches for the same target.",
            )


def build_segmentation_task(
    target: Target,
    *,
    loss: SegmentationLoss = "dice_ce",
    overlapping: bool = False,
    deep_supervision: bool = False,
    primary: str | None = None,
) -> SegmentationTask:
    """Build the task of a target of structures.

    Args:
        target: Of kind ``"segmentation"``; its classes are the structures, without background.
        loss: ``"dice_ce"``, ``"dice_focal"`` or ``"dice_ce_hausdorff"``.
        overlapping: Whether structures may overlap.
        deep_supervision: Whether coarser outputs have a loss too.
        primary: Metric that training selects by and a comparison tests; ``"dice"`` if None.

    Raises:
        TaskError: If a setting is impossible; all faults at once.
    """
    faults = []
    if target.kind != "segmentation":
        faults.append(f"the target is of kind {target.kind!r}, expected 'segmentation'")
    if loss not in SEGMENTATION_LOSSES:
        faults.append(f"loss is {loss!r}, expected one of {', '.join(SEGMENTATION_LOSSES)}")
    if primary is not None and primary not in PRIMARY_METRICS:
        faults.append(f"primary is {primary!r}, expected one of {', '.join(PRIMARY_METRICS)}")
    faults += [
        f"{name} is {value!r}, expected true or false"
        for name, value in (("overlapping", overlapping), ("deep_supervision", deep_supervision))
        if not isinstance(value, bool)
    ]
    if faults:
        raise_faults(
            TaskError,
            "the task of this segmentation is impossible",
            faults,
            "Mend these settings in the recipe's section `segmentation`.",
        )
    return SegmentationTask(
        target,
        loss=loss,
        overlapping=overlapping,
        deep_supervision=deep_supervision,
        primary=primary or PRIMARY_METRICS[0],
    )
