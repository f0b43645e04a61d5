"""Batch normalization with another epsilon, made exact by its variance."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ShiftVariance:
    """Add to running variances what the source's epsilon is larger than the model's.

    Normalization divides by ``sqrt(variance + epsilon)``: with the difference in the variance, the
    network computes the same in evaluation. In training it goes by the statistics of the batch
    and the model's own epsilon, as any fine-tuned network does.
    """

    pattern: str
    """Regular expression of the names of running variances."""
    difference: float
    """The source's epsilon less the model's, at least 0."""

    def adapt(self, name: str, tensor: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, str] | None:
        """Return the adapted tensor and how, or None if the rule has nothing to do."""
        if re.fullmatch(self.pattern, name) is None:
            return None
        return tensor + self.difference, f"variance + {self.difference:.3g} for another epsilon"
