"""A run or a saved graft as a repository of the hub: weights, card and a page for people."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path, PurePath
from typing import Any, Protocol

from voxgraft.errors import FetchError, RunError
from voxgraft.files import read_json, write_json, write_text
from voxgraft.types import Json
from voxgraft.weights import Card, load_card, read_state_dict
from voxgraft.weights.card import CARD_FILE, WEIGHTS_FILE
from voxgraft.weights.digests import digest_faults
from voxgraft.weights.hub import parse_place
from voxgraft.weights.source import UNSTATED


class Uploader(Protocol):
    """What is needed of :class:`huggingface_hub.HfApi`."""

    def create_repo(
        self, repo_id: str, *, private: bool | None = None, exist_ok: bool = False
    ) -> Any:
        """Make a repository, or leave the one that is there."""

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> Any:
        """Upload all files of a folder in one commit."""


def push(
    folder: str | Path, repo_id: str, *, private: bool = True, api: Uploader | None = None
) -> str:
    """Upload a finished run, or a saved graft, to the hub.

    Uploaded are ``model.safetensors``, ``card.json`` and a ``README.md`` made of the card: the
    start with its licence, the audit's coverage and parity, and a run's metrics. Data and
    predictions are not; of paths of this machine only the last part is left in the card.

    Args:
        folder: The run, or the saved graft.
        repo_id: ``ORGANIZATION/NAME``; made if need be.
        private: Whether a repository that is made is private; one that is there stays as it is.
        api: What uploads; by default huggingface_hub's, with the token of ``hf auth login``.

    Returns:
        The place, as :func:`voxgraft.from_pretrained` takes it.

    Raises:
        RunError: If the weights are not those that the card describes.
        SourceError: If there is no card, or ``repo_id`` is misspelled.
        FetchError: If the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    place = parse_place(repo_id)
    uploader: Uploader = HfApi() if api is None else api
    with tempfile.TemporaryDirectory() as temporary:
        build_repository(Path(folder), Path(temporary), place.repository)
        try:
            uploader.create_repo(place.repository, private=private, exist_ok=True)
            uploader.upload_folder(
                repo_id=place.repository,
                folder_path=temporary,
                commit_message="Weights with their card, by voxgraft",
            )
        except (HfHubHTTPError, HFValidationError, OSError, ValueError) as fault:
            reason = (str(fault).strip().splitlines() or [type(fault).__name__])[0].rstrip(".:")
            raise FetchError(
                f"{place.repository} could not be pushed: {reason}. Log in with `hf auth login` (a "
                "token that may write), see that HF_HUB_OFFLINE is not set, and try again."
            ) from fault
    return f"hf-hub:{place.repository}"


def build_repository(folder: Path, target: Path, name: str) -> None:
    """Write into ``target`` what :func:`push` uploads of a folder.

    Raises:
        RunError: If the weights are not those that the card describes.
        SourceError: If there is no card, or the weights cannot be read.
    """
    card = load_card(folder)
    weights = folder / WEIGHTS_FILE
    faults = digest_faults(read_state_dict(weights), card.tensor_digests)
    if faults:
        raise RunError(
            f"{weights} is not the file that its card describes: {'; '.join(faults[:5])}. It is "
            "damaged; write it again before it is published."
        )
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(weights, target / WEIGHTS_FILE)
    write_json(target / CARD_FILE, _without_paths(read_json(folder / CARD_FILE)))
    write_text(target / "README.md", model_page(card, name, _result(folder)))


def _without_paths(value: Any) -> Any:
    """Return a card with the last part alone of what are paths of this machine."""
    if isinstance(value, dict):
        return {key: _without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    if isinstance(value, str) and (value.startswith("~") or PurePath(value).is_absolute()):
        return PurePath(value).name
    return value


def _result(folder: Path) -> Json:
    path = folder / "result.json"
    if not path.is_file():
        return {}
    try:
        found = read_json(path)
    except ValueError as fault:
        raise RunError(f"{path} is no JSON ({fault}). Run the recipe again.") from fault
    return found if isinstance(found, dict) else {}


def model_page(card: Card, name: str, result: Json) -> str:
    """Return the hub's page of a model, in Markdown with the hub's own header."""
    source: Json = card.source or {}
    report: Json = card.report or {}
    licence = card.licence if card.licence != UNSTATED else "unknown"
    tag = licence if licence in _HUB_LICENCES else ("unknown" if licence == "unknown" else "other")
    header = ["---", "library_name: voxgraft", f"license: {tag}"]
    header += [f"license_name: {licence}"] if tag == "other" else []
    header += ["tags:", "- medical-imaging", "- transfer-learning", "---", ""]
    lines = [
        f"# {name.rpartition('/')[2]}",
        "",
        f"A `{card.model}` for {card.in_channels}-channel volumes, made with Voxgraft.",
        "",
        "```python",
        "import voxgraft as vg",
        "",
        f'network = vg.from_pretrained("hf-hub:{name}"{"" if card.outputs else ", outputs=2"})',
        "```",
        "",
        "| | |",
        "|---|---|",
        f"| start | {source.get('id', 'random weights')} |",
        f"| licence of the start | {card.licence} |",
        f"| paper of the start | {source.get('paper', UNSTATED) if source else '—'} |",
        f"| trained on | {', '.join(card.trained_on) or UNSTATED} |",
        f"| parameters | {card.parameters:,} |",
        f"| input mean, sd | {_numbers(card.input_mean)}, {_numbers(card.input_sd)} |",
        f"| window (HU) | {_windows(card)} |",
        f"| spacing (mm) | {_numbers(card.spacing_mm) if card.spacing_mm else '—'} |",
    ]
    if report:
        parity = report.get("parity", {})
        lines += [
            f"| coverage of the start | {float(report.get('coverage', 0.0)):.1%} |",
            f"| parity with the original | {_parity(parity)} |",
        ]
    lines += _metrics(result)
    lines += [
        "",
        "Not a medical device. The licence and the data of the start bind what it became.",
    ]
    return "\n".join([*header, *lines, ""])


_HUB_LICENCES = frozenset(
    {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0"}
    | {"cc-by-sa-4.0", "cc-by-nc-sa-4.0", "cc0-1.0", "gpl-3.0", "openrail"}
)


def _numbers(values: tuple[float, ...]) -> str:
    return " × ".join(f"{value:g}" for value in values)


def _windows(card: Card) -> str:
    windows = card.channel_windows_hu or ((card.window_hu,) if card.window_hu else ())
    return ", ".join(f"[{low:g}, {high:g}]" for low, high in windows) or "—"


def _parity(parity: Json) -> str:
    error = parity.get("relative_error")
    return str(parity.get("where", "not checked")) if error is None else f"{error:.1e} relative"


def _metrics(result: Json) -> list[str]:
    """Return a table of the metrics that a run's result has for each split and level."""
    rows = []
    splits = result.get("metrics")
    for split, levels in (splits if isinstance(splits, dict) else {}).items():
        for level, scores in levels.items():
            for metric, scored in scores.items():
                value = scored.get("value")
                if isinstance(value, int | float):
                    rows.append(f"| {split} | {level} | {metric} | {value:.4g} |")
    if not rows:
        return []
    return ["", "| split | level | metric | value |", "|---|---|---|---|", *rows]
