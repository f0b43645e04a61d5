"""Whether a grafted network computes what its source did."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from voxgraft.errors import GraftError
from voxgraft.grafting.plan import How, Plan, position_rules, rules_for
from voxgraft.grafting.slices import compare_slices
from voxgraft.models import Encoder, build_reference_2d
from voxgraft.models.declaration import Declaration
from voxgraft.models.layers.acs import laid_axially
from voxgraft.models.slicewise import SlicewiseEncoder
from voxgraft.types import Size3
from voxgraft.weights.convert import Rename, ResizePositions, Rule, convert
from voxgraft.weights.convert.convert import JOINED
from voxgraft.weights.fetch import SourceTensors
from voxgraft.weights.parity import (
    NOTHING_MAY_TRAIN,
    changed_tensors,
    compare_features,
    parity_probe,
    probe_size,
    volume_probe,
)
from voxgraft.weights.report import NOT_CHECKED, GraftReport, Parity

_COUNTER = "num_batches_tracked"


def _exact(how: str) -> bool:
    """Say whether a tensor's values are still those of the file, by how it was adapted."""
    return all(step.startswith(("stacked of ", "axes of length 1")) for step in how.split("; "))


def check_graft(
    how: How, tensors: SourceTensors, plan: Plan, encoder: Encoder, report: GraftReport
) -> Parity:
    """Compare a grafted network with the one that its source was trained in.

    Raises:
        GraftError: If they differ.
    """
    direct = how.source.saved or how.source.layout != "image"
    acs = encoder.declaration.convolution == "acs"
    sliced = isinstance(encoder, SlicewiseEncoder) and not direct
    if direct or acs or sliced:
        exact = [v for v in report.adapted if _exact(v["how"])]
        wrong = changed_tensors(
            encoder.state_dict(), tensors.state, [*report.loaded, *(exact if direct else ())]
        )
        if wrong:
            raise GraftError(
                f"{len(wrong)} tensors of {plan.name} are not those of {how.source.id!r}, the "
                f"first {wrong[0]}. Nothing may train on this."
            )
        if direct and not changed_tensors(encoder.state_dict(), tensors.state, report.adapted):
            count = len(report.loaded) + len(report.adapted)
            where = f"{count} loaded tensors, bit by bit against the file"
            return Parity(max_abs_error=0.0, tolerance=0.0, where=where, relative_error=0.0)
    if how.blocks or any(" along axis " in verdict["how"] for verdict in report.adapted):
        return replace(NOT_CHECKED, where="not checked: a subset of the source's network")
    fresh = [
        verdict["name"]
        for verdict in report.fresh
        if verdict["name"].rpartition(".")[2] != _COUNTER
        and not (sliced and verdict["name"].startswith("join."))
        and verdict["name"] not in encoder.declaration.additions
    ]
    resized = [verdict["name"] for verdict in report.adapted if "kernel" in verdict["how"]]
    if fresh or resized:
        kind = "fresh" if fresh else "resized"
        where = f"not checked: {len(fresh or resized)} tensors are {kind}, by a rule"
        return replace(NOT_CHECKED, where=where)
    if direct:
        return _compare_channels(how, tensors, plan, encoder, report)
    if isinstance(encoder, SlicewiseEncoder):
        # Tables that are in no file (masks, rotations) would have no values without memory.
        held = encoder.state_dict().keys()
        bare = all(name in held for name, _ in encoder.named_buffers())
        with torch.device("meta" if bare else "cpu"):
            planar = encoder.build_reference(how.source.input.channels)
        _fill(planar, how, tensors, [*how.naming, Rename(r"^", "network.")])
        return compare_slices(how, plan, encoder, planar)
    plane, patch = _source_plane(how, tensors, encoder), encoder.declaration.strides[0]
    reference = partial(
        build_reference_2d,
        f"timm3d:{encoder.declaration.twin_of}",
        in_channels=how.source.input.channels,
        image_size=None if plane is None else (plane[0] * patch[1], plane[1] * patch[2]),
    )
    with torch.device("meta"):
        original = reference()
    held = original.state_dict().keys()
    if any(name not in held for name, _ in original.named_buffers()):
        original = reference()
    _fill(original, how, tensors, how.naming)
    size = _probe_size(encoder.declaration, plane)
    return _compare(how, plan, encoder, original, size)


def _source_plane(how: How, tensors: SourceTensors, encoder: Encoder) -> tuple[int, int] | None:
    """Return the grid of the source's own table of positions; None if it has none."""
    for rule in position_rules(how, encoder):
        if isinstance(rule, ResizePositions):
            for old, tensor in tensors.state.items():
                name = old
                for naming in how.naming:
                    name = naming.rename(name) if isinstance(naming, Rename) else name
                if name == rule.name and tensor.ndim > 1:
                    grid = rule.source_grid_of(tensor.shape[-2] - rule.prefix)
                    return grid[-2], grid[-1]
    return None


