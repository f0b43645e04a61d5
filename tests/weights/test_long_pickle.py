"""Checkpoints with long histories: the same as torch's restricted unpickler gives, as safely."""

from __future__ import annotations

import argparse
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voxgraft.errors import SourceError
from voxgraft.weights import long_pickle
from voxgraft.weights.pickled import LeftOut, LeftOutList, load_pickled
from voxgraft.weights.read import read_checkpoint


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count every file as long."""
    monkeypatch.setattr(long_pickle, "LONG", 0)


def _content() -> dict[str, object]:
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(6, 4, generator=generator)
    network = {
        "a.weight": base,
        "a.turned": base.t(),
        "a.part": base[2:5, 1:3],
        "a.half": base.to(torch.bfloat16),
        "a.parameter": torch.nn.Parameter(base * 2),
        "a.empty": torch.empty(0, 3),
        "a.single": torch.tensor(3.0, dtype=torch.float64),
        "a.num_batches_tracked": torch.tensor(7),
        "a.flag": torch.tensor([True, False]),
    }
    history = [[np.float64(k), np.float32(k), float(k), 2**40 + k, "é"] for k in range(300)]
    return {
        "network_weights": network,
        "optimizer_state": {"state": {0: {"momentum": torch.ones(3)}}, "lr": 0.1},
        "logging": {"dice": history, "none": None, "yes": True, "long": 2**80},
        "_best_ema": np.float64(0.5),
        "init_args": argparse.Namespace(device=torch.device("cpu"), where=Path("a"), big="x" * 400),
    }


def _is_long(path: Path) -> bool:
    return not isinstance(_read_long(path), type(None))


def _read_long(path: Path) -> object:
    from voxgraft.weights.pickled import _BOOKKEEPING, _stand_in

    return long_pickle.load_long(path, _BOOKKEEPING, _stand_in)


def test_gives_what_torch_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint_final.pth"
    torch.save(_content(), path)
    theirs = read_checkpoint(path)
    monkeypatch.setattr(long_pickle, "LONG", 0)
    assert _is_long(path)
    ours = read_checkpoint(path)
    assert ours.state.keys() == theirs.state.keys()
    for name, tensor in theirs.state.items():
        assert torch.equal(ours.state[name], tensor)
        assert ours.state[name].dtype == tensor.dtype
    assert ours.notes == theirs.notes


def test_a_long_history_takes_the_short_way(tmp_path: Path) -> None:
    path = tmp_path / "long.pth"
    state = {"a.weight": torch.arange(6.0).reshape(2, 3)}
    torch.save({"state_dict": state, "plot_stuff": list(np.random.default_rng(0).random(9))}, path)
    assert not _is_long(path)
    torch.save(
        {"state_dict": state, "plot_stuff": list(np.random.default_rng(0).random(40_000))}, path
    )
    assert _is_long(path)
    assert torch.equal(read_checkpoint(path).state["a.weight"], state["a.weight"])


def test_what_is_written_to_a_tensor_stays_in_memory(tmp_path: Path, always: None) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": torch.zeros(4), "b": np.float64(1.0)}, path)
    before = path.read_bytes()
    content, _ = load_pickled(path)
    content["a"].fill_(1.0)
    assert path.read_bytes() == before


def test_numbers_that_are_not_there_are_refused(tmp_path: Path, always: None) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": torch.zeros(64)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts = {n: c[:100] if n.endswith("data/0") else c for n, c in parts.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(SourceError, match="reaches beyond its 25 numbers"):
        read_checkpoint(path)


def _archive(path: Path, instructions: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", instructions)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return path


class _Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("import builtins; builtins.voxgraft_long_ran = True",)


HOSTILE = {
    "code": pickle.dumps({"a": _Runs()}, protocol=2),
    "code among settings": b"\x80\x02cnumpy\ndtype\ncos\nsystem\nX\x02\x00\x00\x00ls\x85R.",
    "a registered extension": b"\x80\x02\x82\x01.",
    "an old instance": b"\x80\x02(ios\nsystem\n.",
    "a huge memo": b"\x80\x02]r\xff\xff\xff\xff.",
    "a huge text": b"\x80\x02X\xff\xff\xff\xff.",
    "no end": b"\x80\x02}q\x00",
    "a name without end": b"\x80\x02ccollections",
    "more after the end": b"\x80\x02}.cos\nsystem\n)R.",
    "a storage of a list": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(]K\x00))tR.",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused(tmp_path: Path, always: None, kind: str) -> None:
    import builtins

    with pytest.raises(SourceError):
        read_checkpoint(_archive(tmp_path / "evil.pth", HOSTILE[kind]))
    assert not hasattr(builtins, "voxgraft_long_ran")


@pytest.mark.parametrize("name", [b"numpy\ndtype", b"collections\ndeque", b"pathlib\nPosixPath"])
@pytest.mark.parametrize("method", [b"__new__", b"__setstate__", b"__init__"])
def test_what_a_file_does_to_a_stand_in_ends_with_the_file(
    tmp_path: Path, always: None, name: bytes, method: bytes
) -> None:
    # The attributes of the answer itself are set: those of a class that only this file has.
    text = b"X" + len(method).to_bytes(4, "little") + method
    instructions = b"\x80\x02c" + name + b"\nN}" + text + b"K\x01s\x86b."
    before = [(kind.__new__, kind.__init__, kind.__setstate__) for kind in (LeftOut, LeftOutList)]
    with pytest.raises(SourceError):
        read_checkpoint(_archive(tmp_path / "evil.pth", instructions))
    after = [(kind.__new__, kind.__init__, kind.__setstate__) for kind in (LeftOut, LeftOutList)]
    assert before == after


def _instructions() -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(4.0), "best": np.float64(0.5)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return archive.read("archive/data.pkl")


INSTRUCTIONS = _instructions()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(INSTRUCTIONS) - 1), st.integers(0, 255)), max_size=3))
def test_changed_instructions_open_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    changed = bytearray(INSTRUCTIONS)
    for place, value in changes:
        changed[place] = value
    path = tmp_path_factory.mktemp("fuzz") / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(changed))
        archive.writestr("archive/data/0", torch.arange(4.0).numpy().tobytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_pickle, "LONG", 0)
        try:
            state = read_checkpoint(path).state
        except SourceError:
            return
    assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())
