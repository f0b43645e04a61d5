"""Files as they were published, as a module."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FILES = Path(__file__).with_name("files.py")


@pytest.fixture(scope="session")
def files() -> ModuleType:
    """Return the module that makes tensors of the names and shapes of public files."""
    spec = importlib.util.spec_from_file_location("medical_files", FILES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
