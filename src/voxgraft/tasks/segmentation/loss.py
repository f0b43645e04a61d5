"""Losses of crops with masks of some of the classes."""

from __future__ import annotations

from typing import Literal

SegmentationLoss = Literal["dice_ce", "dice_focal", "dice_ce_hausdorff"]
"""Dice with cross-entropy (softmax, or a sigmoid each where structures overlap), Dice with the
focal loss, or the first with a Hausdorff distance loss."""
