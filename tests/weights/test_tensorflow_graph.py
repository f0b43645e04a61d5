"""Frozen TensorFlow graphs: their constants are read, their operations are not run."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from voxgraft.errors import SourceError
from voxgraft.weights.digests import digest_faults, tensor_digests
from voxgraft.weights.read import read_checkpoint, read_state_dict

FLOAT, DOUBLE, INT32, BFLOAT16, HALF = 1, 2, 3, 14, 19


def varint(value: int) -> bytes:
    value %= 2**64
    low = b""
    while value >= 128:
        low, value = low + bytes([value % 128 + 128]), value // 128
    return low + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number * 8) + varint(value)
    return varint(number * 8 + 2) + varint(len(value)) + value


def tensor(kind: int, shape: tuple[int, ...], values: bytes) -> bytes:
    """Return a TensorProto; ``values`` are its further fields."""
    axes = b"".join(field(2, field(1, size)) for size in shape)
    return field(1, kind) + field(2, axes) + values


def node(name: str, operation: str, *inputs: str, value: bytes | None = None) -> bytes:
    content = field(1, name.encode()) + field(2, operation.encode())
    content += b"".join(field(3, taken.encode()) for taken in inputs)
    content += field(5, field(1, b"T") + field(2, field(6, FLOAT)))
    if value is not None:
        content += field(5, field(1, b"value") + field(2, field(8, value)))
    return field(1, content)


def array(values: np.ndarray) -> bytes:
    return tensor(FLOAT, values.shape, field(4, values.astype("<f4").tobytes()))


KERNEL = np.random.default_rng(1).normal(size=(2, 3, 4, 5, 6)).astype("f4")
UP = np.random.default_rng(2).normal(size=(1, 2, 3, 5, 6)).astype("f4")
PLANE = np.random.default_rng(3).normal(size=(3, 3, 2, 4)).astype("f4")
BIAS = np.arange(6, dtype="f4")


def graph() -> bytes:
    return b"".join([
        node("x", "Placeholder"),
        node("a/kernel", "Const", value=array(KERNEL)),
        node("a/kernel/read", "Identity", "a/kernel"),
        node("a/Conv3D", "Conv3D", "x", "a/kernel/read"),
        node("a/bias", "Const", value=array(BIAS)),
        node("a/BiasAdd", "BiasAdd", "a/Conv3D:0", "a/bias", "^x"),
        node("up/kernel", "Const", value=array(UP)),
        node("up/shape", "Const", value=tensor(INT32, (5,), field(4, bytes(20)))),
        node("up/up", "Conv3DBackpropInputV2", "up/shape", "up/kernel", "a/BiasAdd"),
        node("plane/kernel", "Const", value=array(PLANE)),
        node("keep_prob", "Const", value=tensor(FLOAT, (), b"\x2d" + struct.pack("<f", 0.7))),
        field(4, field(1, 26)),
    ])  # fmt: skip


def expected() -> dict[str, torch.Tensor]:
    return {
        "a.kernel": torch.tensor(np.ascontiguousarray(np.moveaxis(KERNEL, (4, 3), (0, 1)))),
        "a.bias": torch.tensor(BIAS),
        "up.kernel": torch.tensor(np.ascontiguousarray(np.moveaxis(UP, (4, 3), (0, 1)))),
        "plane.kernel": torch.tensor(PLANE),
    }


def read(folder: Path, content: bytes) -> dict[str, torch.Tensor]:
    path = folder / "graph.pb"
    path.write_bytes(content)
    return read_state_dict(path)


def test_constants_are_read_and_what_was_done_is_noted(tmp_path: Path) -> None:
    (tmp_path / "a.pb").write_bytes(graph())
    found = read_checkpoint(tmp_path / "a.pb")
    assert list(found.state) == list(expected())
    assert not digest_faults(found.state, tensor_digests(expected()))
    assert found.state["a.kernel"].shape == (6, 5, 2, 3, 4)  # out, in, then space
    assert found.state["up.kernel"].shape == (6, 5, 1, 2, 3)  # in, out, then space
    assert found.notes == (
        "read from a frozen TensorFlow graph; no operation ran",
        "2 kernels of 3D convolutions got PyTorch's order of axes",
        "2 single or whole numbers, settings of the graph, were left out",
    )


HALVES = np.array([0.5, -2.0, 65504.0], dtype="f2")
SHORT = torch.tensor([0.5, -2.0, 3e38], dtype=torch.bfloat16)


@pytest.mark.parametrize(
    ("kind", "values", "wanted"),
    [
        (FLOAT, field(5, struct.pack("<3f", 1, 2, 3)), [1, 2, 3]),
        (FLOAT, b"".join(b"\x2d" + struct.pack("<f", value) for value in (1, 2, 3)), [1, 2, 3]),
        (FLOAT, field(5, struct.pack("<f", 4)), [4, 4, 4]),  # the last one stands for the rest
        (FLOAT, b"", [0, 0, 0]),
        (DOUBLE, field(6, struct.pack("<3d", 1, 2, 3)), [1, 2, 3]),
        (DOUBLE, field(4, struct.pack("<3d", 1, 2, 3)), [1, 2, 3]),
        (HALF, field(4, HALVES.tobytes()), HALVES.tolist()),
        (HALF, field(13, b"".join(map(varint, HALVES.view("u2").tolist()))), HALVES.tolist()),
        (
            BFLOAT16,
            b"".join(field(13, word % 2**16) for word in SHORT.view(torch.int16).tolist()),
            SHORT.float().tolist(),
        ),
    ],
)
def test_each_way_to_write_numbers(
    tmp_path: Path, kind: int, values: bytes, wanted: list[float]
) -> None:
    found = read(tmp_path, node("a", "Const", value=tensor(kind, (3,), values)))
    assert found["a"].dtype == torch.float32
    assert found["a"].tolist() == wanted


def _constant(shape: tuple[int, ...], values: bytes, kind: int = FLOAT) -> bytes:
    return node("w", "Const", value=tensor(kind, shape, values))


BROKEN = {
    "no message": (b"hello", r"field \d+ of it is of the kind|are missing|a node"),
    "a SavedModel": (field(1, 1) + field(2, b"x"), r"a node \(field 1\) is of the kind 0"),
    "truncated": (graph()[:-20], r"bytes of field \d+ are missing|is not in the file"),
    "an endless number": (b"\x0a" + b"\xff" * 12, r"a number of it has more than 64 bits"),
    "ends in a number": (b"\x0a\x80", r"ends inside a number, after 2 bytes"),
    "field 0": (b"\x02\x01x", r"a field of it has the number 0"),
    "a group": (b"\x0b\x0c", r"field 1 of it is of the kind 3"),
    "no text": (field(1, field(1, b"\xff") + field(2, b"Const")), r"name of a node is no text"),
    "no name": (field(1, field(2, b"Const")), r"node '' has the operation 'Const'"),
    "twice": (_constant((1,), b"") * 2, r"two of its nodes are called 'w'"),
    "same name": (
        node("a/b", "Const", value=array(BIAS)) + node("a.b", "Const", value=array(BIAS)),
        r"two of its constants are called 'a\.b'",
    ),
    "from nowhere": (node("a", "Relu", "b:1"), r"'a' takes 'b:1', which is not in the file"),
    "not frozen": (node("w", "VariableV2"), r"not frozen: the values of 'w' \(VariableV2\)"),
    "no value": (node("w", "Const"), r"the constant 'w' has no value"),
    "no weights": (_constant((2,), field(4, bytes(8)), INT32), r"no constant of floating point"),
    "too few bytes": (_constant((2,), field(4, bytes(4))), r"4 bytes of values, expected 8 for.*2"),
    "too many": (_constant((1,), field(5, bytes(8))), r"'w' has 2 values, expected 1"),
    "a lie": (_constant((2**30,), field(5, bytes(4))), r"1 values, expected 1073741824"),
    "below zero": (_constant((-1,), b""), r"'w' has the shape \[-1\]"),
    "beyond": (_constant((0, 2**62, 2**62), b""), r"'w' has the shape \[0, 46"),
    "no rank": (
        node("w", "Const", value=field(1, FLOAT) + field(2, field(3, 1))),
        r"'w' has no known number of axes",
    ),
    "odd list": (_constant((2,), field(5, bytes(7))), r"no row of numbers of 4 bytes"),
    "wide halves": (_constant((1,), field(13, 2**16), HALF), r"more than 16 bits"),
    "flat kernel": (
        _constant((2,), field(4, bytes(8))) + node("c", "Conv3D", "w", "w"),
        r"kernel 'w' has the shape \[2\], expected five axes",
    ),
    "no kernel": (
        _constant((2,), field(4, bytes(8))) + node("c", "Conv3D", "w"),
        r"'c' has 1 inputs, expected its kernel too",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_frozen_graph_is_refused_in_words(tmp_path: Path, name: str) -> None:
    content, message = BROKEN[name]
    with pytest.raises(SourceError, match=message) as caught:
        read(tmp_path, content)
    text = str(caught.value)
    assert str(tmp_path / "graph.pb") in text
    assert "Expected a GraphDef whose weights are constants" in text
    assert "docs/grafting.md" in text


def test_values_that_are_not_finite_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="w has 1 values that are NaN or infinite"):
        read(tmp_path, _constant((2,), field(5, struct.pack("<2f", 1, float("nan")))))


def test_any_damage_ends_in_words_or_is_seen_by_the_digests(tmp_path: Path) -> None:
    whole, digests = graph(), tensor_digests(expected())
    chance = random.Random(1)
    contents = [whole[:length] for length in range(1, len(whole) - 40, 37)]
    for _ in range(400):
        changed = bytearray(whole)
        for _ in range(chance.choice([1, 1, 3, 20])):
            # Most bytes are values of a kernel: as many hits fall on what lies between.
            end = chance.choice([200, len(whole)])
            changed[-chance.randrange(1, end + 1)] = chance.randrange(256)
        contents.append(bytes(changed))
    refused = 0
    for number, content in enumerate(contents):
        try:
            state = read(tmp_path, content)
        except SourceError:
            refused += 1
            continue
        cut = len(content) < len(whole)
        assert not cut or digest_faults(state, digests), number
    assert refused > 100
