"""Everything that a segmentation is trained with, decided from data, memory and start."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from voxgraft.datasets import SPLITS, Table, Target, structure_names
from voxgraft.datasets.target import MASKS
from voxgraft.errors import RecipeError, TableError
from voxgraft.grafting import find_source, network_of
from voxgraft.grafting.plan import make_plan
from voxgraft.models import MODELS, build_encoder
from voxgraft.planning.budget import Device, find_budget
from voxgraft.planning.crops import Crops, choose_crops
from voxgraft.planning.data_decisions import (
    about_annotations,
    about_flips,
    about_overlap,
    about_precision,
    is_sided,
)
from voxgraft.planning.decision import Decision
from voxgraft.planning.decoder import Parts, PlannedDecoder, choose_decoder, decide_parts
from voxgraft.planning.fingerprint import DataFingerprint, take_fingerprint
from voxgraft.planning.intensity import decide_intensity
from voxgraft.planning.schedule import Schedule, decide_schedule
from voxgraft.planning.spacing import decide_spacing
from voxgraft.planning.start_decisions import (
    about_network,
    decide_axes,
    decide_batch,
    decide_channels,
    decide_size,
    start_size,
)
from voxgraft.planning.training_memory import TrainedNetwork, TrainingMemory
from voxgraft.recipes import ModelSettings, Recipe, SegmentationSettings, StartSettings
from voxgraft.training import Optimization
from voxgraft.transforms import Augmentation, Intensity, Preprocessing, WindowChannels
from voxgraft.types import Json, Size3, Spacing3

_TRAIN = SPLITS[0]


@dataclass(frozen=True, kw_only=True)
class SegmentationPlan:
    """A training, decided; ``decisions`` says why."""

    classes: tuple[str, ...]
    model: str
    source: str | None
    """As a recipe names it; None from scratch."""
    decoder: PlannedDecoder
    parts: Parts
    spacing_mm: Spacing3
    intensity: Intensity
    crops: Crops
    overlapping: bool
    """Whether each structure has a sigmoid of its own, because masks overlap."""
    precision: Literal["no", "bf16"]
    flip_axes: tuple[Literal["width"], ...]
    schedule: Schedule
    fingerprint: DataFingerprint
    decisions: tuple[Decision, ...]

    @property
    def crop_size_voxels(self) -> Size3:
        """(depth, height, width) of the training crops."""
        return self.crops.size_voxels

    @property
    def batch_size(self) -> int:
        """Crops in one forward pass."""
        return self.crops.batch_size

    @property
    def accumulate(self) -> int:
        """Forward passes in one update."""
        return self.crops.accumulate

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether activations are computed again in the backward pass."""
        return self.crops.gradient_checkpointing

    def to_recipe(self, table: str) -> Recipe:
        """Return the complete recipe.

        Args:
            table: Path of the table, as the recipe's reader will find it; it needs a column
                ``split``.
        """
        return Recipe(
            table=table,
            target=Target(kind="segmentation", columns=(MASKS,), classes=self.classes),
            metric="dice",
            preprocessing=Preprocessing(spacing_mm=self.spacing_mm, intensity=self.intensity),
            augmentation=_augmentation(self.flip_axes),
            model=ModelSettings(name=self.model),
            start=StartSettings(
                name=self.source or "scratch", source=self.source, parts=self.parts
            ),
            optimization=Optimization(
                steps=self.schedule.steps,
                eval_every=self.schedule.eval_every,
                batch_size=self.crops.batch_size,
                accumulate=self.crops.accumulate,
                learning_rate=self.schedule.learning_rate,
                weight_decay=self.schedule.weight_decay,
                precision=self.precision,
                gradient_checkpointing=self.crops.gradient_checkpointing,
            ),
            crop_size_voxels=self.crops.size_voxels,
            segmentation=SegmentationSettings(
                decoder=self.decoder.kind,
                decoder_norm=self.decoder.norm,
                decoder_width=self.decoder.width,
                overlapping=self.overlapping,
                window_batch=self.crops.window_batch,
            ),
        )

    def to_dict(self) -> Json:
        """Return fingerprint, decisions and settings as JSON."""
        return {
            "fingerprint": self.fingerprint.to_dict(),
            "decisions": [asdict(decision) for decision in self.decisions],
            "crops": asdict(self.crops),
        }


