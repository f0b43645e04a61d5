"""Small DICOM trees in the layouts of published data sets, as modules."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def dicom_trees() -> ModuleType:
    return _module("dicom_trees")


@pytest.fixture(scope="session")
def lidc_trees() -> ModuleType:
    return _module("lidc_trees")
