"""Rules for a file that the catalogue does not know: proposed, never followed unasked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from voxgraft.errors import GraftError
from voxgraft.grafting.graft import Graft, graft
from voxgraft.grafting.plan import Norm
from voxgraft.grafting.recognition import NETWORKS
from voxgraft.models import MODELS, build_encoder
from voxgraft.models.declaration import Declaration
from voxgraft.weights.convert.align import EVIDENCE, Alignment, Shape, align
from voxgraft.weights.convert.renames import rename_rules
from voxgraft.weights.convert.rules import Drop, ReconcileKernel, Rename, Rule
from voxgraft.weights.convert.rules_file import Intensities, RulesFile, read_rules, rules_text
from voxgraft.weights.prefixes import COUNTER, find_prefix, prefix_candidates
from voxgraft.weights.read import read_checkpoint
from voxgraft.weights.recognized import image_anatomy, image_source, native_source
from voxgraft.weights.source import InputContract, LocalFile, Source

_HEADS = re.compile(
    r"(?:.*\.)?_?(?:fc|fcs|head|heads|cls_head|classifier|classification_head|logits|last_linear"
    r"|output|pred|projection_head|contrastive_head)(?:\.\d+|\.fc|\.fc_cls|\.proj|\.linear)*"
)
_SHOWN = 40


@dataclass(frozen=True)
class Proposal:
    """Rules that would take a file into a network, and what they leave unexplained."""

    rules: RulesFile
    evidence: Mapping[str, int]
    """How many tensors were paired on what evidence."""
    unexplained_source: tuple[str, ...]
    """Tensors of the file, with their shapes, for which no rule was found."""
    unexplained_model: tuple[str, ...]
    """Tensors of the network, with their shapes, for which the file seems to have nothing."""

    @property
    def complete(self) -> bool:
        """Whether nothing is left unexplained."""
        return not (self.unexplained_source or self.unexplained_model)

    def text(self) -> str:
        """Return the rules as a YAML file, with what stays unexplained in comments."""
        found = ", ".join(f"{count} by {why}" for why, count in self.evidence.items() if count)
        comments = [
            "Proposed, not yet followed: read each rule before you graft with it.",
            f"Tensors paired: {found or 'none'}.",
            "Check `input` above: it is the architecture's usual one; no file says its own.",
        ]
        for title, names, rule in (
            ("of the file", self.unexplained_source, "drop"),
            ("of the network", self.unexplained_model, "fresh"),
        ):
            if names:
                comments.append(f"Unexplained tensors {title} ({len(names)}); rename, or give why:")
                comments += [_commented(rule, name) for name in names[:_SHOWN]]
            if len(names) > _SHOWN:
                comments.append(f"  … and {len(names) - _SHOWN} more")
        return rules_text(self.rules, comments)


def _commented(rule: str, entry: str) -> str:
    name, _, shape = entry.partition(" ")
    return f"- {{{rule}: '{re.escape(name)}', reason: ''}}  # {shape}"


def propose(path: str | Path, model: str, *, key: str | None = None) -> Proposal:
    """Propose rules for a file whose tensors are those of a network under other names.

    Args:
        path: A checkpoint.
        model: Name of the network that it is to be grafted into.
        key: Key of the network in the file, where there are several.

    Raises:
        SourceError: If the file cannot be read.
        RegistryError: If no model has that name.
        GraftError: If the file's kernels are 2D and the network is made of no image network.
    """
    path = Path(path)
    state = read_checkpoint(path, key=key).state
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    declared, own = _network(model)
    image = not any(len(shape) == 5 for shape in shapes.values()) and declared.original is not None
    if image:
        assert declared.original is not None
        anatomy = image_anatomy(declared.original)
        heads = tuple(f"{head}." for head in anatomy.heads)
        targets = {n: s for n, s in anatomy.shapes.items() if not (heads and n.startswith(heads))}
        stems, positions = anatomy.stems, anatomy.positions
    else:
        targets, stems = own, declared.stems
        positions = frozenset(table.name for table in declared.positions)
        flat = [n for n, s in shapes.items() if len(s) == 4 and s[-1] == s[-2] > 1]
        if flat and not any(len(shape) == 5 for shape in shapes.values()):
            raise GraftError(
                f"{path} has 2D kernels ({flat[0]} and others), and {model} is made of no 2D "
                "network whose kernels could be inflated. Choose a twin (`voxgraft models`)."
            )
    return _proposed(path, model, key, shapes, targets, stems, positions, image=image)


def _network(model: str) -> tuple[Declaration, dict[str, Shape]]:
    with torch.device("meta"):
        encoder = build_encoder(model)
    shapes = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    return encoder.declaration, shapes


def _proposed(
    path: Path,
    model: str,
    key: str | None,
    shapes: dict[str, Shape],
    targets: Mapping[str, Shape],
    stems: frozenset[str],
    positions: frozenset[str],
    *,
    image: bool,
) -> Proposal:
    prefix = find_prefix(shapes, (), targets) or _common_prefix(shapes)
    inside = {n.removeprefix(prefix): s for n, s in shapes.items() if n.startswith(prefix)}
    counted = {n: s for n, s in inside.items() if n.rpartition(".")[2] != COUNTER}
    wanted = {n: s for n, s in targets.items() if n.rpartition(".")[2] != COUNTER}
    ordered = list(shapes) != sorted(shapes)
    found = align(counted, wanted, stems=stems, inflate=False, ordered=ordered)
    _pair_positions(found, counted, wanted, positions)
    resized = _pair_kernels(found, counted, wanted)
    left = [n for n in counted if n not in found.pairs]
    heads = _heads(left)
    outside = [n for n in shapes if not n.startswith(prefix)]
    rules: list[Rule] = [Drop(_any_of(names), reason) for names, reason in _parts(outside)]
    rules += [Rename(f"^{re.escape(prefix)}", "")] if prefix else []
    rules += [
        Drop(rf"{re.escape(head)}\..*", f"the source's own head ({head}); the task brings its own")
        for head in heads
    ]
    kept = tuple(f"{head}." for head in heads)
    others = [n for n in left if not (kept and n.startswith(kept))]
    rules += rename_rules(found.pairs, others)
    rules += [ReconcileKernel(re.escape(name)) for name in resized]
    taken = set(found.pairs.values())
    source = _source(path, model, {new: counted[old] for old, new in found.pairs.items()}, image)
    evidence = dict.fromkeys(EVIDENCE, 0)
    for why in found.evidence.values():
        evidence[why] += 1
    return Proposal(
        rules=RulesFile(model=model, key=key, input=_intensities(source.input), rules=tuple(rules)),
        evidence=evidence,
        unexplained_source=tuple(f"{prefix}{name} {list(counted[name])}" for name in others),
        unexplained_model=tuple(f"{n} {list(s)}" for n, s in wanted.items() if n not in taken),
    )


def _common_prefix(shapes: Mapping[str, Shape]) -> str:
    """Return the longest prefix that all names share."""
    shared = [p for p in prefix_candidates(shapes) if all(n.startswith(p) for n in shapes)]
    return shared[-1] if shared else ""


def _pair_positions(
    found: Alignment,
    theirs: Mapping[str, Shape],
    ours: Mapping[str, Shape],
    positions: frozenset[str],
) -> None:
    """Pair tables of positions of another grid, where only one tensor can be meant."""
    for name in sorted(positions - set(found.pairs.values())):
        shape = ours.get(name, ())
        fits = [
            old
            for old, other in theirs.items()
            if old not in found.pairs and len(other) == len(shape) > 1 and other[-1] == shape[-1]
        ]
        same = [old for old in fits if old == name] or fits
        if len(same) == 1:
            found.pairs[same[0]], found.evidence[same[0]] = name, "shape"


def _pair_kernels(
    found: Alignment, theirs: Mapping[str, Shape], ours: Mapping[str, Shape]
) -> list[str]:
    """Pair kernels of the same name and another size in space, and return the network's names."""
    resized = []
    taken = set(found.pairs.values())
    for name, shape in theirs.items():
        other = ours.get(name)
        if name in found.pairs or other is None or name in taken:
            continue
        if len(shape) == len(other) >= 3 and shape[:2] == other[:2]:
            found.pairs[name], found.evidence[name] = name, "name"
            resized.append(name)
    return resized


