"""The constants of a frozen TensorFlow graph, without TensorFlow.

A frozen graph is one message of Protocol Buffers (``GraphDef``): a row of nodes, each with a name,
an operation, the names of its inputs and its attributes. Weights are the values of its ``Const``
nodes. Only these messages are read; no operation of the graph is run.

Source: tensorflow/core/framework/{graph,node_def,attr_value,tensor,tensor_shape,types}.proto.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from voxgraft.errors import SourceError

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_DTYPES = {1: torch.float32, 2: torch.float64, 14: torch.bfloat16, 19: torch.float16}
"""TensorFlow's numbers of the types that weights have."""
_LISTS = {1: 5, 2: 6, 14: 13, 19: 13}
"""Field of ``TensorProto`` that lists single values, by type."""
_CONVOLUTIONS = ("Conv3D", "Conv3DBackpropInput", "Conv3DBackpropInputV2")
_VARIABLES = ("Variable", "VariableV2", "VarHandleOp", "AutoReloadVariable")
_MOST_REPEATED, _LARGEST = 2**26, 2**40  # values

Field = tuple[int, int, int | memoryview]
"""Number, kind and value of a field."""


class _DamageError(Exception):
    """What is wrong with the content, in words."""


@dataclass(frozen=True)
class _Node:
    operation: str
    inputs: tuple[str, ...]
    value: memoryview | None
    """The ``TensorProto`` of a constant."""


def is_graph(path: Path) -> bool:
    """Say whether a file claims to be a TensorFlow graph: by its suffix, as it has no magic."""
    if path.suffix.lower() != ".pb":
        return False
    with path.open("rb") as handle:
        return handle.read(2) != b"PK"