def plan_segmentation(
    table: Table,
    classes: Sequence[str] | None = None,
    *,
    model: str | None = None,
    source: str | Path | None = None,
    memory_gib: float | None = None,
    device: Device | None = None,
    jobs: int = 1,
    cache: Path | None = None,
    on_progress: Callable[[], None] | None = None,
    on_measure: Callable[[str], None] | None = None,
) -> SegmentationPlan:
    """Decide how a network is trained to segment the structures of a table.

    What is measured is the train split alone, where the table has one.

    Args:
        table: Scans with masks.
        classes: Structures; None takes all of the table.
        model: A network of the registry; None takes the one that the source belongs in.
        source: A start, in any form that :func:`voxgraft.grafting.find_source` knows; None plans
            from scratch.
        memory_gib: Memory of the device, where it is another one than here.
        device: ``"cuda"`` or ``"cpu"``; see :func:`~voxgraft.planning.budget.find_budget`.
        jobs: Scans that are read at once.
        cache: Folder that remembers what was measured; None takes the cache.
        on_progress: Called after each scan.
        on_measure: Told in words of each training step whose memory is counted next.

    Raises:
        TableError: If masks or scans cannot be used; all faults are named.
        RecipeError: If neither model nor source is given, or no crop fits the memory.
        RegistryError: If no network has that name.
        SourceError: If the source is unknown.
    """
    if model is None and source is None:
        raise RecipeError("neither a network nor a start is given. Name a network, or a source.")
    start = None if source is None else find_source(source)
    if model is None and start is not None:
        model = network_of(start)
    model = model or ""
    family = MODELS.get(model).family if model in MODELS else _family(model)
    budget = find_budget(memory_gib, device)
    training, split = _training_cases(table)
    names = tuple(structure_names(table) if classes is None else classes)
    if not names or len(set(names)) != len(names):
        raise TableError(f"classes are {names}; expected one or more structures, each once.")
    data = take_fingerprint(training, names, jobs=jobs, cache=cache, on_progress=on_progress)
    contract = None if start is None else start.input
    spacing, about_spacing = decide_spacing(data, contract)
    intensity, about_intensity = decide_intensity(data, contract)
    channels = data.channels
    if isinstance(intensity, WindowChannels):
        channels = len(intensity.windows)
    decoder = choose_decoder(family, start)
    overlapping = bool(data.overlapping)
    memory = TrainingMemory(
        TrainedNetwork(
            model=model,
            classes=len(names),
            decoder=decoder.kind,
            decoder_norm=decoder.norm,
            decoder_width=decoder.width,
            in_channels=channels,
            overlapping=overlapping,
            options={} if start is None else make_plan(model, start, channels, None, {}).options,
        )
    )
    shape = data.shape_at(spacing)
    crops = choose_crops(
        memory,
        budget,
        shape,
        cases=data.cases,
        start_size=start_size(start),
        on_measure=on_measure,
    )
    schedule, about_schedule = decide_schedule(
        data.cases, crops.batch_size * crops.accumulate, pretrained=start is not None
    )
    parts: Parts = "decoder"
    decisions = [split, *about_network(model, start), about_spacing, about_intensity]
    if start is not None and contract is not None:
        parts, about_parts = decide_parts(start, names, memory.network)
        axes = decide_axes(contract, memory)
        decisions += [decide_channels(channels, contract), *([axes] if axes else []), about_parts]
    flips: tuple[Literal["width"], ...] = () if is_sided(names) else ("width",)
    precision: Literal["no", "bf16"] = "bf16" if budget.bf16 else "no"
    decisions += [
        decide_size(crops, shape, start, memory, budget),
        decide_batch(crops, memory, budget),
        about_precision(precision, budget.device),
        decoder.decision(family),
        about_overlap(data),
        *about_annotations(data, len(names)),
        about_flips(names),
        about_schedule,
    ]
    return SegmentationPlan(
        classes=names,
        model=model,
        source=None if source is None else _lasting(source),
        decoder=decoder,
        parts=parts,
        spacing_mm=spacing,
        intensity=intensity,
        crops=crops,
        overlapping=overlapping,
        precision=precision,
        flip_axes=flips,
        schedule=schedule,
        fingerprint=data,
        decisions=tuple(decisions),
    )


def table_from(table: Path, recipe: Path) -> str:
    """Return a table's path as a recipe in another folder names it: relative to that folder."""
    return os.path.relpath(table.resolve(), recipe.resolve().parent)


def check_split(table: Table) -> None:
    """See that a table can be trained on.

    Raises:
        TableError: If it has no column ``split``.
    """
    if "split" not in table.frame:
        where = "the table" if table.path is None else str(table.path)
        raise TableError(
            f"{where}: has no column 'split', which a training needs: some patients to learn from, "
            "some to choose weights by, some to be scored on. `voxgraft data split` adds it."
        )


def _family(model: str) -> str:
    """Return the family of a network that is in no list, as the twin of any network of timm's."""
    with torch.device("meta"):
        return build_encoder(model).declaration.family


def _lasting(source: str | Path) -> str:
    """Return a source as it is understood from any folder."""
    return str(Path(source).resolve()) if Path(source).exists() else str(source)


def _training_cases(table: Table) -> tuple[Table, Decision]:
    if "split" not in table.frame:
        return table, Decision(
            what="split",
            value="none",
            why="the table has no column split, so all cases were measured. A training needs one: "
            "`voxgraft data split` adds it; then plan again, from the training patients alone",
            from_data=f"{len(table)} cases of {len(table.patients)} patients",
        )
    training = table.split(_TRAIN)
    return training, Decision(
        what="split",
        value="train",
        why="only these were measured: nothing is decided from cases that will be scored on",
        from_data=f"{len(training)} of {len(table)} cases, of {len(training.patients)} patients",
    )


def _augmentation(flips: tuple[Literal["width"], ...]) -> Augmentation:
    settings = Augmentation.standard().to_dict()
    return Augmentation.from_dict({**settings, "flip_axes": flips})
