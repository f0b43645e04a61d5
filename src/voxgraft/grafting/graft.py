"""A source's weights into a network, every tensor accounted for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from voxgraft.errors import GraftError
from voxgraft.grafting.check import check_graft
from voxgraft.grafting.nnunet_lists import follow_own_lists
from voxgraft.grafting.plan import How, Norm, Plan, guard, make_plan, rules_for
from voxgraft.grafting.recognition import find_source
from voxgraft.models import Encoder, exchange_norm
from voxgraft.models.depth import check_choice
from voxgraft.types import Json
from voxgraft.weights.card import Card, head_tensors, save_weights
from voxgraft.weights.contract import contract_in_words
from voxgraft.weights.convert import (
    INFLATIONS,
    STEM_METHODS,
    Converted,
    Inflation,
    Rule,
    StemMethod,
    Subset,
    convert,
)
from voxgraft.weights.fetch import read_source
from voxgraft.weights.nnunet_plans import follow_plans
from voxgraft.weights.prefixes import find_prefix
from voxgraft.weights.report import NOT_CHECKED, GraftReport
from voxgraft.weights.source import Source

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
    subset: Subset | None = None,
    rules: Sequence[Rule] = (),
    keep_head: bool = False,
    check_parity: bool = True,
    key: str | None = None,
) -> Graft:
    """Load a source's weights into a 3D network, every tensor accounted for.

    Weights of an image network go into the 3D twin of that network: its 2D kernels are inflated,
    its RGB stem is folded to ``in_channels``, its classifier is dropped. Weights of a video or
    volume network go into that network, time becoming depth. Weights that Voxgraft saved (a run,
    a graft) go into the model that they were saved from.

    Then the result is checked. A twin must give the features of timm's 2D network, loaded strictly
    with the same tensors, on a volume that is constant along depth, to 1e-4 relative, in every
    slice. For ``"center"`` that holds with any depth padding, for the other methods with
    replicated borders, which are set for the check alone. A twin of ACS convolutions takes the 2D
    kernels as they are; it gives the 2D features with all kernels in the axial plane, where they
    are laid for the check alone. A 2D network on slices must give timm's map and vector of every
    slice. A video or volume network whose stem was folded must give the features of the same
    network with the stem as it was. Saved weights must be in the network bit by bit.

    Args:
        source: A Source, or what :func:`voxgraft.grafting.find_source` understands.
        model: Name of a model, or an encoder whose weights are to be replaced.
        method: How kernels are extended along depth, see
            :func:`voxgraft.weights.inflate_kernel`.
        stem: How RGB becomes ``in_channels`` channels, see
            :func:`voxgraft.weights.fold_channels`.
        norm: ``"group"`` or ``"instance"`` exchanges batch for group or instance normalization,
            after the check, with the running statistics folded in.
        in_channels: Channels of the volumes; an encoder that is given keeps its own.
        depth_padding: For a model by name: ``"zeros"`` or ``"replicate"``; by default what the
            saved weights had, or ``"zeros"``.
        model_options: More options for :func:`voxgraft.models.build_encoder`.
        subset: Which blocks and channels a network gets that is smaller than the source's, of the
            same family; it cannot be compared, and must be trained.
        rules: More rules. ``Rename`` and ``Drop`` see the file's own names, before the source's
            own renaming; the others act after the standard ones.
        keep_head: Keep the head of saved weights in ``head_state``, instead of dropping it; not
            that of a segmentation, which means nothing without its decoder.
        check_parity: Whether to check. A graft with fresh parameters or resized kernels cannot be
            compared and is not.
        key: Key of the network in the source's file, where there are several.

    Returns:
        The encoder in training mode, on the CPU, with its report.

    Raises:
        SourceError: If the source is unknown, unreadable, or not what it should be.
        FetchError: If its file cannot be had.
        ConversionError: If the network has more blocks than a subset of the source.
        GraftError: If a tensor is unexplained, the model is no twin of the source's network, or
            the check fails (naming the first module that departs).
        RegistryError: If no model has that name.
        ModelError: If an option is impossible.
    """
    check_choice("method", method, INFLATIONS)
    check_choice("stem", stem, STEM_METHODS)
    check_choice("norm", norm, get_args(Norm))
    if not isinstance(source, Source):
        source = find_source(source, key=key)
    elif key is not None:
        source = replace(source, key=key)
    if keep_head and source.decoder:
        raise GraftError(
            f"keep_head is on, but the head of source {source.id!r} belongs to a decoder. Leave it "
            "out, or give both to a segmentation network: graft_segmentation(..., parts='all')."
        )
    tensors = read_source(source)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.state.items()}
    source = follow_plans(source, tensors.settings, shapes)
    how = How(source=source, method=method, stem=stem, rules=tuple(rules), subset=subset)
    plan = make_plan(model, source, in_channels, depth_padding, dict(model_options or {}))
    encoder = plan.build(materialize=False)
    how = how.with_blocks(tensors.state, encoder)
    chosen, own_lists = plan, list[str]()
    if subset is None:
        plan, own_lists = follow_own_lists(how, plan, encoder, tensors.state)
    encoder = encoder if plan is chosen else plan.build(materialize=False)
    prefix = find_prefix(tensors.state.keys(), how.naming, encoder.state_dict().keys())
    if prefix:
        source = replace(source, prefix=prefix)
        how = replace(how, source=source)
    converted = convert(
        tensors.state,
        {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()},
        rules_for(how, encoder),
        source=source.id,
        model=plan.name,
        method=_method(how, encoder),
        buffers=[name for name, _ in encoder.named_buffers()],
    )
    found = [f"the network is the part {source.prefix.rstrip('.')!r} of the file"]
    notes = [
        *tensors.notes,
        *(found if source.prefix else []),
        *own_lists,
        *guard(how, plan, encoder),
        *filter(None, [source.note]),
    ]
    notes.append(f"the weights expect {contract_in_words(source.input)}")
    notes += encoder.declaration.center_notes() if converted.report.method == "center" else []
    encoder = _load(plan, encoder, converted)
    parity = (
        check_graft(how, tensors, plan, encoder, converted.report) if check_parity else NOT_CHECKED
    )
    if norm not in ("keep", plan.norm):
        count = exchange_norm(encoder, norm, fold=True)
        notes.append(
            f"{count} batch normalizations became {norm} normalizations after the check; their "
            "running statistics were folded into scale and shift and are gone, so that the "
            "network must be fine-tuned"
        )
    mean, sd = source.input.carried_to(encoder.in_channels)
    report = replace(
        converted.report,
        parity=parity,
        norm=norm if plan.norm == "keep" else plan.norm,
        stem=stem if any("channels to" in v["how"] for v in converted.report.adapted) else "",
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
        head_state=head_tensors(tensors.state) if source.saved and keep_head else {},
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
        channel_windows_hu=contract.channel_windows_hu,
        spacing_mm=contract.spacing_mm,
    )
    return save_weights(Path(folder), {**state, **result.head_state}, card)


def _method(how: How, encoder: Encoder) -> str:
    """Say in a word how kernels were extended along depth."""
    if how.source.layout != "image":
        return "direct"
    if encoder.declaration.slices_of:
        return "slices"
    return "acs" if encoder.declaration.convolution == "acs" else how.method


def _load(plan: Plan, encoder: Encoder, converted: Converted) -> Encoder:
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
