"""A state dict of one network made into that of another, every tensor accounted for."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from voxgraft.errors import ConversionError, GraftError, raise_faults
from voxgraft.weights.convert.rules import (
    Adapting,
    Drop,
    Fresh,
    Naming,
    Rename,
    Rule,
    Shape,
)
from voxgraft.weights.report import GraftReport

BUFFER_NAMES = re.compile(r"(?:.*\.)?(?:running_mean|running_var|num_batches_tracked)")
"""Tensors that are no parameters, where nobody says which ones are not."""

JOINED = " + "
"""Between the names of tensors that became one, in a verdict."""

_MOST_HINTS = 300
_COUNTER = "num_batches_tracked"
_COUNTER_REASON = "counter of BatchNorm batches, which changes no output"


@dataclass(frozen=True)
class Converted:
    """What a conversion gives."""

    state: dict[str, Tensor]
    """Tensors of the model by name; those that are fresh are absent."""
    report: GraftReport


def convert(
    state: Mapping[str, Tensor],
    targets: Mapping[str, Shape],
    rules: Sequence[Rule] = (),
    *,
    source: str = "source",
    model: str = "model",
    method: str = "",
    buffers: Collection[str] | None = None,
) -> Converted:
    """Convert a state dict, without guessing and without changing what is given.

    First each tensor of the source gets its name: the ``Rename`` rules in their order, unless a
    ``Drop`` rule, in its place in that order, takes it out; those that a ``Join`` rule calls parts
    of a whole are stacked. Then each tensor of the model is
    matched by name. A ``Fresh`` rule keeps it as it is (a tensor of the source under that name is
    dropped). Otherwise the other rules change the source's tensor, in their order; if it then has
    the model's shape, it is *loaded* (no rule had to change it) or *adapted*.

    BatchNorm's ``num_batches_tracked``, which changes no output in the networks here, may be
    absent on either side: it is then fresh or dropped without a rule.

    Args:
        state: The source's tensors.
        targets: Shape of each tensor of the model, by name.
        rules: What may happen on the way.
        source: Name of the source, for report and messages.
        model: Name of the model, likewise.
        method: Name of the conversion, for the report.
        buffers: Names of the targets that are no parameters; by default those of BatchNorm.

    Returns:
        The model's tensors, which share no memory with the source's, and the report.

    Raises:
        GraftError: If a tensor of either side is unexplained; the error names all of them, with
            the shapes expected and found.
        ConversionError: If a rule itself makes no sense.
    """
    named, origin, dropped, faults = _named(state, rules)
    adapting = [rule for rule in rules if not isinstance(rule, Naming | Fresh)]
    fresh_rules = [rule for rule in rules if isinstance(rule, Fresh)]
    converted: dict[str, Tensor] = {}
    loaded: list[Mapping[str, str]] = []
    adapted: list[Mapping[str, str]] = []
    fresh: list[Mapping[str, str]] = []
    leftover = set(named)
    for name, shape in targets.items():
        reason = next((rule.reason for rule in fresh_rules if rule.chooses(name)), None)
        if reason is not None:
            fresh.append({"name": name, "because": reason})
            if name in leftover:
                leftover.discard(name)
                for old in origin[name].split(JOINED):
                    dropped[old] = f"the model's {name} is fresh: {reason}"
            continue
        if name not in named:
            if name.rpartition(".")[2] == _COUNTER:
                fresh.append({"name": name, "because": f"absent in the source; {_COUNTER_REASON}"})
            else:
                faults.append(_missing(name, shape, named, targets, origin))
            continue
        leftover.discard(name)
        tensor, steps = _adapt(name, named[name], shape, adapting, faults)
        if tensor is None:
            continue
        if not tensor.is_floating_point() and _trained(name, buffers):
            faults.append(_whole_numbers(name, tensor, origin[name]))
            continue
        if JOINED in origin[name]:
            steps.insert(0, f"stacked of {origin[name].count(JOINED) + 1} tensors")
        if tensor.shape != shape:
            faults.append(_misfit(name, shape, named[name], tensor, origin[name], steps))
            continue
        converted[name] = _owned(tensor, named[name])
        verdict = {"name": name, "from": origin[name]}
        if steps:
            adapted.append({**verdict, "how": "; ".join(steps)})
        else:
            loaded.append(verdict)
    for name in named:
        if name in leftover:
            if name.rpartition(".")[2] == _COUNTER:
                dropped[origin[name]] = f"absent in the model; {_COUNTER_REASON}"
            else:
                faults.append(_unused(name, named[name], origin[name], targets, named))
    if faults:
        raise_faults(
            GraftError,
            f"tensors of {source!r} and {model!r} are unexplained",
            faults,
            "Nothing was loaded. Choose the model that this source belongs to, or add a rule: "
            "Rename, Inflate, FoldChannels, ReconcileKernel, Drop(reason), Fresh(reason).",
        )
    report = GraftReport(
        source=source,
        model=model,
        method=method,
        coverage=0.0,
        loaded=tuple(loaded),
        adapted=tuple(adapted),
        fresh=tuple(fresh),
        dropped=tuple(
            {"name": name, "because": dropped[name]} for name in state if name in dropped
        ),
    )
    return Converted(converted, _counted(report, state, targets, buffers))


def _named(
    state: Mapping[str, Tensor], rules: Sequence[Rule]
) -> tuple[dict[str, Tensor], dict[str, str], dict[str, str], list[str]]:
    named: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    dropped: dict[str, str] = {}
    faults: list[str] = []
    wholes: dict[str, dict[int, str]] = {}
    counts: dict[str, int] = {}
    naming = [rule for rule in rules if isinstance(rule, Naming)]
    for old, tensor in state.items():
        name, part, count = old, None, 0
        for rule in naming:
            if isinstance(rule, Rename):
                name = rule.rename(name)
            elif isinstance(rule, Drop):
                if rule.chooses(name):
                    dropped[old] = rule.reason
                    break
            elif (place := rule.place(name)) is not None:
                (name, part), count = place, len(rule.parts)
        if old in dropped:
            continue
        if part is not None:
            counts[name] = count
        if part is not None and part not in wholes.setdefault(name, {}):
            wholes[name][part] = old
        elif name in named or part is not None:
            first = origin.get(name) or wholes[name][part or 0]
            faults.append(f"{old} and {first} of the source both become {name}")
        else:
            named[name] = tensor
            origin[name] = old
    _stack(state, wholes, counts, named, origin, faults)
    return named, origin, dropped, faults


def _stack(
    state: Mapping[str, Tensor],
    wholes: Mapping[str, Mapping[int, str]],
    counts: Mapping[str, int],
    named: dict[str, Tensor],
    origin: dict[str, str],
    faults: list[str],
) -> None:
    """Add the tensors that ``Join`` rules make of parts, given as the parts' names by place."""
    for name, parts in wholes.items():
        olds = [parts[index] for index in sorted(parts)]
        shapes = {tuple(state[old].shape[1:]) if state[old].ndim else None for old in olds}
        if name in named:
            faults.append(f"{olds[0]} and {origin[name]} of the source both become {name}")
        elif len(olds) < counts[name] or len(shapes) > 1 or None in shapes:
            found = ", ".join(f"{old} {tuple(state[old].shape)}" for old in olds)
            faults.append(f"{name} is stacked of {counts[name]} tensors, found {found}")
        else:
            named[name] = torch.cat([state[old] for old in olds])
            origin[name] = JOINED.join(olds)


