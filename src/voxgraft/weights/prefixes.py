"""What stands before every name of a network that is part of a larger one in its file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from voxgraft.weights.convert.rules import Drop, Join, Rename

PARTS = frozenset(
    {
        "module",
        "_orig_mod",
        "model",
        "backbone",
        "encoder",
        "network",
        "net",
        "trunk",
        "visual",
        "teacher",
        "student",
        "ema",
        "target_encoder",
        "online_encoder",
        "base_encoder",
        "encoder_q",
        "encoder_k",
        "momentum_encoder",
        "image_encoder",
        "feature_extractor",
        "vit",
        "vision_model",
        "resnet",
        "convnext",
        "base_model",
        "swinViT",
    }
)
"""Names that training programs give to the network inside their own."""

_DEEPEST = 3
COUNTER = "num_batches_tracked"


def prefix_candidates(names: Collection[str]) -> list[str]:
    """Return the prefixes under which a file's network may lie, shortest first.

    Those that all names share, and those that are made of :data:`PARTS`.
    """
    found: dict[str, None] = {}
    for name in names:
        prefix = ""
        for part in name.split(".")[:-1][:_DEEPEST]:
            prefix += f"{part}."
            known = all(piece in PARTS for piece in prefix.split(".")[:-1])
            if not known and prefix not in found and not _shared(prefix, names):
                break
            found[prefix] = None
    return sorted(found, key=lambda prefix: (prefix.count("."), prefix))


def _shared(prefix: str, names: Iterable[str]) -> bool:
    return all(name.startswith(prefix) for name in names)


def renamed(
    shapes: Mapping[str, tuple[int, ...]], rules: Sequence[object]
) -> dict[str, tuple[int, ...]]:
    """Return names and shapes as naming rules make them; other rules are passed over."""
    named: dict[str, tuple[int, ...]] = {}
    wholes: dict[str, list[tuple[int, ...]]] = {}
    for old, shape in shapes.items():
        name, whole, dropped = old, False, False
        for rule in rules:
            if isinstance(rule, Rename):
                name = rule.rename(name)
            elif isinstance(rule, Drop):
                dropped = dropped or rule.chooses(name)
            elif isinstance(rule, Join) and (place := rule.place(name)) is not None:
                name, whole = place[0], True
        if whole and shape and not dropped:
            wholes.setdefault(name, []).append(shape)
        elif not dropped:
            named[name] = shape
    for name, pieces in wholes.items():
        named[name] = (sum(piece[0] for piece in pieces), *pieces[0][1:])
    return named


def find_prefix(names: Collection[str], rules: Sequence[object], wanted: Collection[str]) -> str:
    """Return the prefix under which a file has all tensors of a network, or nothing.

    It is looked for only where none of the network's names is in the file as it is.

    Args:
        names: Of the file's tensors.
        rules: From the file's names, without the prefix, to the network's.
        wanted: Names of the network's tensors.

    Returns:
        The shortest such prefix; ``""`` if there is none, or none is needed.
    """
    needed = {name for name in wanted if name.rpartition(".")[2] != COUNTER}
    if not needed or needed & renamed(dict.fromkeys(names, ()), rules).keys():
        return ""
    for prefix in prefix_candidates(names):
        inside = {n.removeprefix(prefix): (1,) for n in names if n.startswith(prefix)}
        if needed <= renamed(inside, rules).keys():
            return prefix
    return ""
