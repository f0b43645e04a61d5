"""Save a trained network beside its card, and build it again from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from voxgraft.errors import RunError
from voxgraft.grafting import Graft
from voxgraft.models import Network, build_encoder, exchange_norm
from voxgraft.recipes import Recipe, read_recipe, recipe_from_dict
from voxgraft.runs.folder import RunFolder, open_run
from voxgraft.tasks import Task
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


def save_network(
    run: RunFolder,
    network: Network,
    recipe: Recipe,
    task: Task,
    grafted: Graft | None,
) -> None:
    """Write ``model.safetensors`` and ``card.json``; together they are a source again."""
    source = None if grafted is None else grafted.source
    intensity = recipe.preprocessing.intensity
    state = {
        _SAVED + name if name.startswith("windows.") else name: tensor
        for name, tensor in network.state_dict().items()
        if name.startswith(("encoder.", "head.", "windows."))
    }
    card = Card(
        model=recipe.model.name,
        model_options=dict(recipe.model.options),
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
    save_weights(run.path, state, card)


def load_trained(folder: Path) -> TrainedRun:
    """Build a finished run's network again, with its weights.

    Raises:
        RunError: If the run is not finished, or its files are damaged.
        SourceError: If the weights or the card cannot be read.
    """
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
    task = Task.restore(recipe.target, training["task"])
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
    return TrainedRun(
        folder=run.path,
        recipe=recipe,
        network=network.eval(),
        task=task,
        in_channels=card.in_channels,
    )
