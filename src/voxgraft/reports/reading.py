"""Read ``comparison.json``: whole and typed, or refused with every fault named."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from voxgraft.errors import ReportError, raise_faults
from voxgraft.files import plain_json
from voxgraft.reports.comparison import FORMAT, Comparison
from voxgraft.reports.own_networks import together


def parse_comparison(value: Any, where: str) -> Comparison:
    """Check a comparison's JSON value and return it typed.

    Args:
        value: What ``comparison.json`` holds, as Python objects.
        where: The file or object that messages name.

    Raises:
        ReportError: If it is not a comparison, naming every field at fault.
    """
    if not isinstance(value, dict):
        raise ReportError(
            f"{where} holds a {type(value).__name__}, expected an object with the keys of a "
            "comparison. Run `voxgraft compare` again: it repeats only what is unfinished."
        )
    if "format" in value and value["format"] != FORMAT:
        raise ReportError(
            f"{where} has format {value['format']!r}, this version of Voxgraft reads format "
            f"{FORMAT}. Report it with the version that wrote it ({value.get('voxgraft')!r})."
        )
    try:
        return Comparison.model_validate(_with_model(together(_printable(plain_json(value)))))
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_url=False):
            key = ".".join(str(part) for part in fault["loc"])
            found = "" if fault["type"] == "missing" else f", found {shortened(fault['input'])}"
            faults.append(f"{key}: {fault['msg']}{found}")
        raise_faults(
            ReportError,
            f"{where} is not a comparison",
            faults,
            "Run `voxgraft compare` again to write it anew: it repeats only what is unfinished.",
        )


def _with_model(value: Any) -> Any:
    """Return the value with the only model's name where a difference leaves it empty."""
    models = value.get("models")
    if not (isinstance(models, list) and len(models) == 1):
        return value
    filled = dict(value)
    for key in ("differences", "label_savings"):
        rows = value.get(key)
        if isinstance(rows, list):
            filled[key] = [
                row | {"model": row.get("model") or models[0]} if isinstance(row, dict) else row
                for row in rows
            ]
    return filled


def _printable(value: Any) -> Any:
    """Return a JSON value with control characters and lone surrogates in its texts replaced."""
    if isinstance(value, str):
        return "".join(
            "\ufffd" if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" else c
            for c in value
        ).replace("\r", " ")
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return value


def shortened(value: Any, length: int = 60) -> str:
    """Return a value's text, cut to ``length`` characters."""
    text = repr(value)
    return text if len(text) <= length else text[: length - 1] + "…"


def read_comparison(folder: Path) -> Comparison:
    """Read ``comparison.json`` of a comparison's folder.

    Raises:
        ReportError: If the folder or file is missing, unreadable or not a comparison.
    """
    path = folder / "comparison.json"
    if not folder.is_dir():
        raise ReportError(
            f"{folder} is not a folder; expected the folder of a comparison, with "
            "comparison.json in it. Make one with `voxgraft compare PLAN`."
        )
    try:
        value = json.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise ReportError(
            f"{path} does not exist; expected the comparison's results there. Run "
            "`voxgraft compare PLAN` (it goes on where it stopped), or name the folder that it "
            "wrote."
        ) from None
    except (ValueError, RecursionError) as error:
        raise ReportError(
            f"{path} is damaged: {error}. Expected UTF-8 JSON, as `voxgraft compare` writes it. "
            "Run `voxgraft compare` again to write it anew: it repeats only what is unfinished."
        ) from None
    except OSError as error:
        raise ReportError(
            f"{path} cannot be read: {error.strerror or error}. Expected a readable JSON file. "
            "Check its permissions, or run `voxgraft compare` again."
        ) from None
    return parse_comparison(value, str(path))
