import pytest

from voxgraft.errors import RegistryError
from voxgraft.registry import Registry


def test_a_name_registers_once_and_near_names_are_suggested() -> None:
    registry: Registry[int] = Registry("model")
    registry.register("resnet18_3d", 1)
    with pytest.raises(RegistryError, match="'resnet18_3d' is registered twice"):
        registry.register("resnet18_3d", 2)
    with pytest.raises(RegistryError, match="Did you mean 'resnet18_3d'"):
        registry.get("resnet18-3d")
    assert registry.names() == ["resnet18_3d"]
    assert registry.get("resnet18_3d") == 1
