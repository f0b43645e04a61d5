"""Tells how many windows of a scan a network has seen, of how many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

from torch import Tensor, nn

from voxgraft.sliding import Sliding
from voxgraft.sliding.window_plan import WindowPlan

OnWindows = Callable[[int, int], None]
"""Told how many windows of a scan the network has seen, and how many there are."""


@dataclass(frozen=True)
class _Watched(Sliding):
    """The same windows; who asks for their plan is noted."""

    on_plan: Callable[[WindowPlan], None] = lambda _: None

    def plan(self, size: Sequence[int], channels: int, *, bytes_per_value: int = 4) -> WindowPlan:
        """Plan the windows over a scan, as ``Sliding`` does."""
        found = super().plan(size, channels, bytes_per_value=bytes_per_value)
        self.on_plan(found)
        return found


@contextmanager
def windows_told(
    network: nn.Module, sliding: Sliding, on_windows: OnWindows | None
) -> Iterator[Sliding]:
    """Tell of the windows of one scan, while the block runs.

    Windows that are shown mirrored count once for each way. Where windows are skipped
    (``skip_below``) the last number is below that of all.

    Args:
        network: That sees them; it has a hook within the block.
        sliding: How windows go over the scan.
        on_windows: None tells nobody.

    Yields:
        The same settings, to be used within the block.
    """
    if on_windows is None:
        yield sliding
        return
    seen, planned = 0, 0

    def note_plan(plan: WindowPlan) -> None:
        nonlocal planned
        planned = plan.windows * 2 ** len(sliding.mirror)

    def note_windows(_: nn.Module, given: tuple[Tensor, ...], __: object) -> None:
        nonlocal seen
        seen += len(given[0])
        if planned:  # it is made once the first window was seen
            on_windows(min(seen, planned), planned)

    settings = {field.name: getattr(sliding, field.name) for field in fields(sliding)}
    hook = network.register_forward_hook(note_windows)
    try:
        yield _Watched(**settings, on_plan=note_plan)
    finally:
        hook.remove()
