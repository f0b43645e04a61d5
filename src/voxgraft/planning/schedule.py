"""How long a training is, by its cases."""

from __future__ import annotations

import math
from dataclasses import dataclass

from voxgraft.planning.decision import Decision

FINE_TUNING_CROPS = 200
"""Crops of each case that a fine-tuning sees: SuPreM's code goes 201 times over the cases, with one
crop each."""
SCRATCH_CROPS = 800
"""Crops of each case that a training from scratch sees: SuPreM's code pre-trains for 800 epochs."""
MOST_CROPS = 500_000
"""Crops in all, at most: nnU-Net's 1,000 epochs of 250 steps with two crops."""
FEWEST_STEPS = 2_500
"""Steps, at least: ten of nnU-Net's epochs. With few cases the head, which is new, needs them."""
EVALUATIONS = 20
"""Evaluations on the validation cases, evenly spread."""
FINE_TUNING_RATE = 1e-4
"""AdamW's rate in SuPreM's fine-tunings."""
SCRATCH_RATE = 1e-3
"""AdamW's rate in SuPreM's pre-training, from random weights."""
WEIGHT_DECAY = 1e-5
"""AdamW's weight decay, likewise."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Steps and rate of a training."""

    steps: int
    eval_every: int
    learning_rate: float
    weight_decay: float


def decide_schedule(cases: int, in_update: int, *, pretrained: bool) -> tuple[Schedule, Decision]:
    """Decide on steps and rate.

    Args:
        cases: Training cases.
        in_update: Crops in an update.
        pretrained: Whether there is a start.

    Source: Li et al., ICLR 2024, and its code; Isensee et al., nnU-Net, 2021.
    """
    each = FINE_TUNING_CROPS if pretrained else SCRATCH_CROPS
    crops = min(each * cases, MOST_CROPS)
    steps = max(math.ceil(crops / in_update), FEWEST_STEPS)
    rate = FINE_TUNING_RATE if pretrained else SCRATCH_RATE
    after = "SuPreM's fine-tuning" if pretrained else "SuPreM's pre-training"
    why = f"{each} crops of each training case, as in {after}"
    if steps == FEWEST_STEPS:
        why += f"; at least {FEWEST_STEPS:,}, ten of nnU-Net's epochs"
    elif crops == MOST_CROPS:
        why += f"; at most {MOST_CROPS:,} crops, nnU-Net's 1,000 epochs"
    decision = Decision(
        what="steps",
        value=f"{steps:,} of {in_update} crops, AdamW at {rate:g}",
        why=why,
        from_data=f"training cases: {cases}",
    )
    schedule = Schedule(
        steps=steps,
        eval_every=math.ceil(steps / EVALUATIONS),
        learning_rate=rate,
        weight_decay=WEIGHT_DECAY,
    )
    return schedule, decision
