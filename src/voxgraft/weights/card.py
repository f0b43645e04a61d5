"""Saved weights that can start another training: a safetensors file and its card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from voxgraft.errors import SourceError, raise_faults
from voxgraft.files import atomic_path, read_json, write_json
from voxgraft.types import Json
from voxgraft.weights.digests import tensor_digests
from voxgraft.weights.source import UNSTATED, InputContract, LocalFile, Source, class_faults

WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "card.json"
CARD_FORMAT = "voxgraft-card/1"
CARD_DECODERS = ("native", "unet")
ROOMS = ("encoder", "decoder", "head", "deep_heads")
"""What the name of a saved tensor begins with."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a saved network is, beside its tensors.

    They are ``encoder.*`` and, if it has one, ``head.*``; a segmentation network's ``decoder.*``
    and ``deep_heads.*`` too.
    """

    model: str
    """Name of the model."""
    in_channels: int
    input_mean: tuple[float, ...]
    input_sd: tuple[float, ...]
    stem: str
    """Name of the stem's kernel in the model, without ``encoder.``."""
    norm: str = "keep"
    """``"group"`` or ``"instance"`` if batch normalization was exchanged for that."""
    model_options: Json = field(default_factory=dict)
    """Options that the model was built with, ``depth_padding`` among them."""
    outputs: int | None = None
    """Outputs of the head; None if there is no head."""
    decoder: str | None = None
    """``"native"`` or ``"unet"``: the decoder of a segmentation network; None if there is none."""
    decoder_options: Json = field(default_factory=dict)
    """Options of :func:`voxgraft.models.build_segmentation` that the decoder was built with:
    ``decoder_norm``, ``decoder_width``, ``deep_supervision``. What is absent has its default."""
    classes: tuple[str, ...] = ()
    """Name of each channel of a segmentation's head, in their order; first ``"background"`` where
    the head is a softmax."""
    parameters: int = 0
    licence: str = UNSTATED
    """Licence of the starting weights, which binds what was made of them."""
    trained_on: tuple[str, ...] = ()
    """Data sets of the starting weights and of the training, for the leak audit."""
    source: Json | None = None
    """The start's catalogue entry; None from scratch."""
    report: Json | None = None
    """The GraftReport; None from scratch."""
    window_hu: tuple[float, float] | None = None
    channel_windows_hu: tuple[tuple[float, float], ...] = ()
    """Bounds of each channel, where a scan was seen through several windows at once."""
    spacing_mm: tuple[float, float, float] | None = None
    tensor_digests: Mapping[str, str] = field(default_factory=dict)
    """Digest of each tensor in the file; set by :func:`save_weights`."""
    training: Json = field(default_factory=dict)
    """What a training wants to add (recipe, metrics); not read here."""
    format: str = CARD_FORMAT


def save_weights(folder: Path, state: Mapping[str, Tensor], card: Card) -> Card:
    """Save tensors and their card in a folder, each file whole or not at all.

    Args:
        folder: Made if need be; ``model.safetensors`` and ``card.json`` in it are replaced.
        state: Tensors named ``encoder.*``, ``decoder.*``, ``head.*`` and ``deep_heads.*``.
        card: The card; its digests are computed here.

    Returns:
        The card with digests, as written.

    Raises:
        SourceError: If a name begins otherwise, nothing is named ``encoder.*``, or the card says
            something else about decoder and classes.
    """
    wrong = [name for name in state if not name.startswith(tuple(f"{room}." for room in ROOMS))]
    if wrong or not any(name.startswith("encoder.") for name in state):
        raise SourceError(
            f"weights cannot be saved in {folder}: expected tensors named encoder.*, decoder.*, "
            f"head.* and deep_heads.*, found {', '.join(wrong[:5]) or 'no encoder.*'}."
        )
    faults = _segmentation_faults({**vars(card), "tensor_digests": dict.fromkeys(state, "")})
    if faults:
        raise_faults(
            SourceError,
            f"weights cannot be saved in {folder}: their card does not fit them",
            faults,
            "Give decoder, outputs and classes of the network whose tensors these are.",
        )
    # Tensors may share memory (tied weights), which safetensors refuses: each gets its own.
    owned = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    seen: set[int] = set()
    for name, tensor in owned.items():
        place = tensor.untyped_storage().data_ptr()
        if place in seen or tensor.untyped_storage().nbytes() != tensor.nbytes:
            owned[name] = tensor.clone()
        seen.add(place)
    card = replace(card, tensor_digests=tensor_digests(owned))
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        save_file(owned, temporary, metadata={"format": "pt", "voxgraft": CARD_FORMAT})
    write_json(folder / CARD_FILE, {item.name: getattr(card, item.name) for item in fields(card)})
    return load_card(folder)


