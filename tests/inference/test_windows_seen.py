"""What a bar is told of the windows of a scan: all of them, in order, and nothing else changes."""

import numpy as np
import pytest
import torch
from torch import nn

from voxgraft.inference.windows_seen import windows_told
from voxgraft.progress import Parts
from voxgraft.sliding import Sliding, segment_label_map


class Scores(nn.Module):
    """Ends in a convolution that is taken off, as heads are."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv3d(1, 2, 3, padding=1)
        self.head = nn.Conv3d(2, 5, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.body(images))
        return found


@pytest.mark.parametrize(("mirror", "batch_size"), [((), 1), ((0, 2), 1), ((1,), 3)])
def test_every_window_is_told(mirror: tuple[int, ...], batch_size: int) -> None:
    network = Scores().eval()
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 20, 17, 9)).astype("f4"))
    sliding = Sliding((8, 8, 8), overlap=0.5, mirror=mirror, batch_size=batch_size)
    told: list[tuple[int, int]] = []
    with windows_told(network, sliding, lambda *seen: told.append(seen)) as watched:
        found = segment_label_map(network, image, watched)
    assert torch.equal(found, segment_label_map(network, image, sliding))
    seen, planned = [one for one, _ in told], {every for _, every in told}
    # Windows of 8 at steps of 4: along 20 voxels 4, along 17 (the last one moved) 4, along 9 2.
    assert planned == {4 * 4 * 2 * 2 ** len(mirror)}
    assert seen == sorted(seen)
    assert seen[-1] == planned.pop()
    assert not network._forward_hooks


def test_nobody_to_tell() -> None:
    network, sliding = Scores().eval(), Sliding((8, 8, 8))
    with windows_told(network, sliding, None) as same:
        assert same is sliding


def test_parts_of_steps_add_up_to_steps() -> None:
    class Noted:
        def __init__(self) -> None:
            self.done = 0.0
            self.notes: list[str] = []

        def advance(self, steps: float = 1.0, note: str = "") -> None:
            self.done += steps
            self.notes.append(note)

    bar = Noted()
    parts = Parts(bar)
    parts.part(0.25, "a: window 1 of 4")
    parts.part(0.75)
    assert bar.done == pytest.approx(0.75)
    parts.whole("a")
    parts.whole("b")  # was there already: no window of it is seen
    parts.part(0.5)
    assert bar.done == pytest.approx(2.5)
    assert bar.notes == ["a: window 1 of 4", "", "a", "b", ""]
    bar = Noted()
    parts = Parts(bar)
    for done in range(1, 50):
        for window in range(1, 8):
            parts.part(window / 7)
        parts.whole()
        assert bar.done == done  # not a hair less, which would be shown as a step less
