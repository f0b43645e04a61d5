"""What is asked of a graft, which network is built for it, and the rules that it takes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from voxgraft.errors import GraftError
from voxgraft.models import Encoder, build_encoder, exchange_norm, model_options
from voxgraft.models.declaration import Declaration, Positions
from voxgraft.models.orientation import AXES, Oriented
from voxgraft.types import Json
from voxgraft.weights.card import load_card
from voxgraft.weights.convert import (
    DeepenCoordinates,
    Drop,
    FoldChannels,
    Fresh,
    Inflate,
    Inflation,
    Naming,
    Rename,
    ResizePatch,
    ResizePositions,
    ResizeRelativePositions,
    Rule,
    StemMethod,
    Subset,
    TakeChannels,
    UnitAxes,
    block_rules,
)
from voxgraft.weights.convert.inflate import patch_kernels
from voxgraft.weights.layouts import naming_rules
from voxgraft.weights.source import Source

Norm = Literal["keep", "group", "instance"]

Positional = ResizePositions | ResizeRelativePositions | DeepenCoordinates
"""Rules for one table of positions."""


@dataclass(frozen=True, kw_only=True)
class How:
    """What was asked about the weights."""

    source: Source
    method: Inflation
    stem: StemMethod
    rules: tuple[Rule, ...]
    subset: Subset | None = None
    blocks: tuple[Rename | Drop, ...] = ()
    """Which blocks of the source's network are kept, where the model has fewer."""

    @property
    def naming(self) -> list[Rule]:
        """The rules from the file's own names to the network's."""
        own = (rule for rule in self.rules if isinstance(rule, Naming))
        return [*own, *naming_rules(self.source), *self.blocks]

    def with_blocks(self, names: Iterable[str], encoder: Encoder) -> How:
        """Choose the blocks that the encoder gets, where a subset is asked for.

        Args:
            names: Names of the source's tensors, as in the file.
            encoder: The network.

        Raises:
            ConversionError: If the network has more blocks than the source.
        """
        if self.subset is None:
            return self
        prefix = "network." if encoder.declaration.slices_of and not self.source.saved else ""
        given = []
        for name in names:
            for rule in self.naming:
                if isinstance(rule, Rename):
                    name = rule.rename(name)
                elif isinstance(rule, Drop) and rule.chooses(name):
                    break
            else:
                given.append(name)
        wanted = [name.removeprefix(prefix) for name in encoder.state_dict()]
        return replace(self, blocks=tuple(block_rules(given, wanted, self.subset.blocks)))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which encoder to build: once without memory, once more with it if need be."""

    name: str
    options: Json
    given: Encoder | None = None
    in_channels: int = 1
    norm: str = "keep"
    """Normalization that the saved weights already have."""

    def build(self, *, materialize: bool) -> Encoder:
        """Build the encoder, or return the one that was given."""
        if self.given is not None:
            return self.given
        with torch.device("cpu" if materialize else "meta"):
            encoder = build_encoder(self.name, in_channels=self.in_channels, **self.options)
            if self.norm != "keep":
                exchange_norm(encoder, self.norm)
        return encoder


def make_plan(
    model: str | Encoder,
    source: Source,
    in_channels: int,
    depth_padding: str | None,
    options: Json,
) -> Plan:
    """Say which encoder to build.

    Raises:
        GraftError: If an option is none of the model's, or the given encoder is not on the CPU.
        RegistryError: If no model has that name.
    """
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
        padding = model.depth_padding
        own: Json = {} if padding is None else {"depth_padding": padding}
        return Plan(
            name=f"{twin}_3d" if twin else model.declaration.family, options=own, given=model
        )
    known = model_options(model)
    wrong = [repr(option) for option in options if option not in known]
    if wrong:
        raise GraftError(
            f"model_options has {', '.join(wrong)}, expected some of {', '.join(sorted(known))}."
        )
    if depth_padding is not None and "depth_padding" not in known:
        raise GraftError(
            f"depth_padding is {depth_padding!r}, but {model} has no such option. Leave it out."
        )
    saved, norm = dict[str, Any](), "keep"
    if source.saved:
        card = load_card(source.where)
        saved, norm = dict(card.model_options), card.norm
        if norm == "keep":
            # Cards of runs keep what their training asked for with the recipe.
            norm = card.training.get("recipe", {}).get("start", {}).get("norm", "keep")
    if depth_padding is not None:
        options = {**options, "depth_padding": depth_padding}
    usual: Json = {"depth_padding": "zeros"} if "depth_padding" in known else {}
    if "axes" in known and source.input.axes is not None:
        usual["axes"] = source.input.axes
    whole = {**usual, **saved, **options}
    return Plan(name=model, options=whole, in_channels=in_channels, norm=norm)


def rules_for(how: How, encoder: Encoder) -> list[Rule]:
    """Return the rules from the source's tensors to the encoder's."""
    stems, patches = encoder.declaration.stems, patch_kernels(encoder)
    adapting: list[Rule] = [FoldChannels(stems, how.stem), ResizePatch(stems & patches)]
    if how.source.layout == "image":
        adapting.append(Inflate(how.method, patches))
    else:
        adapting.append(UnitAxes())
    adapting += [rule for rule in how.rules if not isinstance(rule, Naming | Positional)]
    if how.subset is not None:
        adapting.append(TakeChannels(how.subset.channels))
    adapting += position_rules(how, encoder)
    if not how.source.saved:
        starts = "absent in the source: it starts at zero, where it changes nothing"
        adapting += [Fresh(re.escape(name), starts) for name in encoder.declaration.additions]
    if encoder.declaration.slices_of and not how.source.saved:
        adapting.append(Fresh(r"join\..*", "it joins slices, which an image network has not"))
        return [*how.naming, Rename(r"^", "network."), *adapting]
    return [*how.naming, *adapting]


def position_rules(how: How, encoder: Encoder) -> list[Rule]:
    """Return the rules for tables of positions; one that was given stands in for the usual one."""
    given: list[Rule] = [rule for rule in how.rules if isinstance(rule, Positional)]
    own = {rule.name for rule in given if isinstance(rule, Positional)}
    tables = [table for table in encoder.declaration.positions if table.name not in own]
    return [*given, *(_resizing(table, how.source, encoder.declaration) for table in tables)]


def _resizing(table: Positions, source: Source, declared: Declaration) -> Positional:
    """Return the rule that fits a table of the source to the network's grid or window."""
    image = source.layout == "image" and not source.saved
    if table.kind == "relative":
        return ResizeRelativePositions(
            name=table.name, window=table.grid, image=image, axes=table.axes
        )
    if table.kind == "coordinates":
        return DeepenCoordinates(name=table.name)
    patch = declared.strides[0][1:] if image else declared.strides[0]
    size = source.input.size
    usual: tuple[int, ...] | None = None
    if size is not None and len(size) == len(patch):
        usual = tuple(-(-n // step) for n, step in zip(size, patch, strict=True))
    return ResizePositions(
        name=table.name,
        grid=table.grid,
        prefix=table.prefix,
        image=image,
        usual_grid=usual,
        axes=table.axes,
    )


def _axes_notes(source: Source, encoder: Encoder) -> list[str]:
    """Say from which side the network sees a body, where its weights saw it from another."""
    trained = source.input.axes
    if trained is None:
        why = source.input.axes_evidence
        return [f"to where the axes ran in training is {why}"] if why else []
    own = encoder.axes if isinstance(encoder, Oriented) else AXES
    if own == trained:
        turned = f"each volume is turned to the axes of the training, {trained}, and maps back"
        return [] if own == AXES else [turned]
    return [
        f"the weights were trained on volumes of the axes {trained}; this network sees them as "
        f"{own}. The model option axes={trained!r}, where it has one, turns them"
    ]


def guard(how: How, plan: Plan, encoder: Encoder) -> list[str]:
    """Refuse a network of the same tensors that computes something else."""
    source = how.source
    if how.subset is not None:
        return [
            f"a subset of {source.architecture} (blocks: {how.subset.blocks}, channels: "
            f"{how.subset.channels}): {plan.name} computes something else until it is trained"
        ]
    if source.saved or source.layout != "image":
        fits = (source.architecture, *source.also_fits)
        if plan.given is None and plan.name not in fits:
            kind = "was saved from" if source.saved else "holds weights of"
            raise GraftError(
                f"source {source.id!r} {kind} the model {source.architecture!r}, not of "
                f"{plan.name!r}. All tensors fit, but the networks differ. "
                f"Choose {source.architecture!r}."
            )
        return _axes_notes(source, encoder)
    twin, sliced = encoder.declaration.original, encoder.declaration.slices_of
    if twin == source.architecture:
        return []
    exact = f"slicewise:{source.architecture}" if sliced else f"{source.architecture}_3d"
    if twin in source.also_fits:
        return [
            f"the source was trained as timm's {source.architecture}; {plan.name} is "
            f"{'made' if sliced else 'the twin'} of {twin}, which has the same tensors but differs "
            f"in details (padding, epsilon). {exact} is the exact "
            f"{'network' if sliced else 'twin'}"
        ]
    raise GraftError(
        f"source {source.id!r} holds weights of {source.architecture!r}, but {plan.name} is "
        f"{'the twin of ' + repr(twin) if twin else 'no twin of a 2D network'}. All tensors fit, "
        f"but the networks compute different things. Choose {exact}, or, if you "
        f"know that the file is of {twin!r}, give it as `timm:{twin}@FILE`."
    )
