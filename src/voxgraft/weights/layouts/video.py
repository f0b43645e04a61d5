"""How public files of video networks name their tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from voxgraft.weights.convert.rules import Drop, Rename

LAYOUTS: Mapping[str, Callable[[str], tuple[Rename | Drop, ...]]] = {}

SIGNS: tuple[tuple[str, Callable[[Collection[str]], bool]], ...] = ()