def load_graph(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Read the constants of floating point of a frozen TensorFlow graph.

    Names keep their words, with dots for slashes. The kernels of 3D convolutions, (depth, height,
    width, in, out), become (out, in, depth, height, width); those of transposed ones, (depth,
    height, width, out, in), become (in, out, depth, height, width): PyTorch's order. All others
    stay as they are. Single numbers and whole numbers are settings of the program, not weights.

    Returns:
        The tensors in the file's order, and a note on what was changed and left out.

    Raises:
        SourceError: If the file is damaged, is no graph, or does not hold its weights.
    """
    try:
        nodes = _nodes(memoryview(path.read_bytes()))
        return _constants(nodes)
    except _DamageError as fault:
        raise SourceError(
            f"{path} is a TensorFlow graph, not a state dict, and cannot be read as a frozen one: "
            f"{fault}. Expected a GraphDef whose weights are constants of floating point. If the "
            "file is damaged, download it again and compare its SHA-256; if its weights lie "
            "elsewhere (a SavedModel, a checkpoint), read its arrays with the program that wrote "
            "it and save them by name with numpy.savez or safetensors (docs/grafting.md, 'Files "
            "that are refused')."
        ) from fault


def _varint(content: memoryview, start: int) -> tuple[int, int]:
    value = 0
    for index in range(10):
        if start + index >= len(content):
            raise _DamageError(f"it ends inside a number, after {len(content)} bytes of a message")
        byte = content[start + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if value >= 2**64:
                break
            return value, start + index + 1
    raise _DamageError("a number of it has more than 64 bits")


def _fields(content: memoryview) -> Iterator[Field]:
    """Split a message into its fields."""
    place = 0
    while place < len(content):
        tag, place = _varint(content, place)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 2**29:
            raise _DamageError(f"a field of it has the number {number}")
        if kind == _VARINT:
            value, place = _varint(content, place)
            yield number, kind, value
            continue
        if kind == _BYTES:
            length, place = _varint(content, place)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise _DamageError(f"field {number} of it is of the kind {kind}, which no graph has")
        if length > len(content) - place:
            missing = length - (len(content) - place)
            raise _DamageError(f"{missing} bytes of field {number} are missing")
        yield number, kind, content[place : place + length]
        place += length


def _bytes(field: Field, what: str) -> memoryview:
    number, kind, value = field
    if kind != _BYTES or isinstance(value, int):
        raise _DamageError(f"{what} (field {number}) is of the kind {kind}, expected {_BYTES}")
    return value


def _whole(field: Field, what: str) -> int:
    number, kind, value = field
    if kind != _VARINT or not isinstance(value, int):
        raise _DamageError(f"{what} (field {number}) is of the kind {kind}, expected {_VARINT}")
    return value if value < 2**63 else value - 2**64


def _text(field: Field, what: str) -> str:
    try:
        return bytes(_bytes(field, what)).decode("utf-8")
    except UnicodeDecodeError:
        raise _DamageError(f"{what} is no text") from None


def _nodes(content: memoryview) -> dict[str, _Node]:
    nodes: dict[str, _Node] = {}
    for field in _fields(content):
        if field[0] != 1:
            continue  # functions and versions
        name, node = _node(_bytes(field, "a node"))
        if name in nodes:
            raise _DamageError(f"two of its nodes are called {name!r}")
        nodes[name] = node
    for name, node in nodes.items():
        for taken in node.inputs:
            if _producer(taken) not in nodes:
                raise _DamageError(f"the node {name!r} takes {taken!r}, which is not in the file")
    return nodes


def _node(content: memoryview) -> tuple[str, _Node]:
    name, operation, inputs, value = "", "", [], None
    for field in _fields(content):
        if field[0] == 1:
            name = _text(field, "the name of a node")
        elif field[0] == 2:
            operation = _text(field, f"the operation of {name!r}")
        elif field[0] == 3:
            inputs.append(_text(field, f"an input of {name!r}"))
        elif field[0] == 5:
            value = _tensor_attribute(_bytes(field, f"an attribute of {name!r}")) or value
    if not name or not operation:
        raise _DamageError(
            f"the node {name!r} has the operation {operation!r}, expected both named"
        )
    return name, _Node(operation, tuple(inputs), value)


def _tensor_attribute(content: memoryview) -> memoryview | None:
    """Return the tensor of an attribute called ``value``; None for any other attribute."""
    name, value = "", None
    for field in _fields(content):
        if field[0] == 1:
            name = _text(field, "the name of an attribute")
        elif field[0] == 2:
            value = _bytes(field, f"the attribute {name!r}")
    if name != "value" or value is None:
        return None
    tensors = [_bytes(field, "a constant") for field in _fields(value) if field[0] == 8]
    return tensors[-1] if tensors else None


def _producer(taken: str) -> str:
    """Return the node that an input comes from: ``"^name"`` and ``"name:1"`` are of ``name``."""
    name, _, output = taken.removeprefix("^").rpartition(":")
    return name if name and output.isdecimal() else taken.removeprefix("^")


def _constants(nodes: Mapping[str, _Node]) -> tuple[dict[str, Tensor], list[str]]:
    kernels = _kernels(nodes)
    state: dict[str, Tensor] = {}
    settings = 0
    for name, node in nodes.items():
        if node.operation in _VARIABLES:
            raise _DamageError(
                f"it is not frozen: the values of {name!r} ({node.operation}) lie apart"
            )
        if node.operation != "Const":
            continue
        if node.value is None:
            raise _DamageError(f"the constant {name!r} has no value")
        tensor = _tensor(node.value, name)
        if tensor is None or tensor.ndim == 0:
            settings += 1
            continue
        if name in kernels:
            if tensor.ndim != 5:
                shape = list(tensor.shape)
                raise _DamageError(f"the kernel {name!r} has the shape {shape}, expected five axes")
            tensor = tensor.permute(4, 3, 0, 1, 2).contiguous()
        dotted = name.replace("/", ".")
        if dotted in state:
            raise _DamageError(f"two of its constants are called {dotted!r}, with dots for slashes")
        state[dotted] = tensor
    if not state:
        raise _DamageError("it has no constant of floating point with an axis")
    notes = ["read from a frozen TensorFlow graph; no operation ran"]
    if kernels:
        notes.append(f"{len(kernels)} kernels of 3D convolutions got PyTorch's order of axes")
    if settings:
        notes.append(f"{settings} single or whole numbers, settings of the graph, were left out")
    return state, notes


def _kernels(nodes: Mapping[str, _Node]) -> set[str]:
    """Return the names of the constants that are kernels of 3D convolutions."""
    kernels = set()
    for name, node in nodes.items():
        if node.operation not in _CONVOLUTIONS:
            continue
        if len(node.inputs) < 2:
            count = len(node.inputs)
            raise _DamageError(
                f"the convolution {name!r} has {count} inputs, expected its kernel too"
            )
        kernel = _producer(node.inputs[1])
        for _ in range(len(nodes)):
            if nodes[kernel].operation != "Identity" or not nodes[kernel].inputs:
                break
            kernel = _producer(nodes[kernel].inputs[0])
        if nodes[kernel].operation == "Const":
            kernels.add(kernel)
    return kernels


def _tensor(content: memoryview, name: str) -> Tensor | None:
    """Return the values of a constant; None if they are not of floating point."""
    kind, raw = 0, memoryview(b"")
    shape: tuple[int, ...] = ()
    listed: list[Field] = []
    for field in _fields(content):
        if field[0] == 1:
            kind = _whole(field, f"the type of {name!r}")
        elif field[0] == 2:
            shape = _shape(_bytes(field, f"the shape of {name!r}"), name)
        elif field[0] == 4:
            raw = _bytes(field, f"the values of {name!r}")
        else:
            listed.append(field)
    dtype = _DTYPES.get(kind)
    if dtype is None:
        return None
    count = math.prod(shape)
    if len(raw):
        if len(raw) != count * dtype.itemsize:
            raise _DamageError(
                f"{name!r} has {len(raw)} bytes of values, expected {count * dtype.itemsize} for "
                f"the shape {list(shape)}"
            )
        numbers = np.frombuffer(raw, dtype=np.uint8).copy()
        return torch.from_numpy(numbers).view(dtype).reshape(shape)
    values = [value for field in listed if field[0] == _LISTS[kind] for value in _list(field, kind)]
    if len(values) > count or count > max(_MOST_REPEATED, len(values)):
        raise _DamageError(f"{name!r} has {len(values)} values, expected {count} for {list(shape)}")
    # The format's own shorthand: the last value stands for all further ones; no value, for zeros.
    flat = torch.full((count,), values[-1] if values else 0.0, dtype=dtype)
    if values:
        flat[: len(values)] = torch.tensor(values, dtype=dtype)
    return flat.reshape(shape)


def _shape(content: memoryview, name: str) -> tuple[int, ...]:
    sizes = []
    for field in _fields(content):
        if field[0] == 3 and _whole(field, f"the rank of {name!r}"):
            raise _DamageError(f"{name!r} has no known number of axes")
        if field[0] != 2:
            continue
        axis = _bytes(field, f"an axis of {name!r}")
        found = [_whole(part, f"an axis of {name!r}") for part in _fields(axis) if part[0] == 1]
        sizes.append(found[-1] if found else 0)
    if any(size < 0 for size in sizes) or math.prod(max(size, 1) for size in sizes) > _LARGEST:
        raise _DamageError(
            f"{name!r} has the shape {sizes[:8]}, expected sizes of numbers that a file can hold"
        )
    return tuple(sizes)


def _list(field: Field, kind: int) -> list[float]:
    """Return the single values of a field, packed or not."""
    _, form, value = field
    if _LISTS[kind] == 13:
        words = [value] if isinstance(value, int) else []
        place = 0
        while not isinstance(value, int) and place < len(value):
            word, place = _varint(value, place)
            words.append(word)
        if any(word >= 2**16 for word in words):
            raise _DamageError("a value of half precision has more than 16 bits")
        halves = torch.from_numpy(np.array(words, dtype=np.uint16).view(np.int16))
        return halves.view(_DTYPES[kind]).double().tolist()
    size = _DTYPES[kind].itemsize
    if isinstance(value, int) or len(value) % size or form not in (_BYTES, {4: 5, 8: 1}[size]):
        raise _DamageError(f"a list of values is no row of numbers of {size} bytes")
    numbers: list[float] = np.frombuffer(value, dtype=f"<f{size}").tolist()
    return numbers
