"""Videos of known frames, and a file without any."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

MakeVideo = Callable[..., Path]

_spec = importlib.util.spec_from_file_location("films", Path(__file__).with_name("films.py"))
films = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(films)


@pytest.fixture(scope="session")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> MakeVideo:
    """Return a maker of videos of the pattern, each in a folder of its own."""

    def make(
        name: str,
        codec: str = "libx264",
        *,
        frames: int = 60,
        size: tuple[int, int] = (48, 64),
        **options: object,
    ) -> Path:
        path = tmp_path_factory.mktemp("video") / name
        return films.write_video(path, films.pattern(frames, *size), codec, **options)

    return make


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A file without pictures."""
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        silence = np.zeros((1, 16000), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
