"""Tensors of an unknown file aligned with those of a network: by names, shapes and order.

A pair is made only on evidence: the same name; a shape that both sides have once; the same place in
the order between two such pairs; the same rank among numbered siblings; the same change of words as
in such pairs. What could be one tensor or another stays unpaired.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Shape = tuple[int, ...]
_Signature = tuple[tuple[str, Shape], ...]

EVIDENCE = ("name", "shape", "order", "number", "analogy")
"""What a pair is made on."""

_COUNTER = "num_batches_tracked"
_LEAVES = {
    "weight": "weight",
    "bias": "bias",
    "running_mean": "running_mean",
    "running_var": "running_var",
    "kernel": "weight",
    "in_proj_weight": "in_proj_weight",
    "in_proj_bias": "in_proj_bias",
}
_NORM_LEAVES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "moving_var": "running_var",
}


@dataclass
class Alignment:
    """Which tensor of a file is which of a network, and on what evidence."""

    pairs: dict[str, str] = field(default_factory=dict)
    """From the file's names to the network's."""
    evidence: dict[str, str] = field(default_factory=dict)
    """Of each pair, by the file's name: one of :data:`EVIDENCE`."""


@dataclass(frozen=True)
class _Module:
    path: str
    leaves: Mapping[str, str]
    """From the leaf's common name to the tensor's name."""
    signature: _Signature


def align(
    source: Mapping[str, Shape],
    target: Mapping[str, Shape],
    *,
    stems: Collection[str],
    inflate: bool,
    ordered: bool,
) -> Alignment:
    """Pair the tensors of a file with those of a network.

    Args:
        source: Shapes of the file's tensors, in the file's order.
        target: Shapes of the network's, in the order of its definition.
        stems: The network's kernels that take the input; channels may differ there.
        inflate: Whether the file's kernels are 2D and the network's 3D.
        ordered: Whether the file's order means anything (safetensors sorts names).

    Returns:
        The pairs; never two of one tensor.
    """
    found = Alignment()
    ours = {n: _canonical(s, inflate and len(s) == 5) for n, s in target.items()}
    theirs = {n: tuple(s) for n, s in source.items()}
    _pair_stems(found, theirs, ours, target, stems)
    for name, shape in theirs.items():
        if name not in found.pairs and ours.get(name) == shape and name not in _taken(found):
            _pair(found, name, name, "name")
    left, right = _modules(theirs, found.pairs), _modules(ours, _taken(found))
    _pair_unique(found, left, right)
    if ordered:
        _pair_in_order(found, _modules(theirs, ()), _modules(ours, ()))
    _pair_by_number(found, left, right)
    before = -1
    while before < len(found.pairs):
        before = len(found.pairs)
        _pair_by_analogy(found, left, right)
        _pair_in_blocks(found, left, right)
    _pair_unique(found, _free(found, left, ours=False), _free(found, right, ours=True))
    return found


def _canonical(shape: Shape, flat: bool) -> Shape:
    return (*shape[:2], *shape[3:]) if flat else tuple(shape)


def _taken(found: Alignment) -> set[str]:
    return set(found.pairs.values())


def _pair(found: Alignment, old: str, new: str, why: str) -> None:
    found.pairs[old] = new
    found.evidence[old] = why


def _pair_stems(
    found: Alignment,
    theirs: Mapping[str, Shape],
    ours: Mapping[str, Shape],
    target: Mapping[str, Shape],
    stems: Collection[str],
) -> None:
    """Pair the kernels that take the input: the first of its kind, which nothing else fits."""
    others = {shape for name, shape in ours.items() if name not in stems}
    for stem in (name for name in target if name in stems):
        wanted = ours[stem]
        if len(wanted) < 3:
            continue
        kind = (wanted[0], *wanted[2:])
        fits = [
            name
            for name, shape in theirs.items()
            if len(shape) == len(wanted) and (shape[0], *shape[2:]) == kind
        ]
        sure = [n for n in fits if theirs[n] not in others] or [n for n in fits if n == stem]
        if len(sure) == 1 and sure[0] not in found.pairs:
            _pair(found, sure[0], stem, "shape")


