"""What a segmentation is trained with besides its classes: decoder, loss, crops, windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from voxgraft.errors import RecipeError, raise_faults
from voxgraft.models.decoders.build import DecoderKind
from voxgraft.models.decoders.unet import DecoderNorm
from voxgraft.sliding import Sliding
from voxgraft.tasks.segmentation import SegmentationLoss
from voxgraft.types import Size3


@dataclass(frozen=True, kw_only=True)
class SegmentationSettings:
    """How structures are segmented; training crops are the recipe's ``crop_size_voxels``.

    Raises:
        RecipeError: If a value is impossible; all faults are named at once.
    """

    decoder: Literal["auto"] | DecoderKind = "auto"
    """``native``: the decoder that the network was published with; ``unet``: a U-Net's, which fits
    every encoder; ``auto``: the native one where there is one."""
    decoder_norm: DecoderNorm = "instance"
    """Normalization of the U-Net's decoder."""
    decoder_width: int = 32
    """Channels of the U-Net's decoder on the volume's own grid."""
    deep_supervision: bool = False
    """Whether coarser maps of the decoder have a loss too, each half of the finer one's."""
    head: Literal["plain", "text"] = "plain"
    """``text``: each class's head is made of an embedding of its name."""
    embeddings: str | None = None
    """File of the embeddings of a text-driven head (docs/segmentation.md)."""
    overlapping: bool = False
    """Whether structures may overlap: then each has a sigmoid of its own, else all of them and the
    background one softmax."""
    loss: SegmentationLoss = "dice_ce"
    """Loss of the crops; see :mod:`voxgraft.tasks.segmentation`."""
    foreground: float = 2 / 3
    """Share of the training crops that lie around a voxel of a structure, all structures alike."""
    overlap: float = 0.5
    """Overlap of neighboring windows when whole scans are segmented, as a share of a window."""
    mirror: tuple[int, ...] = ()
    """Axes (0 depth, 1 height, 2 width) along which windows are also shown mirrored."""
    window_batch: int = 2
    """Windows that the network sees at once when whole scans are segmented."""
    validation_overlap: float = 0.25
    """Overlap when validation cases are segmented during training."""
    surface_tolerance_mm: float = 2.0
    """Tolerance of the normalized surface Dice."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        object.__setattr__(self, "mirror", tuple(self.mirror))
        faults = []
        if not 0.0 <= self.foreground <= 1.0:
            faults.append(f"foreground is {self.foreground!r}, expected a share from 0 to 1")
        faults += [
            f"{name} is {getattr(self, name)!r}, expected from 0 to below 1"
            for name in ("overlap", "validation_overlap")
            if not 0.0 <= getattr(self, name) < 1.0
        ]
        faults += [
            f"{name} is {getattr(self, name)!r}, expected at least 1"
            for name in ("window_batch", "decoder_width")
            if getattr(self, name) < 1
        ]
        if not set(self.mirror) <= {0, 1, 2} or len(set(self.mirror)) != len(self.mirror):
            faults.append(f"mirror is {self.mirror!r}, expected different axes of 0, 1 and 2")
        if not 0.0 < self.surface_tolerance_mm < float("inf"):
            faults.append(
                f"surface_tolerance_mm is {self.surface_tolerance_mm!r}, expected above 0 mm"
            )
        if (self.head == "text") != (self.embeddings is not None):
            faults.append(
                f"head is {self.head!r} and embeddings {self.embeddings!r}; a text-driven head "
                "needs the file of its embeddings, a plain one has none"
            )
        if faults:
            raise_faults(
                RecipeError,
                "these segmentation settings are impossible",
                faults,
                "Mend them in the section `segmentation` (or with --set).",
            )

    def sliding(
        self, crop_size_voxels: Size3, *, validation: bool = False, background: float = 0.0
    ) -> Sliding:
        """Return how windows of the training crops' size go over whole scans.

        Args:
            crop_size_voxels: Of the recipe.
            validation: Whether for the validation cases during training.
            background: Value around the scan, where it is smaller than a window: what crops had
                there in training (``TrainedSegmentation.sliding_over`` knows it).
        """
        return Sliding(
            window_size=crop_size_voxels,
            overlap=self.validation_overlap if validation else self.overlap,
            mirror=() if validation else self.mirror,
            batch_size=self.window_batch,
            padding_value=background,
        )
