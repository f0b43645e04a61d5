"""Save a trained network beside its card, and build it again from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from voxgraft.errors import RunError
from voxgraft.grafting import Graft, SegmentationGraft
from voxgraft.models import (
    Network,
    SegmentationNetwork,
    build_encoder,
    build_segmentation,
    exchange_norm,
)
from voxgraft.models.network import StandardizedNetwork
from voxgraft.recipes import Recipe, SegmentationSettings, read_recipe, recipe_from_dict
from voxgraft.runs.build import output_classes
from voxgraft.runs.folder import RunFolder, open_run
from voxgraft.sliding import Sliding
from voxgraft.tasks import Task
from voxgraft.tasks.segmentation import SegmentationTask
from voxgraft.transforms import Window, WindowChannels
from voxgraft.types import Json
from voxgraft.weights import Card, load_card, read_state_dict, save_weights
from voxgraft.weights.digests import digest_faults
from voxgraft.weights.source import UNSTATED

_SAVED = "head."
"""In a file, attention over windows is part of the head: another task leaves it behind."""


@dataclass(frozen=True)
class TrainedRun:
    """A trained network with all that its predictions need."""

    folder: Path
    recipe: Recipe
    network: Network
    """In eval mode, on the CPU."""
    task: Task
    in_channels: int

    @property
    def volume_channels(self) -> int:
        """Channels of a preprocessed scan: fewer than the network's where neighbors join them."""
        windows = self.recipe.seen_windows
        return self.in_channels // (1 if windows is None else 2 * windows.neighbors + 1)

    def background_of(self, image: Float[np.ndarray, "c d h w"]) -> float:
        """Return the value that lies around a preprocessed scan."""
        return self.recipe.preprocessing.background_of(image)


@dataclass(frozen=True)
class TrainedSegmentation:
    """A trained segmentation network with all that segmenting a scan needs."""

    folder: Path
    recipe: Recipe
    network: SegmentationNetwork
    """In eval mode, on the CPU."""
    task: SegmentationTask
    in_channels: int

    @property
    def settings(self) -> SegmentationSettings:
        """How structures are segmented."""
        if self.recipe.segmentation is None:
            raise AssertionError("the recipe is of a segmentation")
        return self.recipe.segmentation

    def sliding_over(self, image: Float[np.ndarray, "c d h w"]) -> Sliding:
        """Return how windows go over a preprocessed scan; around it lies what training had there.

        Args:
            image: As ``preprocess`` gave it.
        """
        background = self.recipe.preprocessing.background_of(image)
        return self.settings.sliding(self.recipe.crops, background=background)


def save_network(
    run: RunFolder,
    network: Network | SegmentationNetwork,
    recipe: Recipe,
    task: Task | SegmentationTask,
    grafted: Graft | SegmentationGraft | None,
) -> None:
    """Write ``model.safetensors`` and ``card.json``; together they are a source again."""
    source = None if grafted is None else grafted.source
    intensity = recipe.preprocessing.intensity
    state = {
        _SAVED + name if name.startswith("windows.") else name: tensor
        for name, tensor in network.state_dict().items()
        if name.startswith(("encoder.", "decoder.", "head.", "deep_heads.", "windows."))
    }
    # The graft chose options, too: the axes of the training, lists of the source's own plan.
    chosen = {} if grafted is None else dict(grafted.model_options)
    card = Card(
        model=recipe.model.name,
        model_options=dict(recipe.model.options) | chosen,
        in_channels=network.encoder.in_channels,
        input_mean=tuple(network.input_mean.tolist()),
        input_sd=tuple(network.input_sd.tolist()),
        stem=network.encoder.declaration.stem,
        outputs=task.outputs,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        licence=UNSTATED if source is None else source.licence,
        trained_on=(*(() if source is None else source.trained_on), Path(recipe.table).stem),
        source=None if source is None else source.to_dict(),
        report=None if grafted is None else grafted.report.to_dict(),
        window_hu=intensity.bounds_hu if isinstance(intensity, Window) else None,
        channel_windows_hu=(intensity.bounds_hu if isinstance(intensity, WindowChannels) else ()),
        spacing_mm=recipe.preprocessing.fixed_spacing_mm,
        training={"recipe": recipe.to_dict(), "task": task.to_dict()},
    )
    settings = recipe.segmentation
    if settings is not None and isinstance(network, SegmentationNetwork):
        card = replace(
            card,
            decoder="native" if network.decoder.original_head else "unet",
            decoder_options={
                "decoder_norm": settings.decoder_norm,
                "decoder_width": settings.decoder_width,
                "deep_supervision": settings.deep_supervision,
            },
            classes=output_classes(recipe.target, overlapping=settings.overlapping),
        )
    save_weights(run.path, state, card)


