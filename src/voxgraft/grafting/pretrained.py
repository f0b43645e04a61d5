"""A saved network whole, encoder and head, from a folder or from the hub."""

from __future__ import annotations

from pathlib import Path

from voxgraft.errors import GraftError, raise_faults
from voxgraft.models import Encoder, Network, build_encoder, exchange_norm
from voxgraft.weights.card import CARD_FILE, WEIGHTS_FILE, Card, load_card
from voxgraft.weights.digests import digest_faults
from voxgraft.weights.hub import PREFIX, hub_file, parse_place
from voxgraft.weights.read import read_state_dict

_LINEAR_HEAD = {"head.weight", "head.bias"}


def from_pretrained(
    place: str | Path, *, outputs: int | None = None, seed: int | None = None
) -> Network:
    """Build a saved network with its weights: that of a run, or of a saved graft.

    Args:
        place: The folder, or ``hf-hub:ORGANIZATION/NAME[@REVISION]``; a bare ``ORGANIZATION/NAME``
            that is no folder is taken for a place on the hub.
        outputs: Outputs of a fresh head, drawn from ``seed``; by default the saved head.
        seed: Seed of a fresh head.

    Returns:
        The network in evaluation mode, on the CPU. It takes intensities as the card's window makes
        them (``card.window_hu`` to 0…1, or as saved) and standardizes them itself.

    Raises:
        SourceError: If there is no card, or the weights cannot be read.
        FetchError: If the place is on the hub and cannot be had.
        GraftError: If nothing says how many outputs, the head is no linear one, or the weights are
            not those that the card describes.
        RegistryError: If no model has the card's name.
    """
    folder = _folder(place)
    card = load_card(folder)
    state = read_state_dict(folder / WEIGHTS_FILE)
    faults = digest_faults(state, card.tensor_digests)
    if faults:
        raise_faults(
            GraftError,
            f"{folder / WEIGHTS_FILE} is not the file that its card describes",
            faults,
            "It is damaged or was changed: write it again, or fetch it again.",
        )
    if card.decoder is not None and outputs is None:
        raise GraftError(
            f"{folder} holds a segmentation network. Open it with voxgraft.load_run, start one by "
            "graft_segmentation, or give outputs=, the number of values that a fresh head on its "
            "encoder predicts."
        )
    state = {n: t for n, t in state.items() if not n.startswith(("decoder.", "deep_heads."))}
    head = {name: tensor for name, tensor in state.items() if name.startswith("head.")}
    if outputs is None and head.keys() != _LINEAR_HEAD:
        found = f"the head {', '.join(sorted(head)[:3])}, …" if head else "no head"
        raise GraftError(
            f"{folder} has {found}: expected head.weight and head.bias. Give outputs=, the number "
            "of values that a fresh head predicts"
            + ("; a network of another task is opened with voxgraft.load_run." if head else ".")
        )
    count = int(head["head.weight"].shape[0]) if outputs is None else outputs
    encoder = _encoder(card, {n.removeprefix("encoder.") for n in state if n not in head})
    network = Network(encoder, count, input_mean=card.input_mean, input_sd=card.input_sd, seed=seed)
    own = network.state_dict()
    kept = state if outputs is None else {n: t for n, t in state.items() if n not in head}
    wrong = [n for n, tensor in kept.items() if n not in own or own[n].shape != tensor.shape]
    missing = [n for n in own if n.startswith("encoder.") and n not in kept]
    if wrong or missing:
        raise_faults(
            GraftError,
            f"{folder} does not fit the network {card.model!r} that its card names",
            [f"{name} has no place of its shape" for name in wrong]
            + [f"{name} is missing" for name in missing],
            "It was written by another version: graft it again.",
        )
    network.load_state_dict({**own, **kept})
    return network.eval()


def _encoder(card: Card, names: set[str]) -> Encoder:
    encoder = build_encoder(card.model, in_channels=card.in_channels, **card.model_options)
    norm = card.norm
    kept = any(name.endswith("running_mean") for name in names)
    if (
        norm == "keep"
        and not kept
        and any(n.endswith("running_mean") for n in encoder.state_dict())
    ):
        # Cards of runs keep what their training asked for with the recipe.
        norm = card.training.get("recipe", {}).get("start", {}).get("norm", "group")
    if norm in ("group", "instance"):
        exchange_norm(encoder, norm)
    return encoder


def _folder(place: str | Path) -> Path:
    path = Path(place).expanduser()
    text = str(place)
    if path.is_dir():
        return path
    if path.name in (CARD_FILE, WEIGHTS_FILE) and path.is_file():
        return path.parent
    if text.startswith(PREFIX) or (text.count("/") == 1 and not text.startswith((".", "/", "~"))):
        found = parse_place(text)
        card = hub_file(found, CARD_FILE)
        hub_file(found, WEIGHTS_FILE)
        return card.parent
    raise GraftError(
        f"{place} is no folder. Give the folder of a run or of a saved graft ({WEIGHTS_FILE} with "
        f"its {CARD_FILE}), or a place on the hub: {PREFIX}ORGANIZATION/NAME."
    )
