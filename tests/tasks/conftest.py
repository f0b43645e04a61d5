"""The losses of segmentations written plainly, as a module."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

PLAIN = Path(__file__).with_name("plain_loss.py")


@pytest.fixture(scope="session")
def plain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plain_loss", PLAIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
