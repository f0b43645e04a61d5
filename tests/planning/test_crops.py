"""The size and number of crops: strides, memory and need hold whatever the network and budget."""

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from voxgraft.errors import RecipeError
from voxgraft.planning import Budget, choose_crops
from voxgraft.types import Size3


@dataclass
class Straight:
    """A network whose memory grows with the voxels, by a rate."""

    steps: Size3 = (8, 8, 8)
    min_size: Size3 = (16, 16, 16)
    checkpoints: bool = True
    batchnorm: bool = False
    fixed: int = 1000
    rate: float = 1.0
    bend: float = 1.0
    asked: list[Size3] = field(default_factory=list)

    def padded(self, size: Size3) -> Size3:
        depth, height, width = (
            -(-max(n, least) // step) * step
            for n, least, step in zip(size, self.min_size, self.steps, strict=True)
        )
        return depth, height, width

    def training_bytes(
        self, crop: Size3, batch: int, *, bf16: bool = False, checkpointing: bool = False
    ) -> int:
        self.asked.append(crop)
        share = (0.6 if bf16 else 1.0) * (0.4 if checkpointing else 1.0)
        return math.ceil(self.fixed + batch * share * self.rate * math.prod(crop) ** self.bend)

    def inference_bytes(self, crop: Size3, windows: int) -> int:
        return math.ceil(self.fixed + windows * self.rate * math.prod(crop) * 0.1)


def budget(count: float) -> Budget:
    return Budget(device="cuda", bytes=int(count), bf16=False, why="made")


sizes = st.tuples(*[st.integers(10, 400)] * 3)
strides = st.tuples(*[st.sampled_from([1, 2, 4, 16, 32])] * 3)


@settings(max_examples=200, deadline=None)
@given(
    shape=sizes,
    steps=strides,
    start=st.none() | sizes,
    room=st.floats(4, 9),
    cases=st.integers(1, 100),
    batchnorm=st.booleans(),
    bend=st.sampled_from([0.9, 1.0, 1.1]),
)
def test_always(
    shape: Size3,
    steps: Size3,
    start: Size3 | None,
    room: float,
    cases: int,
    batchnorm: bool,
    bend: float,
) -> None:
    memory = Straight(steps=steps, batchnorm=batchnorm, bend=bend)
    allowed = budget(10**room)
    try:
        found = choose_crops(memory, allowed, shape, cases=cases, start_size=start)
    except RecipeError:
        least = memory.padded(memory.min_size)
        assert memory.training_bytes(least, 1, checkpointing=True) > allowed.bytes
        return
    crop = found.size_voxels
    assert all(n % step == 0 for n, step in zip(crop, steps, strict=True))
    assert found.training_bytes <= allowed.bytes
    assert found.training_bytes == memory.training_bytes(
        crop, found.batch_size, checkpointing=found.gradient_checkpointing
    )
    limit = memory.padded(shape)
    assert all(n <= most for n, most in zip(crop, limit, strict=True))
    if start is not None:
        assert all(n <= most for n, most in zip(crop, memory.padded(start), strict=True))
    else:
        assert math.prod(crop) <= 192**3
    assert found.batch_size <= min(cases, 8)
    assert found.batch_size * found.accumulate >= 2


@settings(max_examples=100, deadline=None)
@given(shape=sizes, room=st.floats(5, 8), more=st.floats(1.1, 4))
def test_more_memory_is_never_worse(shape: Size3, room: float, more: float) -> None:
    memory = Straight()
    less = 10**room
    assume(memory.training_bytes(memory.padded(memory.min_size), 2) <= less)
    small = choose_crops(memory, budget(less), shape, cases=50)
    large = choose_crops(memory, budget(less * more), shape, cases=50)
    assume(small.gradient_checkpointing == large.gradient_checkpointing)
    assume(small.batch_size >= 2 <= large.batch_size)
    assert math.prod(large.size_voxels) >= math.prod(small.size_voxels)


def test_the_largest_that_fits_is_found_with_few_measures() -> None:
    memory = Straight(bend=1.05)
    told: list[str] = []
    found = choose_crops(memory, budget(5e6), (300, 260, 200), cases=50, on_measure=told.append)
    assert len(told) == len(memory.asked) - 1  # what was chosen is known when it is asked again
    assert told[0].startswith("memory of a step of 2 × ")
    longer = [
        tuple(n + 8 * (place == axis) for place, n in enumerate(found.size_voxels))
        for axis in range(3)
    ]
    sizes_tried = set(memory.asked)
    assert found.batch_size == 2
    assert len(sizes_tried) < 12
    assert any(memory.training_bytes((a, b, c), 2) > 5e6 for a, b, c in longer)


def test_aspect_follows_the_scans() -> None:
    found = choose_crops(Straight(), budget(3e6), (320, 160, 160), cases=50)
    depth, height, width = found.size_voxels
    assert depth / height == pytest.approx(2, rel=0.15)
    assert abs(height - width) <= 8


def test_a_start_keeps_its_size_as_long_as_anything_else_helps() -> None:
    start = (96, 96, 96)
    one = 96**3 + 1000
    shape = (300, 300, 300)

    def choose(room: float, *, batchnorm: bool = False) -> tuple[Size3, int, int, bool]:
        memory = Straight(batchnorm=batchnorm)
        found = choose_crops(memory, budget(room), shape, cases=50, start_size=start)
        again = found.gradient_checkpointing
        return found.size_voxels, found.batch_size, found.accumulate, again

    assert choose(2.1 * one) == (start, 2, 1, False)
    assert choose(20 * one) == (start, 8, 1, False)
    assert choose(1.1 * one) == (start, 1, 2, False)
    assert choose(1.1 * one, batchnorm=True) == (start, 2, 1, True)
    assert choose(0.5 * one) == (start, 1, 2, True)
    smaller, *rest = choose(0.3 * one)
    assert rest == [1, 2, True]
    assert math.prod(smaller) < 96**3


def test_a_refusal_says_what_it_takes() -> None:
    with pytest.raises(RecipeError, match=r"16 × 16 × 16 voxels .* fits with gradient checkpoint"):
        choose_crops(Straight(), budget(1200), (300, 300, 300), cases=50)
