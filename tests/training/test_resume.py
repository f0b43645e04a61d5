"""A training that was interrupted ends as one that was not, bitwise, and repeats no row."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from voxgraft.errors import TrainingError
from voxgraft.training import Adapt

TINY = Path(__file__).with_name("tiny.py")
EVERY = {"checkpoint_every_steps": 2}


class StopError(Exception):
    """Ends a training from its callback."""


def stop_after(step):
    def on_step(report):
        if report.step == step:
            raise StopError

    return on_step


def rows(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def both_ways(tiny, tmp_path, stops, **options):
    """Train in one go, and with an exception after each of some steps; return both outcomes."""
    feed = tiny.tiny_feed(options.get("target", tiny.BINARY), 9, seed=1)
    network, task, whole = tiny.train(tmp_path / "whole", **options, **EVERY)
    expected = tiny.outcome(network, task, feed)
    for step in stops:
        with pytest.raises(StopError):
            tiny.train(tmp_path / "cut", on_step=stop_after(step), **options, **EVERY)
    network, task, cut = tiny.train(tmp_path / "cut", **options, **EVERY)
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    assert (cut.best_step, cut.best_value) == (whole.best_step, whole.best_value)
    assert (cut.steps_done, cut.stopped_early) == (whole.steps_done, whole.stopped_early)
    return expected, tiny.outcome(network, task, feed), cut


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"changes": {"ema_decay": 0.9, "accumulate": 2}},
        {"changes": {"optimizer": "sgd", "balance": "classes"}},
        {"changes": {"optimizer": "adam", "schedule": "constant", "epochs": 3.5}},
        {"changes": {"precision": "bf16"}},
        {"memory_format": "channels_last"},
        {"adapt": Adapt(method="gradual")},
        {"adapt": Adapt(method="lora", rank=2), "changes": {"ema_decay": 0.9}},
        {"adapt": Adapt(method="layerwise")},
        {"adapt": Adapt(method="frozen")},
    ],
    ids=lambda options: str(options.get("changes") or options.get("adapt") or options)[:40],
)
def test_resumed_equals_uninterrupted(tiny, tmp_path, options):
    expected, found, result = both_ways(tiny, tmp_path, [1, 5, 6, 11], **options)
    assert found == expected
    assert result.resumed_at == 10


@pytest.mark.parametrize("on", ["metric", "loss"])
def test_resumed_after_plateaus_equals_uninterrupted(tiny, tmp_path, on):
    changes = {
        "schedule": "plateau", "plateau_patience": 1, "plateau_on": on, "plateau_factor": 0.3,
        "eval_every": 1, "warmup": 0.0, "learning_rate": 0.05, "final_learning_rate": 1e-4,
    }  # fmt: skip
    feed = tiny.tiny_feed(tiny.BINARY, 9, seed=1)
    feed.targets = 1.0 - feed.targets  # what is learnt makes it worse
    options = {"changes": changes, "validation_feed": feed}
    expected, found, _ = both_ways(tiny, tmp_path, [3, 6, 9], **options)
    assert found == expected
    rates = [row["learning_rate"] for row in rows(tmp_path / "cut")]
    assert rates[0] > rates[4] > rates[7] > rates[11]


def test_resume_of_a_training_that_stopped_early(tiny, tmp_path):
    changes = {"steps": 60, "eval_every": 2, "early_stop_patience": 2, "learning_rate": 0.02}
    _, _, whole = tiny.train(tmp_path / "probe", changes=changes)
    last = whole.steps_done
    expected, found, result = both_ways(tiny, tmp_path, [3, last], changes=changes)
    assert found == expected
    assert (result.resumed_at, result.stopped_early) == (last, True)


def test_kill_9_then_the_same_command(tiny, tmp_path):
    kills = [1, 7, 8, 12]
    network, task, _ = tiny.train(tmp_path / "whole", changes={"ema_decay": 0.9})
    feed = tiny.tiny_feed(tiny.BINARY, 9, seed=1)
    expected = {name: value.hex() for name, value in tiny.outcome(network, task, feed).items()}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TINY), str(tmp_path), *map(str, kills)]
    subprocess.run(command, env=environment, check=True)
    for kill_at in kills:
        folder = tmp_path / f"killed-{kill_at}"
        ended, found, resumed_at = json.loads((folder / "outcome.json").read_text())
        assert ended == -9
        assert found == expected
        assert resumed_at == ((kill_at - 1) // 2 * 2 or None)
        assert rows(folder) == rows(tmp_path / "whole")


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tiny, tmp_path, monkeypatch):
    from voxgraft.training import checkpoint

    with pytest.raises(StopError):
        tiny.train(tmp_path, on_step=stop_after(5), **EVERY)

    def fail(*_):
        raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_json", fail)  # after the tensors, before the state
        with pytest.raises(StopError):
            tiny.train(tmp_path, **EVERY)
    names = sorted(path.name for path in (tmp_path / "checkpoint").iterdir())
    assert names[-1] == "step-00000004"
    assert names[0].startswith(".tmp-")
    _, _, result = tiny.train(tmp_path, **EVERY)
    assert result.resumed_at == 4
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["step-00000012"]


@pytest.mark.parametrize("damage", ["truncate", "garbage", "state", "missing", "keys", "progress"])
def test_a_damaged_checkpoint_is_refused_with_its_path(tiny, tmp_path, damage):
    with pytest.raises(StopError):
        tiny.train(tmp_path, on_step=stop_after(5), **EVERY)
    whole = tmp_path / "checkpoint" / "step-00000004"
    tensors, state = whole / "network.safetensors", whole / "state.json"
    if damage == "truncate":
        tensors.write_bytes(tensors.read_bytes()[:-5])
    elif damage == "garbage":
        tensors.write_bytes(b"\xff" * tensors.stat().st_size)
    elif damage == "state":
        state.write_text("[1, 2")
    elif damage == "missing":
        tensors.unlink()
    else:
        data = json.loads(state.read_text())
        if damage == "keys":
            del data["bytes"]["optimizer"]
        else:
            data["progress"] = {"nonsense": 1}
        state.write_text(json.dumps(data))
    with pytest.raises(TrainingError, match=r"(?s)checkpoint.*(Delete|delete)"):
        tiny.train(tmp_path, **EVERY)


def test_a_checkpoint_of_another_training_is_refused(tiny, tmp_path):
    with pytest.raises(StopError):
        tiny.train(tmp_path, on_step=stop_after(5), **EVERY)
    with pytest.raises(TrainingError, match="checkpoint of another training: seed was 3 and is 4"):
        tiny.train(tmp_path, seed=4, **EVERY)
    with pytest.raises(TrainingError, match=r"optimization\.steps was 12 and is 13"):
        tiny.train(tmp_path, changes={"steps": 13}, **EVERY)
    with pytest.raises(TrainingError, match=r"does not fit the network: encoder.* is not the"):
        tiny.train(tmp_path, norm="group", **EVERY)


def test_rows_after_the_checkpoint_are_written_once(tiny, tmp_path):
    with pytest.raises(StopError):
        tiny.train(tmp_path, on_step=stop_after(9), checkpoint_every_steps=7)
    assert [row["step"] for row in rows(tmp_path)] == [4, 8]
    seen = []

    def look(report):
        if report.step == 8:  # the checkpoint is of step 7: row 8 is being made again
            seen.extend(row["step"] for row in rows(tmp_path))

    tiny.train(tmp_path, on_step=look, checkpoint_every_steps=7)
    assert seen == [4, 8]
    assert [row["step"] for row in rows(tmp_path)] == [4, 8, 12]
