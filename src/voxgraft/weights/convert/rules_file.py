"""Rules of a conversion as a small YAML file that a person edits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field

from voxgraft.errors import ConversionError, SourceError, raise_faults
from voxgraft.files import write_text
from voxgraft.weights.convert.channels import StemMethod
from voxgraft.weights.convert.inflate import Inflation
from voxgraft.weights.convert.rules import Drop, Fresh, Join, ReconcileKernel, Rename, Rule

FORMAT = "voxgraft-rules/1"
_REASON = "say why in a few words"
_Text = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Rename(_Strict):
    rename: _Text
    to: str

    def rule(self) -> Rule:
        return Rename(self.rename, self.to)


class _Drop(_Strict):
    drop: _Text
    reason: str

    def rule(self) -> Rule:
        return Drop(self.drop, self.reason)


class _Fresh(_Strict):
    fresh: _Text
    reason: str

    def rule(self) -> Rule:
        return Fresh(self.fresh, self.reason)


class _Join(_Strict):
    join: list[_Text]
    to: _Text

    def rule(self) -> Rule:
        return Join(tuple(self.join), self.to)


class _Reconcile(_Strict):
    reconcile: _Text
    method: Literal["center", "resample"] = "center"

    def rule(self) -> Rule:
        return ReconcileKernel(self.reconcile, self.method)


_KINDS: dict[str, type[_Rename | _Drop | _Fresh | _Join | _Reconcile]] = {
    "rename": _Rename,
    "drop": _Drop,
    "fresh": _Fresh,
    "join": _Join,
    "reconcile": _Reconcile,
}


class Intensities(_Strict):
    """The input that the weights expect."""

    channels: int = Field(ge=1)
    mean: list[float]
    sd: list[Annotated[float, Field(gt=0)]]
    value_range: list[float] = Field(default=[0.0, 1.0], min_length=2, max_length=2)


class _File(_Strict):
    format: Literal["voxgraft-rules/1"]
    model: _Text
    method: Inflation = "average"
    stem: StemMethod = "sum"
    key: str | None = None
    input: Intensities
    rules: list[Any]


@dataclass(frozen=True, kw_only=True)
class RulesFile:
    """What a file of rules says."""

    model: str
    """Name of the network that the rules are for."""
    input: Intensities
    rules: tuple[Rule, ...]
    method: Inflation = "average"
    stem: StemMethod = "sum"
    key: str | None = None
    """Key of the network in the checkpoint, where there are several."""


def read_rules(path: str | Path) -> RulesFile:
    """Read a file of rules.

    Raises:
        SourceError: If it cannot be read, or anything is unknown, missing or impossible; all faults
            are named.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as fault:
        raise SourceError(
            f"{path} is no file of rules: {fault}. `voxgraft graft FILE MODEL --propose "
            f"--rules {path.name}` writes one."
        ) from fault
    faults: list[str] = []
    whole: _File | None = None
    try:
        whole = _File.model_validate(content)
    except pydantic.ValidationError as error:
        faults += [_said(fault["loc"], fault["msg"], fault["input"]) for fault in error.errors()]
    given = content.get("rules") if isinstance(content, dict) else None
    rules = _rules(given if isinstance(given, list) else [], faults)
    if whole is not None and not len(whole.input.mean) == len(whole.input.sd) == (
        whole.input.channels
    ):
        faults.append("input: expected one mean and one sd for each of its channels")
    if faults or whole is None:
        raise_faults(
            SourceError, f"{path} has rules that cannot be followed", faults, "Mend them all."
        )
    return RulesFile(
        model=whole.model,
        input=whole.input,
        rules=tuple(rules),
        method=whole.method,
        stem=whole.stem,
        key=whole.key,
    )


def _rules(entries: list[Any], faults: list[str]) -> list[Rule]:
    rules: list[Rule] = []
    for number, entry in enumerate(entries):
        kind = next((k for k in _KINDS if isinstance(entry, dict) and k in entry), None)
        if kind is None:
            faults.append(f"rules.{number}: expected one of {', '.join(_KINDS)}, found {entry!r}")
            continue
        try:
            rule = _KINDS[kind].model_validate(entry).rule()
            _compile(rule)
        except pydantic.ValidationError as error:
            faults += [
                _said((f"rules.{number}", *fault["loc"]), fault["msg"], fault["input"])
                for fault in error.errors()
            ]
        except ConversionError as fault:
            faults.append(f"rules.{number}: {fault}")
        else:
            rules.append(rule)
    return rules


def _compile(rule: Rule) -> None:
    """See that a rule's patterns are regular expressions, and that its groups are there."""
    if isinstance(rule, Drop | Fresh):
        rule.chooses("x")
    elif isinstance(rule, ReconcileKernel):
        Drop(rule.pattern, _REASON).chooses("x")
    elif isinstance(rule, Rename | Join):
        for pattern in (rule.pattern,) if isinstance(rule, Rename) else rule.parts:
            Drop(pattern, _REASON).chooses("x")
            # With an empty alternative the pattern is found in any text: its groups are looked up.
            Rename(f"{pattern}|", rule.replacement).rename("")


def _said(where: Sequence[Any], message: str, found: Any) -> str:
    place = ".".join(map(str, where)) or "the file"
    shown = "" if isinstance(found, dict) else f", found {found!r}"
    return f"{place}: {message[0].lower()}{message[1:]}{shown}"


def write_rules(path: str | Path, content: RulesFile, comments: Sequence[str] = ()) -> None:
    """Write a file of rules, with comments above them."""
    write_text(Path(path), rules_text(content, comments))


def rules_text(content: RulesFile, comments: Sequence[str] = ()) -> str:
    """Return a file of rules as YAML, with comments above the rules."""
    plain: dict[str, Any] = {
        "format": FORMAT,
        "model": content.model,
        "method": content.method,
        "stem": content.stem,
        "key": content.key,
        "input": content.input.model_dump(),
    }
    head = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=None)
    rules = [_plain(rule) for rule in content.rules]
    body = yaml.safe_dump({"rules": rules}, sort_keys=False, allow_unicode=True, width=1000)
    lines = [f"# {line}".rstrip() for comment in comments for line in comment.splitlines()]
    return "\n".join([head.rstrip(), *lines, body])


def _plain(rule: Rule) -> dict[str, Any]:
    if isinstance(rule, Rename):
        return {"rename": rule.pattern, "to": rule.replacement}
    if isinstance(rule, Drop):
        return {"drop": rule.pattern, "reason": rule.reason}
    if isinstance(rule, Fresh):
        return {"fresh": rule.pattern, "reason": rule.reason}
    if isinstance(rule, Join):
        return {"join": list(rule.parts), "to": rule.replacement}
    if isinstance(rule, ReconcileKernel):
        return {"reconcile": rule.pattern, "method": rule.method}
    raise ConversionError(f"a {type(rule).__name__} rule cannot be written to a file.")
