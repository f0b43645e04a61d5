"""Files in packages that name their tensors as the registry's networks do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from voxgraft.weights.convert.rules import Rule


def _own_names(architecture: str) -> tuple[Rule, ...]:
    return ()


LAYOUTS: Mapping[str, Callable[[str], tuple[Rule, ...]]] = {
    "deepbet": _own_names,
    "transnetv2": _own_names,
}

SIGNS: tuple[tuple[str, Callable[[Collection[str]], bool]], ...] = (
    (
        "deepbet",
        lambda names: "down0.block1.double_conv.0.weight" in names and "init.0.weight" in names,
    ),
    ("transnetv2", lambda names: "SDDCNN.0.DDCNN.0.Conv3D_1.layers.0.weight" in names),
)
"""What tensor names speak for a layout."""
