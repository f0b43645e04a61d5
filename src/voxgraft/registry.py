"""A table of named things that refuses duplicates and suggests near names."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Generic, TypeVar

from voxgraft.errors import RegistryError

T = TypeVar("T")


class Registry(Generic[T]):
    """Named things of one kind, in the order of their registration."""

    def __init__(self, kind: str) -> None:
        """Make an empty registry.

        Args:
            kind: What it holds, in the singular, for messages ("model", "source").
        """
        self.kind = kind
        self._items: dict[str, T] = {}

    def register(self, name: str, item: T) -> T:
        """Add ``item`` under ``name``.

        Raises:
            RegistryError: If the name is taken.
        """
        if name in self._items:
            raise RegistryError(
                f"{self.kind} {name!r} is registered twice. Give one of them another name."
            )
        self._items[name] = item
        return item

    def get(self, name: str) -> T:
        """Return the item of that name.

        Raises:
            RegistryError: If there is none; near names are suggested.
        """
        if name in self._items:
            return self._items[name]
        near = difflib.get_close_matches(name, self._items, n=3, cutoff=0.5)
        hint = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
        raise RegistryError(
            f"no {self.kind} is called {name!r}.{hint} "
            f"`voxgraft {self.kind}s` lists all {len(self._items)}."
        )

    def names(self) -> list[str]:
        """Return all names, in the order of registration."""
        return list(self._items)

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[T]:
        return iter(self._items.values())

    def __len__(self) -> int:
        return len(self._items)