def head_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of saved weights that are the head's."""
    return {name: tensor for name, tensor in state.items() if name.startswith("head.")}


def load_card(place: str | Path) -> Card:
    """Read the card of saved weights.

    Args:
        place: The folder, the card itself, or the weights beside it.

    Raises:
        SourceError: If there is no card, or it cannot be understood.
    """
    path = Path(place).expanduser()
    path = path / CARD_FILE if path.is_dir() else path.with_name(CARD_FILE)
    if not path.is_file():
        raise SourceError(
            f"{path} does not exist. Expected the folder of a run or of a saved graft: "
            f"{WEIGHTS_FILE} with its {CARD_FILE}."
        )
    try:
        entry = read_json(path)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise SourceError(f"{path} is no JSON: {fault}. It is damaged; write it again.") from fault
    if not isinstance(entry, dict) or entry.get("format") != CARD_FORMAT:
        found = entry.get("format") if isinstance(entry, dict) else type(entry).__name__
        raise SourceError(f"{path} has the format {found!r}, expected {CARD_FORMAT!r}.")
    known = {item.name for item in fields(Card)}
    wrong = [repr(name) for name in entry if name not in known]
    missing = [
        name
        for name in ("model", "in_channels", "input_mean", "input_sd", "stem", "tensor_digests")
        if name not in entry
    ]
    kinds: dict[str, type | tuple[type, ...]] = {
        "model": str,
        "stem": str,
        "in_channels": int,
        "input_mean": list,
        "input_sd": list,
        "trained_on": list,
        "tensor_digests": dict,
        "model_options": dict,
        "licence": str,
        "parameters": int,
        "decoder": (str, type(None)),
        "decoder_options": dict,
        "classes": list,
    }
    wrong += [
        f"{name} (a {type(entry[name]).__name__})"
        for name, kind in kinds.items()
        if name in entry and not isinstance(entry[name], kind)
    ]
    if wrong or missing:
        raise SourceError(
            f"{path} is no card: unknown or of another kind: {', '.join(wrong) or 'nothing'}; "
            f"missing: {', '.join(missing) or 'nothing'}. It is damaged; write it again."
        )
    faults = _segmentation_faults(entry)
    if faults:
        raise_faults(
            SourceError,
            f"{path} contradicts itself about its segmentation",
            faults,
            "It is damaged; write it again.",
        )
    return Card(**{name: _tuple(value) for name, value in entry.items()})


def _segmentation_faults(entry: Mapping[str, Any]) -> list[str]:
    """Return what of decoder, outputs, classes and tensors does not go together."""
    kind, classes = entry.get("decoder"), entry.get("classes", ())
    faults = class_faults(classes)
    if kind not in (None, *CARD_DECODERS):
        faults.append(f"decoder is {kind!r}, expected one of {', '.join(CARD_DECODERS)}, or null")
    rooms = {name.partition(".")[0] for name in entry["tensor_digests"]}
    if (kind is not None) != bool(rooms & {"decoder", "deep_heads"}):
        found = "decoder.* among" if kind is None else "no decoder.* among"
        faults.append(f"decoder is {kind!r}, but there is {found} the tensors")
    if classes and "head" in rooms and entry.get("outputs") != len(classes):
        faults.append(
            f"{len(classes)} classes are named, but the head has {entry.get('outputs')} outputs"
        )
    return faults


def _tuple(value: Any) -> Any:
    return tuple(_tuple(item) for item in value) if isinstance(value, list) else value


def card_source(folder: Path) -> Source:
    """Return saved weights as a start: a Source of layout ``"volume"``.

    Raises:
        SourceError: If there is no card, or it cannot be understood.
    """
    card = load_card(folder)
    weights = (folder if folder.is_dir() else folder.parent) / WEIGHTS_FILE
    rooms = {name.partition(".")[0] for name in card.tensor_digests}
    return Source(
        id=f"run:{weights.resolve().parent.name}",
        file=LocalFile(path=str(weights)),
        sha256=None,
        licence=card.licence,
        layout="volume",
        input=InputContract(
            channels=card.in_channels,
            mean=card.input_mean,
            sd=card.input_sd,
            window_hu=card.window_hu,
            channel_windows_hu=card.channel_windows_hu,
            spacing_mm=card.spacing_mm,
        ),
        architecture=card.model,
        key_layout="voxgraft",
        stem=(card.stem.removesuffix(".weight"),),
        head=tuple(room for room in ("head", "deep_heads") if room in rooms),
        decoder=("decoder",) if "decoder" in rooms else (),
        classes=card.classes,
        parameters=card.parameters,
        trained_on=card.trained_on,
        tensor_digests_given=card.tensor_digests,
        verified=True,
    )
