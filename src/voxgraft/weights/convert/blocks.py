"""A part of a larger network's blocks for a smaller network of the same family."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from voxgraft.errors import ConversionError
from voxgraft.weights.convert.rules import Drop, Rename
from voxgraft.weights.convert.subset import Blocks, kept


def block_lists(names: Iterable[str]) -> dict[str, list[int]]:
    """Return the numbered modules among tensor names, by the name of their list."""
    lists: dict[str, set[int]] = {}
    for name in names:
        for match in re.finditer(r"(?<=\.)(\d+)\.", name):
            lists.setdefault(name[: match.start()], set()).add(int(match.group(1)))
    return {name: sorted(numbers) for name, numbers in lists.items()}


def block_rules(
    given: Collection[str], wanted: Collection[str], choice: Blocks
) -> list[Rename | Drop]:
    """Number the blocks that a smaller network keeps of a larger one as they are numbered there.

    Args:
        given: Names of the larger network's tensors.
        wanted: Names of the smaller one's.
        choice: Which of the blocks of a list are kept.

    Returns:
        Rules for the lists of modules that are shorter in the smaller network.

    Raises:
        ConversionError: If a list is longer in the smaller network than in the larger one.
    """
    larger, smaller = block_lists(given), block_lists(wanted)
    rules: list[Rename | Drop] = []
    for name, numbers in smaller.items():
        there = larger.get(name, [])
        if not there or len(there) == len(numbers):
            continue
        if len(there) < len(numbers):
            raise ConversionError(
                f"{name.rstrip('.')} has {len(numbers)} blocks in the model and {len(there)} in "
                "the source: a subset makes networks smaller. Choose a smaller model."
            )
        chosen = [there[index] for index in kept(len(there), len(numbers), choice)]
        start, some = re.escape(name), "|".join(map(str, chosen))
        reason = (
            f"one of {len(there)} blocks of {name.rstrip('.')}, of which {len(chosen)} are kept"
        )
        rules.append(Drop(rf"{start}(?!(?:{some})\.)\d+\..*", reason))
        # Upwards: a block's new number is never one that is still to be given another.
        rules += [
            Rename(rf"^{start}{old}\.", f"{name}{new}.")
            for old, new in zip(chosen, numbers, strict=True)
            if old != new
        ]
    return rules