def _adapt(
    name: str, tensor: Tensor, shape: Shape, rules: Sequence[Adapting], faults: list[str]
) -> tuple[Tensor | None, list[str]]:
    steps: list[str] = []
    for rule in rules:
        try:
            changed = rule.adapt(name, tensor, shape)
        except ConversionError as fault:
            faults.append(f"{name}: {fault}")
            return None, steps
        if changed is not None:
            tensor, how = changed
            steps.append(how)
    return tensor, steps


def _owned(tensor: Tensor, given: Tensor) -> Tensor:
    """Return the tensor in memory of its own: files may be mapped, expanded views share."""
    if tensor.untyped_storage().data_ptr() == given.untyped_storage().data_ptr():
        return tensor.clone(memory_format=torch.contiguous_format)
    return tensor.contiguous()


def _shown(name: str, old: str) -> str:
    return name if name == old else f"{name} ({old} in the source)"


def _missing(
    name: str,
    shape: Shape,
    named: Mapping[str, Tensor],
    targets: Mapping[str, Shape],
    origin: Mapping[str, str],
) -> str:
    spare = [other for other in named if other not in targets]
    near = _nearest(name, spare)
    hint = ""
    if near:
        found = tuple(named[near[0]].shape)
        hint = f"; the nearest that is not used is {_shown(near[0], origin[near[0]])} {found}"
    return f"{name} expects {shape}, found nothing of that name in the source{hint}"


