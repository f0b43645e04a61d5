"""How files in packages name their tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from voxgraft.weights.convert.rules import Rename, Rule


def _own_names(architecture: str) -> tuple[Rule, ...]:
    return ()


def _deepbrain(architecture: str) -> tuple[Rule, ...]:
    """Name the first six convolutions of the graph by their level; the others keep their names."""
    rules: list[Rule] = []
    for number in range(6):
        node = f"conv3d_{number}" if number else "conv3d"
        ours = f"down{number // 2}.{2 * (number % 2)}"
        rules.append(Rename(rf"^{node}\.kernel$", f"{ours}.weight"))
        rules.append(Rename(rf"^{node}\.bias$", f"{ours}.bias"))
    return tuple(rules)


LAYOUTS: Mapping[str, Callable[[str], tuple[Rule, ...]]] = {
    "deepbet": _own_names,
    "deepbrain": _deepbrain,
    "transnetv2": _own_names,
}

SIGNS: tuple[tuple[str, Callable[[Collection[str]], bool]], ...] = (
    (
        "deepbet",
        lambda names: "down0.block1.double_conv.0.weight" in names and "init.0.weight" in names,
    ),
    (
        "deepbrain",
        lambda names: (
            {"conv3d.kernel", "conv3d_transpose_2.kernel", "conv3d_9.kernel"} <= set(names)
        ),
    ),
    ("transnetv2", lambda names: "SDDCNN.0.DDCNN.0.Conv3D_1.layers.0.weight" in names),
)
"""What tensor names speak for a layout."""