def _modules(shapes: Mapping[str, Shape], without: Collection[str]) -> list[_Module]:
    groups: dict[str, dict[str, str]] = {}
    for name in shapes:
        path, _, leaf = name.rpartition(".")
        if leaf == _COUNTER or name in without:
            continue
        norm = leaf in _NORM_LEAVES and f"{path}.beta" in shapes and f"{path}.gamma" in shapes
        common = _NORM_LEAVES[leaf] if norm else _LEAVES.get(leaf)
        if common is None:
            groups[name] = {"": name}
        else:
            groups.setdefault(path, {})[common] = name
    return [
        _Module(path, leaves, tuple(sorted((leaf, shapes[n]) for leaf, n in leaves.items())))
        for path, leaves in groups.items()
    ]


def _classes(modules: Sequence[_Module]) -> dict[_Signature, list[_Module]]:
    classes: dict[_Signature, list[_Module]] = defaultdict(list)
    for module in modules:
        classes[module.signature].append(module)
    return classes


def _free(found: Alignment, modules: Sequence[_Module], *, ours: bool) -> list[_Module]:
    """Return what is left of modules: their tensors that are not paired yet."""
    used = _taken(found) if ours else set(found.pairs)
    free = []
    for module in modules:
        leaves = {leaf: name for leaf, name in module.leaves.items() if name not in used}
        signature = tuple(entry for entry in module.signature if entry[0] in leaves)
        if leaves:
            free.append(_Module(module.path, leaves, signature))
    return free


def _pair_modules(found: Alignment, left: _Module, right: _Module, why: str) -> None:
    for leaf, old in left.leaves.items():
        _pair(found, old, right.leaves[leaf], why)


def _pair_unique(found: Alignment, left: list[_Module], right: list[_Module]) -> None:
    ours = _classes(right)
    for signature, modules in _classes(left).items():
        if len(modules) == 1 and len(ours.get(signature, ())) == 1:
            _pair_modules(found, modules[0], ours[signature][0], "shape")


def _pair_in_order(found: Alignment, left: list[_Module], right: list[_Module]) -> None:
    """Pair what lies between two known pairs, if both sides have as many of its kind there."""
    place = {name: index for index, m in enumerate(right) for name in m.leaves.values()}
    anchors = [
        (index, place[found.pairs[name]])
        for index, module in enumerate(left)
        for name in list(module.leaves.values())[:1]
        if name in found.pairs and found.pairs[name] in place
    ]
    if any(a[1] > b[1] for a, b in pairwise(anchors)):
        return  # the file's order is another one: it says nothing
    ends = [(-1, -1), *anchors, (len(left), len(right))]
    for (a, b), (c, d) in pairwise(ends):
        theirs = _classes(_free(found, left[a + 1 : c], ours=False))
        ours = _classes(_free(found, right[b + 1 : d], ours=True))
        for signature, modules in theirs.items():
            others = ours.get(signature, [])
            if len(modules) == len(others) and _named_alike(modules, others):
                for module, other in zip(modules, others, strict=True):
                    _pair_modules(found, module, other, "order")


def _named_alike(left: list[_Module], right: list[_Module]) -> bool:
    """Say whether names do not speak against an order: numbers of siblings rise on both sides."""
    for before, after in pairwise(left):
        if _template(before.path) == _template(after.path) and _numbers(before.path) > _numbers(
            after.path
        ):
            return False
    last = [module.path.rpartition(".")[2] for module in left]
    other = [module.path.rpartition(".")[2] for module in right]
    # The same words in another order contradict the order of the file.
    return not (set(last) == set(other) and len(set(last)) > 1 and last != other)


