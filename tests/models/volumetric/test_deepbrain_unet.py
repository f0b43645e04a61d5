"""deepbrain's encoder with its real weights, against its graph run node by node.

The second implementation is in this file alone: its own reading of the graph, and each operation in
NumPy with channels last, as TensorFlow defines it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from voxgraft.errors import FetchError
from voxgraft.grafting import graft
from voxgraft.grafting.recognition import NETWORKS
from voxgraft.packages import package_file
from voxgraft.weights import SOURCES, resolve_source

SOURCE = SOURCES.get("deepbrain_unet.brain_mask")
STAGES = ("conv3d_1/Relu", "conv3d_3/Relu", "conv3d_5/Relu", "dropout_2/cond/Merge")
TOLERANCE = 1e-4  # relative to the largest value


@pytest.fixture(scope="module")
def path() -> Path:
    try:
        return package_file(SOURCE.file)  # type: ignore[arg-type]
    except FetchError as fault:
        pytest.skip(f"the weights' package cannot be had: {fault}")


def _parts(message: bytes) -> Iterator[tuple[int, Any]]:
    place = 0

    def number() -> int:
        nonlocal place
        start = place
        while message[place] >= 128:
            place += 1
        place += 1
        return sum((byte & 127) << 7 * i for i, byte in enumerate(message[start:place]))

    while place < len(message):
        tag = number()
        if tag & 7 == 0:
            yield tag >> 3, number()
        else:
            size = {1: 8, 5: 4}.get(tag & 7) or number()
            yield tag >> 3, message[place : place + size]
            place += size


def _node(message: bytes) -> dict[str, Any]:
    parts = list(_parts(message))
    attributes = {}
    for entry in (dict(_parts(value)) for number, value in parts if number == 5):
        attributes[entry[1].decode()] = dict(_parts(entry[2]))
    return {
        "operation": dict(parts)[2].decode(),
        "inputs": [value.decode() for number, value in parts if number == 3],
        **attributes,
    }


class Graph:
    """The graph, as it runs where ``training`` is false."""

    def __init__(self, content: bytes) -> None:
        messages = [value for number, value in _parts(content) if number == 1]
        self.nodes = {dict(_parts(value))[1].decode(): _node(value) for value in messages}
        self.values: dict[str, np.ndarray] = {}

    def run(self, name: str) -> np.ndarray:
        if name not in self.values:
            node = self.nodes[name]
            self.values[name] = getattr(self, f"_{node['operation'].lower()}")(node)
        return self.values[name]

    def _const(self, node: dict[str, Any]) -> np.ndarray:
        parts = list(_parts(node["value"][8]))
        axes = [dict(_parts(axis))[1] for n, axis in _parts(dict(parts)[2]) if n == 2]
        assert dict(parts)[1] == 1  # float
        return np.frombuffer(dict(parts)[4], dtype="<f4").reshape(axes)

    def _identity(self, node: dict[str, Any]) -> np.ndarray:
        return self.run(node["inputs"][0])

    _switch = _identity  # output 0: the data, where the condition is false

    def _merge(self, node: dict[str, Any]) -> np.ndarray:
        without_dropout = node["inputs"][0]
        assert not self.nodes[without_dropout]["inputs"][0].endswith(":1")
        return self.run(without_dropout)

    def _conv3d(self, node: dict[str, Any]) -> np.ndarray:
        x, kernel = map(self.run, node["inputs"])
        assert node["padding"][2] == b"SAME"
        assert node["data_format"][2] == b"NDHWC"
        for attribute in ("strides", "dilations"):
            assert dict(_parts(node[attribute][1]))[3] == b"\1\1\1\1\1"
        margins = [(n // 2, n // 2) for n in kernel.shape[:3]]
        padded = np.pad(x.astype("f8"), [(0, 0), *margins, (0, 0)])
        depth, height, width = x.shape[1:4]
        out = np.zeros((*x.shape[:4], kernel.shape[4]))
        for i, j, k in np.ndindex(*kernel.shape[:3]):
            window = padded[:, i : i + depth, j : j + height, k : k + width]
            out += window @ kernel[i, j, k].astype("f8")
        return out

    def _biasadd(self, node: dict[str, Any]) -> np.ndarray:
        x, bias = map(self.run, node["inputs"])
        return x + bias

    def _relu(self, node: dict[str, Any]) -> np.ndarray:
        return np.maximum(self.run(node["inputs"][0]), 0)

    def _maxpool3d(self, node: dict[str, Any]) -> np.ndarray:
        assert node["padding"][2] == b"VALID"
        for attribute in ("ksize", "strides"):
            assert dict(_parts(node[attribute][1]))[3] == b"\1\2\2\2\1"
        x = self.run(node["inputs"][0])
        b, d, h, w, c = x.shape
        x = x[:, : d // 2 * 2, : h // 2 * 2, : w // 2 * 2]
        return x.reshape(b, d // 2, 2, h // 2, 2, w // 2, 2, c).max((2, 4, 6))


def test_a_graft_computes_what_the_graph_says(path: Path) -> None:
    result = graft(SOURCE, "deepbrain_unet")
    report = result.report
    assert (report.coverage, report.unexplained, report.fresh) == (1.0, (), ())
    assert len(report.loaded) == 12
    assert len(report.dropped) == 11  # the decoder and the head, each by name
    assert any("PyTorch's order of axes" in note for note in report.notes)
    graph = Graph(path.read_bytes())
    volume = np.random.default_rng(1).random((1, 17, 24, 30, 1))  # two sizes that leave a rest
    graph.values["img"] = volume
    encoder = result.encoder.eval()
    x = torch.from_numpy(volume).float().permute(0, 4, 1, 2, 3)
    with torch.no_grad():
        stages, pooled = encoder.forward_stages(x), encoder(x)
    for ours, name in zip(stages, STAGES, strict=True):
        expected = np.moveaxis(graph.run(name), 4, 1)
        assert ours.shape == expected.shape
        error = np.abs(ours.numpy() - expected).max() / np.abs(expected).max()
        assert error < TOLERANCE, f"{name} differs by {error:.1e}"
    expected = graph.run(STAGES[-1]).mean((1, 2, 3))
    assert np.abs(pooled.numpy() - expected).max() / np.abs(expected).max() < TOLERANCE


def test_the_entry_counts_the_values_of_the_file(path: Path) -> None:
    nodes = Graph(path.read_bytes()).nodes
    weights = [n for name, n in nodes.items() if name.endswith(("/kernel", "/bias"))]
    sizes = [
        np.prod([dict(_parts(a))[1] for _, a in _parts(dict(_parts(n["value"][8]))[2])])
        for n in weights
    ]
    assert len(sizes) == len(SOURCE.tensor_digests)
    assert sum(sizes) == SOURCE.parameters


def test_the_file_is_recognised(path: Path) -> None:
    for text in (str(path), f"deepbrain_unet@{path}"):
        found = resolve_source(text, networks=NETWORKS)
        assert found.architecture == "deepbrain_unet"
        assert (found.key_layout, found.layout) == ("deepbrain", "volume")
