"""Build the network of a recipe: grafted or from scratch, with the task's head on it."""

from __future__ import annotations

from voxgraft.grafting import Graft, graft
from voxgraft.models import Network, build_encoder, exchange_norm
from voxgraft.recipes import ModelSettings, Recipe, StartSettings
from voxgraft.runs.input_contract import given_input, with_findings
from voxgraft.transforms import Preprocessing
from voxgraft.weights.contract import network_scaling

SCRATCH_MEAN = 0.5
SCRATCH_SD = 0.25
"""Input scaling of a network from scratch: volumes are in [0, 1], as for a grafted one."""


def graft_start(
    model: ModelSettings, start: StartSettings, *, in_channels: int = 1, check_parity: bool = True
) -> Graft | None:
    """Graft a start onto a model; None for a start from scratch.

    Raises:
        GraftError: If a tensor is unexplained, or parity with the original fails.
        SourceError: If the source cannot be found or read.
    """
    if start.source is None:
        return None
    return graft(
        start.source,
        model.name,
        method=start.method,
        stem=start.stem,
        norm=start.norm,
        in_channels=in_channels,
        model_options=model.options,
        check_parity=check_parity,
    )


def build_network(
    recipe: Recipe, outputs: int, *, in_channels: int = 1, check_parity: bool = True
) -> tuple[Network, Graft | None]:
    """Build the network that a recipe trains.

    What is drawn at random (the head, and everything from scratch) is drawn from the recipe's
    seed.

    Args:
        recipe: The recipe.
        outputs: Outputs of the task.
        in_channels: Channels of the volumes.
        check_parity: Whether to compare the grafted encoder with the original.

    Returns:
        The network, and its graft (None from scratch). Its report notes where the volumes are not
        what the weights were trained on.

    Raises:
        VoxgraftError: As :func:`graft_start`.
    """
    windows, clips = recipe.seen_windows, recipe.clips
    size = recipe.crop_size_voxels if windows is None else windows.size_voxels
    if clips is not None:
        size = (clips.frames, clips.size_pixels, clips.size_pixels)
    given = given_input(
        Preprocessing() if clips is not None else recipe.preprocessing,
        in_channels=in_channels,
        crop_size_voxels=size,
    )
    grafted = graft_start(
        recipe.model, recipe.start, in_channels=in_channels, check_parity=check_parity
    )
    mean: float | tuple[float, ...] = SCRATCH_MEAN
    sd: float | tuple[float, ...] = SCRATCH_SD
    if grafted is None:
        encoder = build_encoder(
            recipe.model.name, in_channels=in_channels, seed=recipe.seed, **recipe.model.options
        )
        if recipe.start.norm != "keep":
            exchange_norm(encoder, recipe.start.norm)
    else:
        grafted = with_findings(grafted, given)
        encoder = grafted.encoder
        mean, sd = network_scaling(grafted.source.input, given)
    if given.scaling == "z_score":
        mean, sd = 0.0, 1.0  # the volumes are standardized already
    network = Network(
        encoder,
        outputs,
        input_mean=mean,
        input_sd=sd,
        windows_attention=windows is not None and windows.aggregate == "attention",
        seed=recipe.seed,
    )
    return network, grafted