def _numbers(path: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", path)))


def _template(path: str) -> str:
    return re.sub(r"\d+", "#", path)


def _container(path: str) -> str:
    """Return the numbered block that a module lies in; empty if it lies in none."""
    parts = path.split(".")[:-1]
    while parts and not re.search(r"\d", parts[-1]):
        parts.pop()
    return ".".join(parts)


def _pair_by_number(found: Alignment, left: list[_Module], right: list[_Module]) -> None:
    """Pair numbered blocks of one kind by their rank, and in them modules by name or rank."""
    theirs = _blocks(_free(found, left, ours=False), rising=True)
    ours = _blocks(_free(found, right, ours=True), rising=False)
    for kind, blocks in theirs.items():
        others = ours.get(kind, [])
        if len(blocks) != len(others) or len({_template(path) for path, _ in blocks}) > 1:
            continue
        for (_, modules), (_, wanted) in zip(blocks, others, strict=True):
            _pair_inside(found, modules, wanted)


def _blocks(
    modules: list[_Module], *, rising: bool
) -> dict[tuple[_Signature, ...], list[tuple[str, list[_Module]]]]:
    inside: dict[str, list[_Module]] = {}
    for module in modules:
        inside.setdefault(_container(module.path), []).append(module)
    paths = sorted(inside, key=_numbers) if rising else list(inside)
    kinds: dict[tuple[_Signature, ...], list[tuple[str, list[_Module]]]] = defaultdict(list)
    for path in paths:
        kinds[tuple(sorted(m.signature for m in inside[path]))].append((path, inside[path]))
    return kinds


def _pair_inside(found: Alignment, left: list[_Module], right: list[_Module]) -> None:
    ours = _classes(right)
    for signature, modules in _classes(left).items():
        others = ours.get(signature, [])
        if len(modules) != len(others):
            continue
        by_rank = _ranked(modules), _ranked(others)
        if len(modules) == 1:
            _pair_modules(found, modules[0], others[0], "number")
        elif by_rank[0] and by_rank[1]:
            for module, other in zip(*by_rank, strict=True):
                _pair_modules(found, module, other, "number")


def _ranked(modules: list[_Module]) -> list[_Module]:
    """Return modules of one block by the numbers in their own names; nothing if they have none."""
    numbers = [_numbers(module.path.rpartition(".")[2]) for module in modules]
    words = {_template(module.path) for module in modules}
    if len(words) > 1 or not all(numbers) or len(set(numbers)) < len(numbers):
        return []
    return [module for _, module in sorted(zip(numbers, modules, strict=True), key=lambda p: p[0])]


def _paired_paths(found: Alignment) -> list[tuple[str, str]]:
    """Return the modules' paths of all pairs."""
    paths = ((old.rpartition(".")[0], new.rpartition(".")[0]) for old, new in found.pairs.items())
    return list(dict.fromkeys(paths))


def _consistent(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return a mapping of what is always mapped to the same."""
    seen: dict[str, set[str]] = defaultdict(set)
    for old, new in pairs:
        seen[old].add(new)
    return {old: next(iter(news)) for old, news in seen.items() if len(news) == 1}


def _pair_by_analogy(found: Alignment, left: list[_Module], right: list[_Module]) -> None:
    """Pair modules whose names change as those of known pairs do: word by word."""
    paths = _paired_paths(found)
    blocks = _consistent((_container(a), _container(b)) for a, b in paths)
    blocks |= _consistent((_parent(a), _parent(b)) for a, b in paths)
    words = _consistent((_last(a), _last(b)) for a, b in paths)
    kinds = _consistent(
        (_template(_last(a)), _template(_last(b)))
        for a, b in paths
        if _numbers(_last(a)) == _numbers(_last(b))
    )
    free = {module.path: module for module in _free(found, right, ours=True)}
    wanted: dict[str, list[_Module]] = defaultdict(list)
    for module in _free(found, left, ours=False):
        parent, last = _parent(module.path), _last(module.path)
        word = words.get(last) or _numbered(kinds.get(_template(last)), _numbers(last))
        place = blocks.get(parent, parent)
        path = f"{place}.{word}" if place else word
        other = free.get(path or "")
        if word and other is not None and other.signature == module.signature:
            wanted[other.path].append(module)
    for path, modules in wanted.items():
        if len(modules) == 1:
            _pair_modules(found, modules[0], free[path], "analogy")


def _numbered(template: str | None, numbers: tuple[int, ...]) -> str | None:
    if template is None or template.count("#") != len(numbers):
        return None
    for number in numbers:
        template = template.replace("#", str(number), 1)
    return template


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _pair_in_blocks(found: Alignment, left: list[_Module], right: list[_Module]) -> None:
    """Pair what is left in blocks that are known to be each other, by shape and number."""
    known = _consistent((_container(a), _container(b)) for a, b in _paired_paths(found))
    theirs: dict[str, list[_Module]] = defaultdict(list)
    for module in _free(found, left, ours=False):
        theirs[_container(module.path)].append(module)
    ours: dict[str, list[_Module]] = defaultdict(list)
    for module in _free(found, right, ours=True):
        ours[_container(module.path)].append(module)
    for block, modules in theirs.items():
        if block and block in known:
            _pair_inside(found, modules, ours.get(known[block], []))
