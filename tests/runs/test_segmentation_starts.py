"""A segmentation's run killed and resumed, and as the start of others."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from voxgraft.errors import VoxgraftError
from voxgraft.files import read_json, write_json
from voxgraft.grafting import graft
from voxgraft.recipes import read_recipe, recipe_from_dict
from voxgraft.runs import begin_run, build_segmenter, execute_run, load_segmentation

SCRIPT = """
import functools, os, signal, sys
from pathlib import Path
from voxgraft.runs import execute
execute.fit = functools.partial(execute.fit, checkpoint_every_steps=2)
made = 0
def on_steps(steps, text):
    global made
    made += steps
    if made == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
execute.execute_run(Path(sys.argv[1]), on_steps=on_steps)
"""


def outcome(folder: Path):
    """Return what a run found: weights, scores and its history, without times."""
    history = read_json(folder / "result.json")["fit"]["history"]
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in history]
    scores = (folder / "segmentation.csv").read_text()
    return load_file(folder / "model.safetensors"), scores, rows


def test_killed_and_resumed_ends_with_the_same_bits(bodies, make_recipe, tmp_path):
    recipe = make_recipe(bodies.path, steps=6, overlapping=True)
    for name in ("whole", "cut"):
        begin_run(tmp_path / name, recipe)
    execute_run(tmp_path / "whole")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "cut"), "3"]
    killed = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "cut" / "result.json").exists()
    result = execute_run(tmp_path / "cut")
    assert result["fit"]["resumed_at"] == 2
    (weights, scores, rows), found = outcome(tmp_path / "whole"), outcome(tmp_path / "cut")
    assert found[1:] == (scores, rows)
    assert found[0].keys() == weights.keys()
    assert all(torch.equal(found[0][name], weights[name]) for name in weights)


def test_frozen_moves_exactly_decoder_and_head(segmentation, bodies, make_recipe, tmp_path):
    start = {"name": "own", "source": str(segmentation.folder), "parts": "all", "adapt": "frozen"}
    run = begin_run(tmp_path / "run", make_recipe(bodies.path, start=start))
    result = execute_run(run.path, check_parity=False)
    before = load_file(segmentation.folder / "model.safetensors")
    after = load_file(run.path / "model.safetensors")
    assert before.keys() == after.keys()
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert {name.split(".")[0] for name in before} == {"encoder", "decoder", "head"}
    assert moved == {name for name in before if not name.startswith("encoder.")}
    assert result["fit"]["trainable_parameters"] == sum(before[name].numel() for name in moved)


@pytest.mark.parametrize("parts", ["encoder", "decoder", "all"])
def test_a_run_is_a_start_for_other_structures(segmentation, bodies, make_recipe, parts):
    """Only ``all`` takes the head, and of it the rows of classes that both have, by name."""
    start = {"name": "own", "source": str(segmentation.folder), "parts": parts}
    recipe = make_recipe(bodies.path, start=start)
    plain = recipe.to_dict()
    plain["target"]["classes"] = ["spleen", "lung_left"]
    recipe = recipe_from_dict(plain, "the test")
    network, grafted = build_segmenter(recipe, 3, check_parity=False)
    fresh, _ = build_segmenter(
        recipe_from_dict(plain | {"start": {"name": "scratch"}}, "the test"), 3
    )
    before = load_file(segmentation.folder / "model.safetensors")
    now, new = network.state_dict(), fresh.state_dict()
    taken = {name for name in before if now[name].shape == before[name].shape}
    taken = {name for name in taken if torch.equal(now[name], before[name])}
    parted = {
        kind: [name for name in before if name.startswith(f"{kind}.")]
        for kind in ("encoder", "decoder", "head")
    }
    assert set(parted["encoder"]) <= taken
    weights = [name for name in parted["decoder"] if before[name].ndim > 1]
    assert all((name in taken) == (parts != "encoder") for name in weights)
    head = next(name for name in parted["head"] if before[name].ndim > 1)
    rows = [torch.equal(now[head][k], before[head][j]) for k, j in ((0, 0), (1, 1), (2, 1))]
    assert rows == ([True, False, True] if parts == "all" else [False] * 3)
    assert new[head].shape == now[head].shape
    assert grafted.source.classes == ("background", "lung_left", "liver")


def test_a_run_is_a_start_for_a_network_of_cases(segmentation):
    grafted = graft(str(segmentation.folder), "segresnet_8", in_channels=1)
    network = load_segmentation(segmentation.folder).network
    for name, tensor in network.encoder.state_dict().items():
        assert torch.equal(grafted.encoder.state_dict()[name], tensor), name
    assert grafted.source.trained_on[-1] == "split"


def test_a_damaged_run_is_refused(segmentation, tmp_path):
    for path in segmentation.folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    card = read_json(tmp_path / "card.json")
    assert read_recipe(tmp_path / "recipe.yaml") == segmentation.recipe
    write_json(tmp_path / "card.json", card | {"classes": ["liver", "lung_left"]})
    with pytest.raises(VoxgraftError, match=r"class"):
        load_segmentation(tmp_path)
