"""The fewest rules of renaming that make one list of names of another."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from voxgraft.errors import ConversionError
from voxgraft.weights.convert.rules import Rename

_MARK = "was:"


def rename_rules(pairs: Mapping[str, str], others: Collection[str] = ()) -> list[Rename]:
    """Return rules that give each name its new one, checked by following them.

    Args:
        pairs: From old names to new ones.
        others: Further names, which the rules leave as they are.

    Raises:
        ConversionError: If two names become one.
    """
    if len(set(pairs.values())) < len(pairs):
        raise ConversionError("two names would become one. Give each tensor a name of its own.")
    if all(old == new for old, new in pairs.items()):
        return []
    tries = [_one_by_one(pairs, others), _by_block(pairs, others)]
    good = [rules for rules in tries if _follows(rules, pairs, others)]
    if good:
        return min(good, key=len)
    # Names of one side are names of the other too: rules must not act on each other's results.
    marked = {f"{_MARK}{old}": new for old, new in pairs.items()}
    rules = _one_by_one(marked, [f"{_MARK}{name}" for name in others])
    return [Rename("^", _MARK), *rules, Rename(f"^{_MARK}", "")]


def _follows(rules: list[Rename], pairs: Mapping[str, str], others: Iterable[str]) -> bool:
    wanted = {**pairs, **{name: name for name in others}}
    return all(_renamed(rules, old) == new for old, new in wanted.items())


def _renamed(rules: Iterable[Rename], name: str) -> str:
    for rule in rules:
        name = rule.rename(name)
    return name


def _split(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return a name's words and its numbers: ``a.1.b`` gives ``("a.", ".b")`` and ``("1",)``."""
    pieces = re.split(r"(\d+)", name)
    return tuple(pieces[::2]), tuple(pieces[1::2])


def _ends(pairs: Mapping[str, str]) -> dict[str, str]:
    """Return the pairs without what both names end in, where that is a whole part of a name.

    Names keep their end (marked by ``$``) where the part before it begins other names too.
    """
    parents: dict[str, set[str]] = defaultdict(set)
    for old, new in pairs.items():
        a, _, end = old.rpartition(".")
        b, _, other = new.rpartition(".")
        parents[a].add(b if a and b and end == other else "")
    inner = {prefix for name in pairs for prefix in _prefixes(name.rpartition(".")[0])}
    cut: dict[str, str] = {}
    for old, new in pairs.items():
        a = old.rpartition(".")[0]
        if "" in parents[a] or len(parents[a]) > 1 or a in inner:
            cut[f"{old}$"] = f"{new}$"
        else:
            cut[f"{a}."] = f"{new.rpartition('.')[0]}."
    return cut


def _prefixes(path: str) -> list[str]:
    """Return the paths that a path lies in."""
    parts = path.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _one_by_one(pairs: Mapping[str, str], others: Collection[str]) -> list[Rename]:
    """Return a rule for each kind of name, with numbers that stay the same taken over."""
    cut = _ends(pairs)
    alone = [*(f"{name}$" for name in others)]
    kinds: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[str, str]] = defaultdict(dict)
    for old, new in cut.items():
        kinds[_split(old)[0], _split(new)[0]][old] = new
    rules: list[Rename] = []
    for group in kinds.values():
        if all(old == new for old, new in group.items()):
            continue
        rules += _rules_of(group, cut, alone)
    return rules


def _rules_of(
    group: Mapping[str, str], cut: Mapping[str, str], alone: Collection[str]
) -> list[Rename]:
    """Return rules for names of one kind: as few as there are ways in which numbers change."""
    numbers = [(_split(old)[1], _split(new)[1]) for old, new in group.items()]
    words, new_words = _split(next(iter(group)))[0], _split(next(iter(group.values())))[0]
    count = len(numbers[0][0])
    fixed = [len({old[i] for old, _ in numbers}) == 1 for i in range(count)]
    sources: list[int | str] = []
    for j in range(len(numbers[0][1])):
        same = [
            i
            for i in range(count)
            if not fixed[i] and all(old[i] == new[j] for old, new in numbers)
        ]
        values = {new[j] for _, new in numbers}
        if len(values) == 1:
            sources.append(next(iter(values)))
        elif same:
            sources.append(min(same, key=lambda i: abs(i - j)))
        else:
            break
    if len(sources) == len(numbers[0][1]):
        rule = _rule(words, numbers[0][0], fixed, new_words, sources)
        regex = re.compile(rule.pattern)
        touched = [old for old in cut if regex.match(old.removesuffix("$"))]
        if set(touched) <= set(group) and not any(
            regex.match(name.removesuffix("$")) for name in alone
        ):
            return [rule]
    position = next((i for i in range(count) if not fixed[i]), None)
    if position is None:
        return [_rule(words, numbers[0][0], [True] * count, new_words, list(numbers[0][1]))]
    rules: list[Rename] = []
    for value in dict.fromkeys(old[position] for old, _ in numbers):
        part = {o: n for o, n in group.items() if _split(o)[1][position] == value}
        if not all(old == new for old, new in part.items()):
            rules += _rules_of(part, cut, alone)
    return rules


def _rule(
    words: tuple[str, ...],
    values: tuple[str, ...],
    fixed: list[bool],
    new_words: tuple[str, ...],
    sources: list[int | str],
) -> Rename:
    pattern, groups = "^", dict[int, int]()
    for index, word in enumerate(words):
        pattern += re.escape(word.removesuffix("$")) + ("$" if word.endswith("$") else "")
        if index < len(values):
            if fixed[index]:
                pattern += values[index]
            else:
                groups[index] = len(groups) + 1
                pattern += r"(\d+)"
    replacement = ""
    for index, word in enumerate(new_words):
        replacement += word.removesuffix("$").replace("\\", r"\\")
        if index < len(sources):
            source = sources[index]
            replacement += source if isinstance(source, str) else rf"\g<{groups[source]}>"
    return Rename(pattern, replacement)


def _by_block(pairs: Mapping[str, str], others: Collection[str]) -> list[Rename]:
    """Return rules that first rename numbered blocks, then what is in them."""
    blocks: dict[str, str] = {}
    halfway: dict[str, str] = {}
    for old, new in pairs.items():
        a, b = _block(old), _block(new)
        if not a or not b or blocks.setdefault(a, b) != b:
            halfway[old] = old
            continue
        halfway[old] = b + old[len(a) :]
    if len(set(halfway.values())) < len(halfway) or len(set(blocks.values())) < len(blocks):
        return _one_by_one(pairs, others)
    first = [Rename(f"^{re.escape(a)}", b) for a, b in blocks.items() if a != b]
    first = _one_by_one({f"{a}x": f"{b}x" for a, b in blocks.items()}, ()) if first else []
    first = [Rename(r.pattern.removesuffix("x$"), r.replacement.removesuffix("x")) for r in first]
    then = {halfway[old]: new for old, new in pairs.items()}
    return [*first, *_one_by_one(then, others)]


def _block(name: str) -> str:
    """Return a name up to its last numbered part that has parts of its own, dot included."""
    parts = name.split(".")[:-2]
    while parts and not re.search(r"\d", parts[-1]):
        parts.pop()
    return ".".join(parts) + "." if parts else ""
