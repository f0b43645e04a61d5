"""Where starting weights meet models."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from voxgraft.errors import GraftError
from voxgraft.models import Encoder, build_encoder, build_reference_2d, exchange_norm
from voxgraft.models.depth import check_choice
from voxgraft.types import Json
from voxgraft.weights.card import Card, head_tensors, load_card, save_weights
from voxgraft.weights.convert import (
    INFLATIONS,
    STEM_METHODS,
    Converted,
    Drop,
    FoldChannels,
    Inflate,
    Inflation,
    Rename,
    Rule,
    StemMethod,
    convert,
)
from voxgraft.weights.convert.inflate import patch_kernels
from voxgraft.weights.fetch import SourceTensors, read_source
from voxgraft.weights.layouts import naming_rules
from voxgraft.weights.parity import (
    TOLERANCE,
    changed_tensors,
    compare_features,
    parity_probe,
    probe_size,
)
from voxgraft.weights.report import NOT_CHECKED, GraftReport, Parity
from voxgraft.weights.resolve import resolve_source
from voxgraft.weights.source import Source

Norm = Literal["keep", "group"]
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True, kw_only=True)
class Graft:
    """A network that holds a source's weights, and the account of how they came there."""

    encoder: Encoder
    report: GraftReport
    source: Source
    input_mean: tuple[float, ...]
    """Mean of each input channel, for intensities in the source's ``value_range``."""
    input_sd: tuple[float, ...]
    model: str
    model_options: Json
    head_state: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors of the source's own head, where it was kept (``keep_head``)."""


def graft(
    source: str | Path | Source,
    model: str | Encoder,
    *,
    method: Inflation = "average",
    stem: StemMethod = "sum",
    norm: Norm = "keep",
    in_channels: int = 1,
    depth_padding: Literal["zeros", "replicate"] | None = None,
    model_options: Mapping[str, Any] | None = None,
    rules: Sequence[Rule] = (),
    keep_head: bool = False,
    check_parity: bool = True,
) -> Graft:
    """Load a source's weights into a 3D network, every tensor accounted for.

    Weights of an image network go into the 3D twin of that network: its 2D kernels are inflated,
    its RGB stem is folded to ``in_channels``, its classifier is dropped. Weights that Voxgraft
    saved (a run, a graft) go into the model that they were saved from.

    Then the result is checked. A twin must give the features of timm's 2D network, loaded strictly
    with the same tensors, on a volume that is constant along depth, to 1e-4 relative, in every
    slice. For ``"average"`` that holds with replicated depth padding, which is set for the check
    alone; for ``"center"`` with any. Saved weights must be in the network bit by bit.

    Args:
        source: A Source, or what :func:`voxgraft.weights.resolve_source` understands.
        model: Name of a model, or an encoder whose weights are to be replaced.
        method: How kernels are extended along depth.
        stem: How RGB becomes ``in_channels`` channels, see
            :func:`voxgraft.weights.fold_channels`.
        norm: ``"group"`` exchanges batch for group normalization, after the check.
        in_channels: Channels of the volumes; an encoder that is given keeps its own.
        depth_padding: For a model by name: ``"zeros"`` or ``"replicate"``; by default what the
            saved weights had, or ``"zeros"``.
        model_options: More options for :func:`voxgraft.models.build_encoder`.
        rules: More rules. ``Rename`` and ``Drop`` see the file's own names, before the source's
            own renaming; the others act after the standard ones.
        keep_head: Keep the head of saved weights in ``head_state``, instead of dropping it.
        check_parity: Whether to check. A graft with fresh parameters or resized kernels cannot be
            compared and is not.

    Returns:
        The encoder in training mode, on the CPU, with its report.

    Raises:
        SourceError: If the source is unknown, unreadable, or not what it should be.
        FetchError: If its file cannot be had.
        GraftError: If a tensor is unexplained, the model is no twin of the source's network, or
            the check fails (naming the first module that departs).
        RegistryError: If no model has that name.
        ModelError: If an option is impossible.
    """
    check_choice("method", method, INFLATIONS)
    check_choice("stem", stem, STEM_METHODS)
    check_choice("norm", norm, ("keep", "group"))
    if not isinstance(source, Source):
        source = resolve_source(source)
    if source.layout == "video":
        raise GraftError(
            f"source {source.id!r} was trained on video; only image and volume weights can be "
            "grafted. Choose another source."
        )
    tensors = read_source(source)
    how = _How(source=source, method=method, stem=stem, rules=tuple(rules))
    plan = _plan(model, source, in_channels, depth_padding, dict(model_options or {}))
    encoder = plan.build(materialize=False)
    converted = convert(
        tensors.state,
        {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()},
        _rules(how, encoder),
        source=source.id,
        model=plan.name,
        method="direct" if source.layout == "volume" else method,
        buffers=[name for name, _ in encoder.named_buffers()],
    )
    notes = [*tensors.notes, *_guard(how, plan, encoder), *filter(None, [source.note])]
    notes += encoder.declaration.center_notes() if method == "center" else []
    encoder = _load(plan, encoder, converted)
    parity = _check(how, tensors, plan, encoder, converted.report) if check_parity else NOT_CHECKED
    if norm == "group" and plan.norm != "group":
        count = exchange_norm(encoder)
        notes.append(
            f"{count} batch normalizations became group normalizations after the check; their "
            "running statistics are gone, so that the network must be fine-tuned"
        )
    mean, sd = source.input.carried_to(encoder.in_channels)
    report = replace(
        converted.report,
        parity=parity,
        norm=norm if plan.norm == "keep" else plan.norm,
        stem="" if encoder.in_channels == source.input.channels else stem,
        depth_padding=encoder.depth_padding or "none",
        origin=tensors.origin,
        notes=tuple(notes),
    )
    return Graft(
        encoder=encoder.train(),
        report=report,
        source=source,
        input_mean=mean,
        input_sd=sd,
        model=plan.name,
        model_options=plan.options,
        head_state=head_tensors(tensors.state) if source.layout == "volume" and keep_head else {},
    )


