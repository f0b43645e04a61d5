"""Real weights beat the same network with random weights at telling organs apart in another CT."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from voxgraft.errors import FetchError
from voxgraft.weights import SOURCES, fetch_source

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "organ_probe.py"
MARGIN = (
    0.15  # of balanced accuracy; the whole scans show 0.35 (`python benchmarks/organ_probe.py`)
)
SLICES = slice(52, 112)  # of CT A: they have every organ, and take half the time
PAIRS = (
    ("efficientnet_lite0.tf_in1k", "tf_efficientnet_lite0_3d"),
    ("efficientnet_lite0.tf_in1k", "slicewise:tf_efficientnet_lite0"),
    ("mobilenetv2_100.deep_sort_in1k", "mobilenetv2_3d"),
    ("mobilenetv2_100.deep_sort_in1k", "slicewise:mobilenetv2_100"),
)


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("organ_probe", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["organ_probe"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    yield module
    del sys.modules["organ_probe"]


@pytest.fixture(scope="module")
def scans(script: ModuleType) -> tuple[Any, Any]:
    try:
        first, second = script.read_scans()
    except FetchError as fault:
        pytest.skip(str(fault))
    return script.Scan(first.image[:, :, SLICES], first.classes[SLICES]), second


@pytest.fixture(scope="module")
def options(script: ModuleType) -> dict[tuple[str, str], Any]:
    return {(source, model): chosen for source, model, chosen in script.PAIRS}


@pytest.mark.parametrize(("source", "model"), PAIRS)
def test_learned_weights_tell_more_organs(
    script: ModuleType, scans: Any, options: Any, source: str, model: str
) -> None:
    try:
        fetch_source(SOURCES.get(source))
    except FetchError as fault:
        pytest.skip(str(fault))
    learned, random = script.compare(source, model, options[source, model], scans, [0])
    assert learned > random + MARGIN
    assert learned > 0.5


def test_intensity_alone_tells_little(script: ModuleType, scans: Any) -> None:
    first, second = map(script.intensities, scans)
    chance = 1 / (len(script.CLASSES) + 1)
    assert chance < script.probe(first, second, *scans, 0) < 0.35