def _nearest(name: str, others: Sequence[str]) -> list[str]:
    """Return the name most like one, for a hint; of hundreds nobody would find it by reading."""
    if len(others) > _MOST_HINTS or len(name) > _MOST_HINTS:
        return []
    return difflib.get_close_matches(name, others, n=1, cutoff=0.6)


def _misfit(
    name: str, shape: Shape, given: Tensor, adapted: Tensor, old: str, steps: Sequence[str]
) -> str:
    found, became = tuple(given.shape), tuple(adapted.shape)
    after = f" after: {'; '.join(steps)}" if steps else ""
    turned = sorted(became) == sorted(shape)
    hint = "; it seems transposed" if turned else ""
    return f"{_shown(name, old)} expects {shape}, found {found}{after}{hint}"


def _trained(name: str, buffers: Collection[str] | None) -> bool:
    """Say whether a tensor of the model is a parameter, or a statistic: never whole numbers.

    Where nobody says which are no parameters, names that are always one are.
    """
    last = name.rpartition(".")[2]
    if last in ("running_mean", "running_var"):
        return True
    return last in ("weight", "bias") if buffers is None else name not in buffers


def _whole_numbers(name: str, tensor: Tensor, old: str) -> str:
    kind = str(tensor.dtype).removeprefix("torch.")
    return (
        f"{_shown(name, old)} holds {kind}, expected floating point: weights that were quantized "
        "must be turned back by the program that wrote them"
    )


def _unused(
    name: str,
    tensor: Tensor,
    old: str,
    targets: Mapping[str, Shape],
    named: Mapping[str, Tensor],
) -> str:
    wanting = [other for other in targets if other not in named]
    near = _nearest(name, wanting)
    hint = f"; the nearest that has no source is {near[0]} {targets[near[0]]}" if near else ""
    found = tuple(tensor.shape)
    return f"{_shown(name, old)} {found} has no place in the model{hint}"


def stage_of(name: str) -> str:
    """Return the stage that a tensor belongs to: ``blocks.3`` for ``blocks.3.0.conv.weight``."""
    parts = name.split(".")
    return ".".join(parts[: 2 if len(parts) > 2 and parts[1].isdigit() else 1])


def _counted(
    report: GraftReport,
    state: Mapping[str, Tensor],
    targets: Mapping[str, Shape],
    buffers: Collection[str] | None,
) -> GraftReport:
    if buffers is None:
        buffers = {name for name in targets if BUFFER_NAMES.fullmatch(name)}
    else:
        buffers = set(buffers)
    sizes = {name: math.prod(shape) for name, shape in targets.items() if name not in buffers}
    verdicts = {"loaded": report.loaded, "adapted": report.adapted, "fresh": report.fresh}
    parameters = {"model": sum(sizes.values())}
    held = {"model": len(targets) - len(sizes)}
    for kind, tensors in verdicts.items():
        names = [verdict["name"] for verdict in tensors]
        parameters[kind] = sum(sizes.get(name, 0) for name in names)
        held[kind] = sum(name in buffers for name in names)
    parameters["dropped"] = sum(
        state[verdict["name"]].numel()
        for verdict in report.dropped
        if not BUFFER_NAMES.fullmatch(verdict["name"])
    )
    left = {verdict["name"] for verdict in report.fresh}
    whole: dict[str, int] = {}
    filled: dict[str, int] = {}
    for name, size in sizes.items():
        stage = stage_of(name)
        whole[stage] = whole.get(stage, 0) + size
        filled[stage] = filled.get(stage, 0) + (0 if name in left else size)
    covered = parameters["loaded"] + parameters["adapted"]
    return replace(
        report,
        coverage=covered / parameters["model"] if parameters["model"] else 0.0,
        parameters=parameters,
        buffers=held,
        coverage_by_stage={s: filled[s] / whole[s] if whole[s] else 0.0 for s in whole},
    )
