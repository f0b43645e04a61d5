"""Options that a graft chose (the axes of the training) stay with a run, and with its starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from voxgraft.files import read_json
from voxgraft.grafting import graft
from voxgraft.models import build_encoder
from voxgraft.runs import begin_run, execute_run, load_segmentation
from voxgraft.weights import Card, save_weights


@pytest.mark.parametrize("asked", [None, "LPS"])
def test_axes_that_a_graft_chose_stay_with_the_run(
    bodies, make_recipe, tmp_path: Path, asked: str | None
) -> None:
    encoder = build_encoder("segresnet_8", seed=1, axes="RAS")
    card = Card(
        model="segresnet_8", model_options={"axes": "RAS"}, in_channels=1, input_mean=(0.0,),
        input_sd=(1.0,), stem=encoder.declaration.stem,
    )  # fmt: skip
    save_weights(
        tmp_path / "start", {f"encoder.{n}": t for n, t in encoder.state_dict().items()}, card
    )
    start = {"name": "turned", "source": str(tmp_path / "start"), "parts": "encoder"}
    model = {"name": "segresnet_8", "options": {} if asked is None else {"axes": asked}}
    recipe = make_recipe(bodies.path, steps=2, start=start, model=model)
    run = begin_run(tmp_path / "run", recipe)
    execute_run(run.path, check_parity=False)
    kept = asked or "RAS"
    assert read_json(run.path / "card.json")["model_options"]["axes"] == kept
    network = load_segmentation(run.path).network
    assert network.encoder.axes == kept
    again = graft(str(run.path), "segresnet_8", check_parity=False)
    assert again.encoder.axes == kept
    # The same tensors without these axes are another network.
    volume = torch.rand(1, 1, 16, 24, 32, generator=torch.Generator().manual_seed(1))
    straight = build_encoder("segresnet_8")
    straight.load_state_dict(network.encoder.state_dict())
    with torch.no_grad():
        found = again.encoder.eval()(volume)
        torch.testing.assert_close(found, network.encoder(volume))
        assert not torch.allclose(found, straight.eval()(volume), atol=1e-4)