def _heads(left: list[str]) -> list[str]:
    """Return the modules among what is left that are a classifier, by their names."""
    modules = dict.fromkeys(name.rpartition(".")[0] for name in left)
    return [module for module in modules if module and _HEADS.fullmatch(module)]


def _parts(outside: list[str]) -> list[tuple[list[str], str]]:
    """Return what lies outside of the network in its file, by its part."""
    parts = dict.fromkeys(name.partition(".")[0] for name in outside)
    return [
        (
            [name for name in outside if name.partition(".")[0] == part],
            f"outside of the network in its file (under {part!r})",
        )
        for part in parts
    ]


def _any_of(names: list[str]) -> str:
    part = names[0].partition(".")[0]
    return rf"{re.escape(part)}\..*" if "." in names[0] else re.escape(names[0])


def _intensities(contract: InputContract) -> Intensities:
    return Intensities(
        channels=contract.channels,
        mean=[float(value) for value in contract.mean],
        sd=[float(value) for value in contract.sd],
        value_range=[float(value) for value in contract.value_range],
    )


def _source(path: Path, model: str, shapes: Mapping[str, Shape], image: bool) -> Source:
    """Return the Source of a file that rules make one of the network's."""
    declared = _network(model)[0]
    if image:
        assert declared.original is not None
        source = image_source(path, declared.original, shapes)
        return replace(source, key_layout="timm", prefix="")
    if model in NETWORKS.names():
        source = native_source(path, model, shapes, NETWORKS)
        return replace(source, key_layout="timm", prefix="", head=(), decoder=())
    return Source(
        id=f"{model}@{path.name}",
        file=LocalFile(path=str(path)),
        sha256=None,
        layout="video" if model in MODELS and MODELS.get(model).native == "video" else "volume",
        input=InputContract(channels=1, mean=(0.0,), sd=(1.0,)),
        architecture=model,
        stem=(declared.stem.removesuffix(".weight"),),
        head=(),
        parameters=None,
    )


