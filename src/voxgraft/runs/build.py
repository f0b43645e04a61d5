"""Build the network of a recipe: grafted or from scratch, with the task's head on it."""

from __future__ import annotations

from dataclasses import replace

from voxgraft.datasets import Target
from voxgraft.grafting import Graft, SegmentationGraft, graft, graft_segmentation
from voxgraft.models import (
    Network,
    SegmentationNetwork,
    build_encoder,
    build_segmentation,
    exchange_norm,
)
from voxgraft.models.decoders.build import usual_decoder
from voxgraft.models.decoders.embeddings import read_embeddings
from voxgraft.recipes import ModelSettings, Recipe, StartSettings
from voxgraft.runs.input_contract import given_input, noted, with_findings
from voxgraft.transforms import Preprocessing
from voxgraft.weights.contract import GivenInput, network_scaling

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


def build_segmenter(
    recipe: Recipe, outputs: int, *, in_channels: int = 1, check_parity: bool = True
) -> tuple[SegmentationNetwork, SegmentationGraft | None]:
    """Build the segmentation network that a recipe trains.

    Args:
        recipe: The recipe of a segmentation.
        outputs: Outputs of its task.
        in_channels: Channels of the volumes.
        check_parity: Whether to compare the grafted encoder with the original.

    Returns:
        The network, and its graft (None from scratch), whose report notes where the volumes are
        not what the weights were trained on.

    Raises:
        VoxgraftError: As :func:`graft_start`.
    """
    settings = recipe.segmentation
    if settings is None:
        raise AssertionError("the recipe is of a segmentation")
    given = given_input(
        recipe.preprocessing, in_channels=in_channels, crop_size_voxels=recipe.crops
    )
    start, model = recipe.start, recipe.model
    classes = output_classes(recipe.target, overlapping=settings.overlapping)
    embeddings = None
    if settings.embeddings is not None:
        embeddings = read_embeddings(settings.embeddings, classes)
    if start.source is None:
        encoder = build_encoder(
            model.name, in_channels=in_channels, seed=recipe.seed, **model.options
        )
        if start.norm != "keep":
            exchange_norm(encoder, start.norm)
        network = build_segmentation(
            encoder,
            outputs,
            decoder=usual_decoder(encoder) if settings.decoder == "auto" else settings.decoder,
            decoder_norm=settings.decoder_norm,
            decoder_width=settings.decoder_width,
            deep_supervision=settings.deep_supervision,
            head=settings.head,
            embeddings=embeddings,
            input_mean=SCRATCH_MEAN,
            input_sd=SCRATCH_SD,
            seed=recipe.seed,
        )
        _standardize(network, given, SCRATCH_MEAN, SCRATCH_SD)
        return network, None
    grafted = graft_segmentation(
        start.source,
        model.name,
        outputs,
        parts=start.parts,
        classes=classes,
        decoder=None if settings.decoder == "auto" else settings.decoder,
        decoder_norm=settings.decoder_norm,
        decoder_width=settings.decoder_width,
        embeddings=embeddings,
        method=start.method,
        stem=start.stem,
        norm=start.norm,
        in_channels=in_channels,
        model_options=model.options,
        deep_supervision=settings.deep_supervision,
        check_parity=check_parity,
        seed=recipe.seed,
    )
    grafted = replace(grafted, report=noted(grafted.report, grafted.source, given))
    mean, sd = network_scaling(grafted.source.input, given)
    _standardize(grafted.network, given, mean, sd)
    return grafted.network, grafted


def loaded_decoder(grafted: Graft | SegmentationGraft | None) -> frozenset[str]:
    """Return the names of a decoder's parameters that came from the start, as a graft reports."""
    if grafted is None:
        return frozenset()
    taken = (*grafted.report.loaded, *grafted.report.adapted)
    return frozenset(each["name"] for each in taken if each["name"].startswith("decoder."))


def output_classes(target: Target, *, overlapping: bool) -> tuple[str, ...]:
    """Return what each output of a segmentation is of, in order."""
    return target.classes if overlapping else ("background", *target.classes)


def _standardize(
    network: SegmentationNetwork,
    given: GivenInput,
    mean: float | tuple[float, ...],
    sd: float | tuple[float, ...],
) -> None:
    """Set what is taken from volumes, and by what they are divided: nothing of z-scored ones."""
    if given.scaling == "z_score":
        mean, sd = 0.0, 1.0
    for buffer, value in ((network.input_mean, mean), (network.input_sd, sd)):
        buffer.copy_(buffer.new_tensor(value))


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
