"""Every video transformer is what it declares, in its full size, without memory."""

from __future__ import annotations

import pytest
import torch

from voxgraft.models.tokens.entries_video import ENTRIES


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_declaration_is_true(entry) -> None:
    with torch.device("meta"), torch.no_grad():
        encoder = entry.build(in_channels=2).eval()
        facts = encoder.declaration
        size = facts.preferred_size
        stages = encoder.forward_stages(torch.empty(1, 2, *size))
    assert (facts.family, facts.native, facts.reference) == (
        entry.family, "video", entry.reference,
    )  # fmt: skip
    state = encoder.state_dict()
    assert state[facts.stem].shape[1] == 2
    assert not any(key.startswith(f"{facts.head}.") for key in state)
    assert tuple(stage.shape[1] for stage in stages) == facts.feature_channels
    reductions = [[size[axis] // stage.shape[axis + 2] for axis in range(3)] for stage in stages]
    assert tuple(map(tuple, reductions)) == facts.strides
    assert stages[-1].shape[2:] == (3, 3, 3)
    assert facts.num_features == facts.feature_channels[-1]
    for table in facts.positions:
        tensor = state[table.name]
        sizes = [2 * n - 1 if table.kind == "relative" else n for n in table.grid]
        rows = tensor.shape[-2]
        assert rows == table.prefix + sizes[0] * sizes[1] * sizes[2]
        assert all(n == 1 for axis, n in enumerate(table.grid) if axis not in table.axes)
