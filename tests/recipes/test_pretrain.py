"""Pre-training on labelled videos by the command line, and its run as the start of a CT network."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from voxgraft.cli.main import app
from voxgraft.errors import RunError
from voxgraft.grafting import graft
from voxgraft.inference import load_trained, predict
from voxgraft.recipes import video_recipe
from voxgraft.runs import RunFolder
from voxgraft.volumes import Affine, Volume, write_volume

_spec = importlib.util.spec_from_file_location(
    "films", Path(__file__).parents[1] / "videos" / "films.py"
)
films = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(films)

SETTINGS = (
    "clips.frames=4",
    "clips.size_pixels=24",
    "clips.short_side=[26,28]",
    "clips.clips_per_video=2",
    "optimization.epochs=null",
    "optimization.eval_every_epochs=null",
    "optimization.steps=12",
    "optimization.eval_every=12",
    "optimization.batch_size=4",
    "optimization.learning_rate=0.02",
    "optimization.threads=1",
    "memory_format=contiguous",
)


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory) -> Path:
    """Films of a bright square that moves right or down, in the layout of Kinetics."""
    root = tmp_path_factory.mktemp("kinetics")
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for label in ("down", "right"):
            for number in range(count):
                frames = rng.integers(0, 60, (16, 32, 32, 3), dtype=np.uint8)
                for time in range(16):
                    at = 2 + time
                    place = (slice(at, at + 8), slice(10, 18))
                    frames[time][place if label == "down" else place[::-1]] = 250
                folder = root / split / label
                folder.mkdir(parents=True, exist_ok=True)
                films.write_video(folder / f"{split}_{label}_{number}.mp4", frames, "libx264")
    return root


def run_verb(*words: str):
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


def test_videos_make_a_start(kinetics, tmp_path):
    out = tmp_path / "run"
    words = ["pretrain", "--videos", str(kinetics), "--model", "plain_resnet10_3d"]
    for setting in SETTINGS:
        words += ["--set", setting]
    done = run_verb(*words, "--out", str(out), "--json")
    assert done.exit_code == 0, done.output
    result = RunFolder(out).result()
    assert json.loads(done.stdout[done.stdout.index("{") :])["status"] == result["status"]
    assert result["train_items"] == 12
    # The encoder does not make the same bytes each time: 0.71 to 0.74 was seen.
    assert result["fit"]["history"][-1]["train_loss"] < 0.8  # chance: 0.69
    again = run_verb(*words, "--out", str(out), "--json")  # finished: nothing is trained again
    assert again.exit_code == 0

    grafted = graft(str(out), "plain_resnet10_3d", in_channels=1)
    assert not grafted.report.unexplained
    assert grafted.source.trained_on[-1] == "videos"

    scan = tmp_path / "scan.nii.gz"
    write_volume(Volume(np.zeros((1, 8, 8, 8), np.float32), Affine(np.eye(4))), scan)
    with pytest.raises(RunError, match="clips of videos"):
        predict(load_trained(out), [scan])


def test_words_that_do_not_go_together(kinetics, tmp_path):
    for words in (
        ["pretrain"],
        ["pretrain", "--videos", str(kinetics)],
        ["pretrain", "recipe.yaml", "--model", "x3d_s"],
    ):
        from voxgraft.errors import UsageError

        with pytest.raises(UsageError):
            run_verb(*words)


def test_hundreds_of_classes_are_classes(tmp_path: Path) -> None:
    rows = "".join(f"c{k},s{k},{k}.mp4,class {k % 30},train\n" for k in range(60))
    table = tmp_path / "t.csv"
    table.write_text("case_id,patient_id,image,label,split\n" + rows)
    target = video_recipe(str(table), "x3d_xs")["target"]
    assert (target["kind"], len(target["classes"])) == ("multiclass", 30)