def _probe_size(declared: Declaration, plane: tuple[int, int] | None) -> Size3:
    """Return a size at which a twin must equal its original: small, if nothing speaks against it.

    Where the twin's table of positions has another grid than the source's, both agree on the
    twin's grid alone: elsewhere the twin's positions would be interpolated twice.
    """
    depth, height, width = probe_size(declared.min_size, declared.strides[-1])
    for table in declared.positions:
        if table.kind == "absolute" and plane is not None and table.grid[1:] != plane:
            patch = declared.strides[0]
            return depth, table.grid[1] * patch[1], table.grid[2] * patch[2]
    return depth, height, width


def _fill(reference: nn.Module, how: How, tensors: SourceTensors, rules: list[Rule]) -> None:
    """Give a 2D network, which has no memory yet, the source's own tensors."""
    shapes = {name: tuple(tensor.shape) for name, tensor in reference.state_dict().items()}
    state = convert(tensors.state, shapes, rules, source=how.source.id, model="timm's").state
    state |= {name: torch.zeros((), dtype=torch.long) for name in shapes if name not in state}
    reference.load_state_dict(state, strict=True, assign=True)
    reference.eval()


def _compare(
    how: How, plan: Plan, encoder: Encoder, reference: nn.Module, size_voxels: Size3
) -> Parity:
    declared = encoder.declaration
    image, volume = parity_probe(
        how.source.input.channels,
        encoder.in_channels,
        size_voxels,
        how.stem,
    )
    flat: Any = reference
    acs = declared.convolution == "acs"
    replicated = how.method != "center" and not acs
    training, padding = encoder.training, encoder.depth_padding or "no"
    encoder.eval()
    change = encoder.set_depth_padding("replicate") if replicated else nullcontext()
    with change, laid_axially(encoder):
        comparison = compare_features(
            lambda: (flat.forward_features(image), reference(image)),
            lambda: (encoder.forward_features(volume), encoder(volume)),
            reference,
            encoder,
        )
    encoder.train(training)
    comparison.require(
        f"the features of {plan.name} with the weights of {how.source.id!r} differ from those of "
        f"timm's {declared.twin_of}",
        NOTHING_MAY_TRAIN,
    )
    beyond = "replicated" if replicated else padding
    planes = "; for this, all kernels lay in the axial plane" if acs else ""
    size = "×".join(map(str, volume.shape[2:]))
    return comparison.parity(
        f"features and pooled vector against timm's {declared.twin_of}, on a volume of {size} "
        f"voxels constant along depth ({beyond} depth padding){planes}"
    )


def _compare_channels(
    how: How, tensors: SourceTensors, plan: Plan, encoder: Encoder, report: GraftReport
) -> Parity:
    """Compare a network whose stem was folded with the same network before that.

    The two share the memory of all other tensors.
    """
    channels = how.source.input.channels
    if plan.given is not None or encoder.in_channels == channels:
        return replace(NOT_CHECKED, where="not checked: tensors were changed by rules")
    own, stems = encoder.state_dict(), encoder.declaration.stems
    with torch.device("meta"):
        original = replace(plan, in_channels=channels).build(materialize=False)
    shapes = {n: tuple(t.shape) for n, t in original.state_dict().items() if n in stems}
    parts = [v["from"] for v in (*report.loaded, *report.adapted) if v["name"] in stems]
    given_stems = {name: tensors.state[name] for part in parts for name in part.split(JOINED)}
    rules = rules_for(how, original)
    state = convert(given_stems, shapes, rules, source=how.source.id, model=plan.name).state
    original.load_state_dict({**own, **state}, strict=True, assign=True)
    for name, buffer in encoder.named_buffers():
        if name not in own:
            path, _, last = name.rpartition(".")
            original.get_submodule(path).register_buffer(last, buffer, persistent=False)
    original.eval()
    declared = encoder.declaration
    size = probe_size(declared.min_size, declared.strides[-1])
    given, volume = volume_probe(channels, encoder.in_channels, size, how.stem)
    training = encoder.training
    encoder.eval()
    comparison = compare_features(
        lambda: (original.forward_features(given), original(given)),
        lambda: (encoder.forward_features(volume), encoder(volume)),
        original,
        encoder,
    )
    encoder.train(training)
    comparison.require(
        f"the features of {plan.name} with {encoder.in_channels} channels differ from those with "
        f"the {channels} of {how.source.id!r}",
        NOTHING_MAY_TRAIN,
    )
    shown = "×".join(map(str, volume.shape[2:]))
    return comparison.parity(
        f"features and pooled vector against {plan.name} with its own {channels} channels, on grey "
        f"noise of {shown} voxels; all other tensors bit by bit against the file"
    )
