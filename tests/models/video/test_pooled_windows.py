"""Feature vectors over windows, as PyTorchVideo's heads have them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from voxgraft.errors import ModelError
from voxgraft.models import MODELS, build_encoder, model_options
from voxgraft.models.layers.pooling import GlobalPool3d, WindowPool3d
from voxgraft.models.video.residual_network import build_residual_network

OF_THE_HUB = ("slow_r50", "c2d_r50", "i3d_r50", "r2plus1d_r50", "csn_r101")


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_windows_are_averaged_and_then_their_means(data: st.DataObject) -> None:
    window = data.draw(st.tuples(*[st.integers(1, 4)] * 3))
    size = data.draw(st.tuples(*[st.integers(1, 6)] * 3))
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    fitting = [min(n, m) for n, m in zip(window, size, strict=True)]
    means = [
        x[:, :, d : d + fitting[0], h : h + fitting[1], w : w + fitting[2]].mean((2, 3, 4))
        for d in range(size[0] - fitting[0] + 1)
        for h in range(size[1] - fitting[1] + 1)
        for w in range(size[2] - fitting[2] + 1)
    ]
    found = WindowPool3d(window)(x)
    torch.testing.assert_close(found, torch.stack(means).mean(0))
    if all(m <= n for n, m in zip(window, size, strict=True)):
        torch.testing.assert_close(found, x.mean((2, 3, 4)))


@pytest.mark.parametrize("name", OF_THE_HUB)
def test_the_vector_is_that_of_the_originals_head(name: str, references) -> None:
    """On maps of the published clip's size, and of larger ones; `head` is its last block, whole."""
    with torch.device("meta"):
        windows, whole = build_encoder(name), build_encoder(name, pooling="whole")
        head = references[name]().eval().blocks[-1]
    head.proj = head.activation = nn.Identity()
    own = head.pool.kernel_size
    with torch.no_grad():
        for size, alike in ((own, True), ((own[0] + 5, 7, 7), False), ((own[0], 8, 9), False)):
            features = torch.randn(2, 2048, *size, generator=torch.Generator().manual_seed(3))
            expected = head(features)
            torch.testing.assert_close(windows.pool(features), expected)
            assert torch.allclose(whole.pool(features), expected, atol=1e-5) == alike
            torch.testing.assert_close(whole.pool(features), features.mean((2, 3, 4)))


def test_where_there_are_no_windows() -> None:
    with pytest.raises(ModelError, match="pooling is 'mean'; expected 'whole' or 'windows'"):
        build_encoder("slow_r50", pooling="mean")
    assert "pooling" not in model_options("ircsn_r50")
    with torch.device("meta"):
        assert isinstance(build_encoder("ircsn_r50").get_submodule("global_pool"), GlobalPool3d)
    plan = MODELS.get("ircsn_r50").build.args[0]  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match=r"averages the whole map\. Leave it out"):
        build_residual_network(plan, pooling="windows")