def source_by_rules(path: str | Path, rules: RulesFile) -> Source:
    """Return the Source that a file is once rules have named its tensors.

    Give it to :func:`voxgraft.grafting.graft` together with ``rules.rules``.

    Raises:
        SourceError: If the file cannot be read.
        RegistryError: If no model has the name that the rules are for.
    """
    path = Path(path)
    state = read_checkpoint(path, key=rules.key).state
    image = not any(tensor.ndim == 5 for tensor in state.values())
    image = image and _network(rules.model)[0].original is not None
    given = rules.input
    contract = InputContract(
        channels=given.channels,
        mean=tuple(given.mean),
        sd=tuple(given.sd),
        value_range=(given.value_range[0], given.value_range[1]),
    )
    source = _source(path, rules.model, {}, image)
    note = "its tensors were named by rules that a person gave, who also gave the input contract"
    return replace(source, input=contract, key=rules.key, note=note)


def graft_by_rules(
    path: str | Path,
    model: str,
    rules: str | Path | RulesFile,
    *,
    norm: Norm = "keep",
    in_channels: int = 1,
    check_parity: bool = True,
) -> Graft:
    """Graft a file into a network by a file of rules; ``voxgraft graft --rules``.

    Args:
        path: A checkpoint.
        model: Name of the network that the rules are for.
        rules: What :func:`propose` wrote and a person read.
        norm: As for :func:`voxgraft.grafting.graft`.
        in_channels: Channels of the volumes.
        check_parity: As for :func:`voxgraft.grafting.graft`.

    Raises:
        SourceError: If the file or the rules cannot be read.
        GraftError: If the rules are for another network, a tensor is unexplained, or the check
            fails.
    """
    if not isinstance(rules, RulesFile):
        rules = read_rules(rules)
    if rules.model != model:
        raise GraftError(
            f"the rules are for {rules.model!r}, not for {model!r}. Propose them anew, or change "
            "`model` in them if you know that they fit."
        )
    return graft(
        source_by_rules(path, rules),
        model,
        method=rules.method,
        stem=rules.stem,
        norm=norm,
        in_channels=in_channels,
        rules=rules.rules,
        check_parity=check_parity,
    )