def load_trained(folder: Path) -> TrainedRun:
    """Build a finished run's network again, with its weights.

    Raises:
        RunError: If the run is not finished, is a segmentation, or its files are damaged.
        SourceError: If the weights or the card cannot be read.
    """
    run, card, recipe, task = _finished(folder)
    if isinstance(task, SegmentationTask):
        raise RunError(
            f"{run.path} is a segmentation, which has no scores of cases. It segments scans: "
            "`voxgraft predict` (in Python, load_segmentation)."
        )
    encoder = build_encoder(card.model, in_channels=card.in_channels, **card.model_options)
    if recipe.start.norm != "keep":
        exchange_norm(encoder, recipe.start.norm)
    windows = recipe.seen_windows
    network = Network(
        encoder,
        task.outputs,
        input_mean=card.input_mean,
        input_sd=card.input_sd,
        windows_attention=windows is not None and windows.aggregate == "attention",
    )
    _load_state(run, card, network)
    return TrainedRun(
        folder=run.path,
        recipe=recipe,
        network=network.eval(),
        task=task,
        in_channels=card.in_channels,
    )


def load_segmentation(folder: Path) -> TrainedSegmentation:
    """Build a finished segmentation run's network again, with its weights.

    Raises:
        RunError: If the run is not finished, is no segmentation, or its files are damaged.
        SourceError: If the weights or the card cannot be read.
    """
    run, card, recipe, task = _finished(folder)
    settings = recipe.segmentation
    if settings is None or not isinstance(task, SegmentationTask) or card.decoder is None:
        raise RunError(
            f"{run.path} is no segmentation: its target is {recipe.target.describe()}. Give a run "
            "with a target of kind segmentation (in Python, load_trained reads this one)."
        )
    encoder = build_encoder(card.model, in_channels=card.in_channels, **card.model_options)
    if recipe.start.norm != "keep":
        exchange_norm(encoder, recipe.start.norm)
    network = build_segmentation(
        encoder,
        task.outputs,
        decoder="native" if card.decoder == "native" else "unet",
        decoder_norm=settings.decoder_norm,
        decoder_width=settings.decoder_width,
        deep_supervision=settings.deep_supervision,
        head=settings.head,
        embeddings=torch.zeros(task.outputs, 512) if settings.head == "text" else None,
        input_mean=card.input_mean,
        input_sd=card.input_sd,
    )
    _load_state(run, card, network)
    return TrainedSegmentation(
        folder=run.path,
        recipe=recipe,
        network=network.eval(),
        task=task,
        in_channels=card.in_channels,
    )


def segments(folder: Path) -> bool:
    """Say whether a run is a segmentation.

    Raises:
        RunError: If there is no run.
    """
    return read_recipe(open_run(folder).recipe_path).segmentation is not None


def _finished(folder: Path) -> tuple[RunFolder, Card, Recipe, Task | SegmentationTask]:
    """Return a finished run with what its card says."""
    run = open_run(folder)
    run.result()
    if not read_recipe(run.recipe_path).save_weights:
        raise RunError(
            f"{run.path} was trained with save_weights: false, so its weights are gone. Give a run "
            "that kept them (in a comparison: keep_weights), or train it again with "
            "--set save_weights=true."
        )
    card = load_card(run.path)
    training: Json = card.training
    if "recipe" not in training or "task" not in training:
        raise RunError(f"{run.path}/card.json lacks recipe or task. Run the recipe again.")
    recipe = recipe_from_dict(training["recipe"], f"{run.path}/card.json")
    restore = Task.restore if recipe.segmentation is None else SegmentationTask.restore
    return run, card, recipe, restore(recipe.target, training["task"])


def _load_state(run: RunFolder, card: Card, network: StandardizedNetwork) -> None:
    """Load a run's weights into its network, if they are those that the card describes."""
    state = read_state_dict(run.weights_path)
    faults = digest_faults(state, card.tensor_digests)
    if faults:
        raise RunError(
            f"{run.weights_path} is not the file that its card describes: {'; '.join(faults[:5])}. "
            "It is damaged; run the recipe again."
        )
    scaling = {"input_mean": network.input_mean, "input_sd": network.input_sd}
    named = {
        name.removeprefix(_SAVED) if name.startswith(f"{_SAVED}windows.") else name: tensor
        for name, tensor in state.items()
    }
    network.load_state_dict(named | scaling)
