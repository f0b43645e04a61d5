"""Read a section of a recipe or plan from plain data, strictly, with all faults named at once."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from voxgraft.errors import RecipeError, VoxgraftError, raise_faults
from voxgraft.files import write_text

T = TypeVar("T")


_PAGES = {"plan": "compare.md", "recipe": "training.md"}


class Faults:
    """Faults found while reading one file, each with the path of its key."""

    def __init__(self, where: str) -> None:
        """Start without faults.

        Args:
            where: The file (or other origin) that the data came from, for the message.
        """
        self.where = where
        self.found: list[str] = []

    def add(self, key: str, message: str) -> None:
        """Add a fault at ``key``."""
        self.found.append(f"{key}: {message}" if key else message)

    def raise_if_any(self, kind: str) -> None:
        """Raise one error for all faults.

        Raises:
            RecipeError: If there are any.
        """
        if self.found:
            raise_faults(
                RecipeError,
                f"{self.where} is not a valid {kind}",
                self.found,
                "Mend the file (or the --set values) and try again; "
                f"docs/{_PAGES[kind]} lists the keys.",
            )


_EXAMPLES = {
    "target": ", e.g. {kind: segmentation, columns: [masks], classes: [liver, spleen]}",
    "model": " or the name of a network (`voxgraft models` lists them)",
    "start": ", scratch, or a source (`voxgraft sources` lists them)",
}
"""What a section of a recipe may be, for messages."""


def check_keys(data: Mapping[str, Any], known: list[str], key: str, faults: Faults) -> None:
    """Add a fault for every key of ``data`` that is not in ``known``."""
    for name in data:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            faults.add(f"{key}.{name}" if key else str(name), f"unknown key{hint}")


def read_section(cls: type[T], data: Any, key: str, faults: Faults) -> T | None:
    """Build a dataclass from a mapping; faults are added, not raised.

    Args:
        cls: A dataclass; its annotations are checked strictly (a text is no number).
        data: The mapping from YAML.
        key: Path of the section in the file.
        faults: Where faults go.

    Returns:
        The value, or None if there were faults.
    """
    if not isinstance(data, Mapping):
        found = "missing" if data is None else f"found {data!r}"
        faults.add(key, f"{found}, expected a mapping of settings{_EXAMPLES.get(key, '')}")
        return None
    before = len(faults.found)
    check_keys(data, [field.name for field in dataclasses.fields(cls)], key, faults)  # type: ignore[arg-type]
    for name, hint in typing.get_type_hints(cls).items():
        inner = data.get(name)
        for part in (hint, *typing.get_args(hint)):
            if isinstance(inner, Mapping) and dataclasses.is_dataclass(part):
                known = [field.name for field in dataclasses.fields(part)]
                check_keys(inner, known, f"{key}.{name}" if key else name, faults)
    if len(faults.found) > before:
        return None
    value: T | None = read_value(cls, dict(data), key, faults)
    return value


def read_value(cls: Any, data: Any, key: str, faults: Faults) -> Any:
    """Read any annotated type from plain data; faults are added, not raised."""
    try:
        text = json.dumps(data)
    except TypeError as error:
        faults.add(key, f"{data!r} is not plain data ({error})")
        return None
    try:
        return _adapter(cls).validate_json(text, strict=True)
    except pydantic.ValidationError as error:
        for item in error.errors(include_url=False):
            path = ".".join([key, *map(str, item["loc"])]).strip(".")
            if item["type"] == "missing":
                faults.add(path, "missing")
            else:
                faults.add(path, f"{item['msg']}, found {item['input']!r}")
    except VoxgraftError as error:
        faults.add(key, str(error))
    return None


@cache
def _adapter(cls: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(cls)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        RecipeError: If the file is missing, is no YAML, repeats a key, or holds no mapping.
    """
    if not path.is_file():
        raise RecipeError(f"{path} is not a file. Give the path of a YAML file.")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is no readable YAML: {error}. Mend that line.") from error
    if not isinstance(data, dict):
        what = "is empty" if data is None else f"holds no settings but {str(data)[:40]!r}"
        raise RecipeError(f"{path} {what}; expected lines of `setting: value`.")
    return data


class _Loader(yaml.SafeLoader):
    """A safe loader that reads as people mean it.

    A key given twice is refused (YAML would keep the last, silently); ``1e-3`` is a number;
    ``no``, ``yes``, ``on`` and ``off`` are words (as in YAML 1.2), so that they can name classes.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            name = str(key_node.value)
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {name!r} is given twice", key_node.start_mark
                )
            seen.add(name)
        return dict(super().construct_mapping(node, deep=deep))


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


class _Dumper(yaml.SafeDumper):
    """Writes what ``_Loader`` reads: words that it takes for other types are quoted."""


_Dumper.yaml_implicit_resolvers = {
    first: list(resolvers) for first, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
}
for _first in "-+0123456789":
    _Dumper.yaml_implicit_resolvers.setdefault(_first, []).extend(
        item for item in _Loader.yaml_implicit_resolvers.get(_first, []) if "eE" in item[1].pattern
    )


def write_yaml(path: Path, data: Mapping[str, Any]) -> None:
    """Write plain data as YAML in its own key order, whole or not at all."""
    plain = json.loads(json.dumps(data))
    text = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    write_text(path, text)


def set_path(data: dict[str, Any], assignment: str) -> None:
    """Apply one ``--set path=value`` to plain data, in place.

    Args:
        data: Nested mappings and lists.
        assignment: ``optimization.steps=200``; the value is read as YAML.

    Raises:
        RecipeError: If there is no ``=``, or the path runs through something that is no mapping.
    """
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise RecipeError(f"--set {assignment!r} is not of the form path=value (a.b=3).")
    place: Any = data
    *parents, last = path.split(".")
    for name in parents:
        place = _step(place, name, assignment)
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {assignment!r}: the value is no YAML: {error}") from error
    if isinstance(place, list):
        place[_index(place, last, assignment)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise RecipeError(f"--set {assignment!r}: {parents[-1]!r} is {place!r}, not a mapping.")


def _step(place: Any, name: str, assignment: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, name, assignment)]
    if isinstance(place, dict):
        if place.get(name) is None:
            place[name] = {}
        return place[name]
    raise RecipeError(f"--set {assignment!r}: {name!r} is reached through {place!r}, no mapping.")


def _index(place: list[Any], name: str, assignment: str) -> int:
    if not name.isdecimal() or int(name) >= len(place):
        raise RecipeError(
            f"--set {assignment!r}: {name!r} is no position in a list of {len(place)}."
        )
    return int(name)
