"""The network inside a training checkpoint: under which key it lies, and what its names share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from voxgraft.errors import SourceError

WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "network_weights",
    "network",
    "net",
    "module",
    "weights",
    "params",
    "trunk_state_dict",
    "teacher",
    "student",
    "target_encoder",
    "encoder",
    "backbone",
)
"""Keys under which training code keeps the network, tried by :func:`find_network`."""

AVERAGED = ("state_dict_ema", "model_ema", "ema", "ema_state_dict", "ema_model")
"""Keys of an averaged copy of the network; used only if asked for, or if there is nothing else."""

PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name; stripped where all names have it."""

_DEEPEST = 4


def find_network(
    content: Any, path: Path, key: str | None = None
) -> tuple[dict[Any, Any], list[str]]:
    """Return the mapping of names to tensors in a checkpoint, and how it was found.

    Where the top level is no such mapping, it is looked for under :data:`WRAPPERS`, down to four
    levels. Exactly one of them must hold tensors; an averaged copy (:data:`AVERAGED`) is taken only
    if named, or if there is nothing else.

    Args:
        content: What the file holds.
        path: The file, for messages.
        key: Key of the network, with dots between levels, where there are several.

    Raises:
        SourceError: If there is none, or there are several.
    """
    if key is not None:
        return _under(content, path, key), [f"read from the key {key!r}, as asked"]
    steps: list[str] = []
    notes: list[str] = []
    for _ in range(_DEEPEST):
        if _holds_tensors(content):
            return content, [f"read from the key {'.'.join(steps)!r}", *notes] if steps else []
        step = _next_step(content, path, steps)
        others = [str(name) for name in content if name != step and _mapping(content[name])]
        if others:
            notes.append(f"not read: the tensors under {', '.join(map(repr, others))}")
        steps.append(step)
        content = content[step]
    raise SourceError(
        f"{path} keeps its tensors deeper than {_DEEPEST} levels, below {'.'.join(steps)!r}. "
        "Save the network's state dict alone."
    )


def _under(content: Any, path: Path, key: str) -> dict[Any, Any]:
    rest = key
    while rest:
        whole = not isinstance(content, dict) or rest in content
        level = rest if whole else rest.partition(".")[0]
        if not isinstance(content, dict) or level not in content:
            raise SourceError(
                f"{path} has no key {key!r}: {level!r} is not among {listed(content)}. "
                "Give one that is there."
            )
        content = content[level]
        rest = rest[len(level) + 1 :]
    if not isinstance(content, dict) or not _mapping(content):
        raise SourceError(f"{path} has no tensors under {key!r}, but {listed(content)}.")
    return content


def _next_step(content: Any, path: Path, steps: list[str]) -> str:
    if not isinstance(content, dict):
        raise SourceError(
            f"{path} holds {listed(content)}, expected a mapping of names to tensors. "
            "Save the network's state dict."
        )
    for names in (WRAPPERS, AVERAGED):
        found = [name for name in names if _reaches_tensors(content.get(name), _DEEPEST)]
        if len(found) > 1:
            raise SourceError(
                f"{path} has several networks, under the keys {', '.join(map(repr, found))}. "
                "Choose one with `key=` (on the command line `--key`)."
            )
        if found:
            return found[0]
    where = f" under {'.'.join(steps)!r}" if steps else ""
    raise SourceError(
        f"{path} has no state dict{where}: its keys are {listed(content)}. Looked for names with "
        f"tensors, or for one of the keys {', '.join(WRAPPERS)}. Name the right one with `key=` "
        "(on the command line `--key`)."
    )


def _mapping(content: Any) -> bool:
    return isinstance(content, dict) and any(isinstance(v, Tensor) for v in content.values())


def _holds_tensors(content: Any) -> bool:
    """Say whether a mapping has tensors at this level.

    A training checkpoint may keep a stray tensor (a best score) beside its networks: it counts
    as a level of tensors only if no known wrapper is there with tensors of its own.
    """
    if not _mapping(content):
        return False
    return not any(_reaches_tensors(content.get(name), 2) for name in (*WRAPPERS, *AVERAGED))


def _reaches_tensors(content: Any, levels: int) -> bool:
    if not isinstance(content, dict) or levels == 0:
        return False
    if _mapping(content):
        return True
    names = (*WRAPPERS, *AVERAGED)
    return any(_reaches_tensors(content.get(name), levels - 1) for name in names)


def listed(content: Any) -> str:
    """Say in a few words what something is: the keys of a mapping, or a type."""
    if isinstance(content, dict):
        names = [repr(name) for name in content] or ["none"]
        return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f"a {type(content).__name__}"


def strip_wrapping(state: dict[Any, Any]) -> tuple[dict[Any, Any], list[str]]:
    """Strip what DataParallel and torch.compile put into names: of all, or of one sub-module's.

    Returns:
        The tensors, and a note for each prefix.
    """
    notes: list[str] = []
    if not all(isinstance(name, str) for name in state):
        return state, notes
    for prefix in PREFIXES * 2:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
            notes.append(f"the prefix {prefix!r} of all names was stripped")
    for part in dict.fromkeys(name.partition(".")[0] for name in state):
        inside = [name for name in state if name.startswith(f"{part}.")]
        for prefix in PREFIXES:
            whole = f"{part}.{prefix}"
            if inside and all(name.startswith(whole) for name in inside):
                renamed = {name: f"{part}.{name.removeprefix(whole)}" for name in inside}
                state = {renamed.get(name, name): value for name, value in state.items()}
                inside = list(renamed.values())
                notes.append(f"{prefix!r} of all names under {part!r} was stripped")
    return state, notes