def save_graft(result: Graft, folder: str | Path) -> Card:
    """Save a graft as a start of its own: ``model.safetensors`` and ``card.json`` in a folder.

    Returns:
        The card, with a digest of every tensor.

    Raises:
        SourceError: If the folder cannot hold it.
    """
    state = {f"encoder.{name}": tensor for name, tensor in result.encoder.state_dict().items()}
    contract = result.source.input
    card = Card(
        model=result.model,
        in_channels=result.encoder.in_channels,
        input_mean=result.input_mean,
        input_sd=result.input_sd,
        stem=result.encoder.declaration.stem,
        norm=result.report.norm,
        model_options=result.model_options,
        parameters=sum(parameter.numel() for parameter in result.encoder.parameters()),
        licence=result.source.licence,
        trained_on=result.source.trained_on,
        source=result.source.to_dict(),
        report=result.report.to_dict(),
        window_hu=contract.window_hu,
        spacing_mm=contract.spacing_mm,
    )
    return save_weights(Path(folder), {**state, **result.head_state}, card)


@dataclass(frozen=True, kw_only=True)
class _How:
    """What was asked about the weights."""

    source: Source
    method: Inflation
    stem: StemMethod
    rules: tuple[Rule, ...]

    @property
    def naming(self) -> list[Rule]:
        own = (rule for rule in self.rules if isinstance(rule, Rename | Drop))
        return [*own, *naming_rules(self.source)]


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Which encoder to build: once without memory, once more with it if need be."""

    name: str
    options: Json
    given: Encoder | None = None
    in_channels: int = 1
    norm: str = "keep"
    """Normalization that the saved weights already have."""

    def build(self, *, materialize: bool) -> Encoder:
        if self.given is not None:
            return self.given
        with torch.device("cpu" if materialize else "meta"):
            encoder = build_encoder(self.name, in_channels=self.in_channels, **self.options)
            if self.norm == "group":
                exchange_norm(encoder)
        return encoder


def _plan(
    model: str | Encoder,
    source: Source,
    in_channels: int,
    depth_padding: str | None,
    options: Json,
) -> _Plan:
    if isinstance(model, Encoder):
        if options or depth_padding is not None:
            raise GraftError(
                "model_options and depth_padding build a model by name; here an encoder is given, "
                "which has its own. Leave them out, or give the model's name."
            )
        if any(parameter.device.type != "cpu" for parameter in model.parameters()):
            raise GraftError(
                "the encoder is not on the CPU, where weights are converted and checked. "
                "Graft first, then move it."
            )
        twin = model.declaration.twin_of
        own: Json = {"depth_padding": model.depth_padding or "zeros"}
        return _Plan(
            name=f"{twin}_3d" if twin else model.declaration.family, options=own, given=model
        )
    known = set(inspect.signature(build_encoder).parameters) - {"name", "in_channels"}
    wrong = [repr(option) for option in options if option not in known]
    if wrong:
        raise GraftError(
            f"model_options has {', '.join(wrong)}, expected some of {', '.join(sorted(known))}."
        )
    saved, norm = dict[str, Any](), "keep"
    if source.layout == "volume" and source.tensor_digests_given:
        card = load_card(source.where)
        saved, norm = dict(card.model_options), card.norm
    if depth_padding is not None:
        options = {**options, "depth_padding": depth_padding}
    whole = {"depth_padding": "zeros", **saved, **options}
    return _Plan(name=model, options=whole, in_channels=in_channels, norm=norm)


def _rules(how: _How, encoder: Encoder) -> list[Rule]:
    adapting: list[Rule] = [FoldChannels(frozenset({encoder.declaration.stem}), how.stem)]
    if how.source.layout == "image":
        adapting.append(Inflate(how.method, patch_kernels(encoder)))
    adapting += [rule for rule in how.rules if not isinstance(rule, Rename | Drop)]
    return [*how.naming, *adapting]


def _load(plan: _Plan, encoder: Encoder, converted: Converted) -> Encoder:
    state = dict(converted.state)
    fresh = [verdict["name"] for verdict in converted.report.fresh]
    counters = [name for name in fresh if name.rpartition(".")[2] == _COUNTER]
    own = encoder.state_dict()
    if plan.given is None and (
        len(fresh) > len(counters) or any(name not in own for name, _ in encoder.named_buffers())
    ):
        # Built without memory, it cannot give what the source does not give either.
        encoder = plan.build(materialize=True)
        own = encoder.state_dict()
    for name in fresh:
        state[name] = torch.zeros((), dtype=own[name].dtype) if name in counters else own[name]
    # Without memory of its own it takes the tensors as they are: no second copy of them.
    encoder.load_state_dict(state, strict=True, assign=plan.given is None)
    return encoder


def _guard(how: _How, plan: _Plan, encoder: Encoder) -> list[str]:
    """Refuse a network of the same tensors that computes something else."""
    source = how.source
    if source.layout == "volume":
        if plan.given is None and plan.name != source.architecture:
            raise GraftError(
                f"source {source.id!r} was saved from the model {source.architecture!r}, not from "
                f"{plan.name!r}. All tensors fit, but the networks differ. "
                f"Choose {source.architecture!r}."
            )
        return []
    twin = encoder.declaration.twin_of
    if twin == source.architecture:
        return []
    if twin in source.also_fits:
        return [
            f"the source was trained as timm's {source.architecture}; {plan.name} is the twin of "
            f"{twin}, which has the same tensors but differs in details (padding, epsilon). "
            f"{source.architecture}_3d is the exact twin"
        ]
    raise GraftError(
        f"source {source.id!r} holds weights of {source.architecture!r}, but {plan.name} is "
        f"{'the twin of ' + repr(twin) if twin else 'no twin of a 2D network'}. All tensors fit, "
        f"but the networks compute different things. Choose {source.architecture}_3d, or, if you "
        f"know that the file is of {twin!r}, give it as `timm:{twin}@FILE`."
    )


def _check(
    how: _How, tensors: SourceTensors, plan: _Plan, encoder: Encoder, report: GraftReport
) -> Parity:
    if how.source.layout == "volume":
        wrong = changed_tensors(encoder.state_dict(), tensors.state, report.loaded)
        if wrong:
            raise GraftError(
                f"{len(wrong)} tensors of {plan.name} are not those of {how.source.id!r}, the "
                f"first {wrong[0]}. Nothing may train on this."
            )
        where = f"{len(report.loaded)} loaded tensors, bit by bit against the file"
        return Parity(max_abs_error=0.0, tolerance=0.0, where=where, relative_error=0.0)
    fresh = [v["name"] for v in report.fresh if v["name"].rpartition(".")[2] != _COUNTER]
    resized = [verdict["name"] for verdict in report.adapted if "kernel" in verdict["how"]]
    if fresh or resized:
        kind = "fresh" if fresh else "resized"
        where = f"not checked: {len(fresh or resized)} tensors are {kind}, by a rule"
        return replace(NOT_CHECKED, where=where)
    return _compare(how, plan, encoder, _reference(how, tensors, encoder))


def _reference(how: _How, tensors: SourceTensors, encoder: Encoder) -> nn.Module:
    """Build the 2D network that the encoder is the twin of, with the source's own tensors."""
    name = f"timm3d:{encoder.declaration.twin_of}"
    with torch.device("meta"):
        reference = build_reference_2d(name, in_channels=how.source.input.channels)
    shapes = {name: tuple(tensor.shape) for name, tensor in reference.state_dict().items()}
    state = convert(tensors.state, shapes, how.naming, source=how.source.id, model=name).state
    state |= {name: torch.zeros((), dtype=torch.long) for name in shapes if name not in state}
    reference.load_state_dict(state, strict=True, assign=True)
    return reference.eval()


def _compare(how: _How, plan: _Plan, encoder: Encoder, reference: nn.Module) -> Parity:
    declared = encoder.declaration
    image, volume = parity_probe(
        how.source.input.channels,
        encoder.in_channels,
        probe_size(declared.min_size, declared.strides[-1]),
        how.stem,
    )
    flat: Any = reference
    average = how.method == "average"
    training, padding = encoder.training, encoder.depth_padding or "no"
    encoder.eval()
    change = encoder.set_depth_padding("replicate") if average else nullcontext()
    with change:
        comparison = compare_features(
            lambda: (flat.forward_features(image), reference(image)),
            lambda: (encoder.forward_features(volume), encoder(volume)),
            reference,
            encoder,
        )
    encoder.train(training)
    if comparison.departure is not None:
        raise GraftError(
            f"the features of {plan.name} with the weights of {how.source.id!r} differ from those "
            f"of timm's {declared.twin_of} by {comparison.relative_error:.1e} relative, "
            f"{TOLERANCE:.0e} is allowed. They part at {comparison.departure}. Nothing may train "
            "on this: check the rules that were added."
        )
    beyond = "replicated" if average else padding
    size = "×".join(map(str, volume.shape[2:]))
    return comparison.parity(
        f"features and pooled vector against timm's {declared.twin_of}, on a volume of {size} "
        f"voxels constant along depth ({beyond} depth padding)"
    )
