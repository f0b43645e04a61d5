"""Files that are taken for checkpoints and are none, told by their first bytes."""

from __future__ import annotations

import io
import pickletools
import re
import struct
import warnings
import zipfile
from pathlib import Path

from voxgraft.errors import SourceError

_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the weights themselves",
        "Run `git lfs pull` in the repository, or download the file from its web page.",
    ),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras, TensorFlow)", "Convert it to safetensors first."),
    (b"\x93NUMPY", "a NumPy array", "Give a state dict: names and tensors."),
    (b"\x1f\x8b", "compressed with gzip", "Unpack it (`gunzip`, `tar -xzf`) and give the content."),
    (b"7z\xbc\xaf", "compressed with 7-Zip", "Unpack it and give the content."),
    (b"Rar!", "compressed with RAR", "Unpack it and give the content."),
    (b"GGUF", "a GGUF file", "Convert it to safetensors first."),
)

_SUFFIXES = {
    ".tflite": "a TensorFlow Lite graph",
    ".onnx": "an ONNX graph",
    ".msgpack": "Flax's own container",
    ".index": "the index of a TensorFlow checkpoint",
}
"""Files that are told by their suffix alone, where their content is no zip archive."""

_SAFE = re.compile(
    r"collections\.OrderedDict|argparse\.Namespace|torch\.(_utils\._rebuild_\w+|\w+Storage|Size|"
    r"storage\.\w+|serialization\._get_layout|bfloat16|float\w+|int\w+|device)"
)
"""What a plain state dict's pickle asks for."""

_SCRIPTED = (
    "a TorchScript archive without its tensors (no data.pkl)",
    "Download it again; where it is so by intention, run `torch.jit.load(FILE).state_dict()` in an "
    "environment that you trust, save the result with safetensors, and give that file.",
)
_EXPORTED = (
    "a torch.export archive: a program with its weights",
    "In an environment that you trust, run `torch.export.load(FILE).state_dict`, save it with "
    "safetensors, and give that file (docs/grafting.md, 'Files that are refused').",
)


def refuse_other_kinds(path: Path) -> None:
    """Raise if a file is missing, empty, or of a kind that holds no state dict.

    Raises:
        SourceError: Naming what the file is and what to do.
    """
    try:
        if path.is_dir():
            raise SourceError(f"{path} is a folder, expected a checkpoint file.")
        if not path.is_file():
            raise SourceError(f"{path} does not exist. Give the path of a checkpoint file.")
        with path.open("rb") as handle:
            start = handle.read(512)
    except OSError as fault:
        raise SourceError(f"{path!s:.200} cannot be opened: {fault.strerror}.") from fault
    if not start:
        raise SourceError(f"{path} is empty (0 bytes). Download it again.")
    if not start.strip(b"\0"):
        raise SourceError(f"{path} begins with zeros only: a download that broke. Try again.")
    for magic, kind, remedy in _STARTS:
        if start.startswith(magic):
            raise SourceError(f"{path} is {kind}. {remedy}")
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise SourceError(
            f"{path} is a web page (HTML), not weights: the download ended at a page that asks "
            "for a login or a confirmation. Open the link in a browser and save the file itself."
        )
    graph = _SUFFIXES.get(path.suffix.lower())
    if graph is not None and not start.startswith(b"PK"):
        raise SourceError(
            f"{path} is {graph}, not a state dict. Read its arrays with the program that wrote it "
            "and save them by name with numpy.savez or safetensors (docs/grafting.md, 'Files that "
            "are refused')."
        )
    _refuse_programs(path)


def is_archive(path: Path) -> bool:
    """Say whether a file begins as a zip archive does, which is how torch tells it too."""
    with path.open("rb") as handle:
        return handle.read(4) == b"PK\x03\x04"


def unsafe_imports(path: Path) -> list[str]:
    """Return what a pickle would import that is no part of plain tensors, without opening it.

    The instructions are listed, as far as they make sense, and none of them is followed.
    """
    try:
        if is_archive(path):
            with zipfile.ZipFile(path) as archive:
                name = next(n for n in archive.namelist() if n.rpartition("/")[2] == "data.pkl")
                content = archive.read(name)
        else:
            content = path.read_bytes()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, StopIteration):
        return []
    found: dict[str, None] = {}
    stream = io.BytesIO(content)
    with warnings.catch_warnings():
        # Damaged strings have invalid escape sequences: no news to the reader.
        warnings.simplefilter("ignore", DeprecationWarning)
        while stream.tell() < len(content):
            # A file of torch's older format is several pickles in a row, then numbers.
            if not _list_imports(stream, found):
                break
    return [name for name in found if name.isprintable() and not _SAFE.fullmatch(name)]


def _list_imports(stream: io.BytesIO, found: dict[str, None]) -> bool:
    """Add the imports of the next pickle; say whether it was whole."""
    strings: list[str] = []
    try:
        for instruction, argument, _ in pickletools.genops(stream):
            if instruction.name == "GLOBAL":
                found[str(argument).replace(" ", ".")] = None
            elif instruction.name == "STACK_GLOBAL":
                found[".".join(strings[-2:])] = None
            elif isinstance(argument, str):
                strings.append(argument)
    except (ValueError, IndexError, OverflowError, MemoryError, struct.error):
        return False
    return True


def _refuse_programs(path: Path) -> None:
    if not is_archive(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as fault:
        raise SourceError(
            f"{path} is a damaged archive: {fault}. Download it again and compare its SHA-256."
        ) from fault
    inner = {name.split("/", 1)[-1] for name in names}
    scripted = "constants.pkl" in inner or any(name.startswith("code/") for name in inner)
    if scripted and "data.pkl" not in inner:
        kind, remedy = _SCRIPTED
    elif "archive_format" in inner or any(name.startswith("models/") for name in inner):
        kind, remedy = _EXPORTED
    elif "data.pkl" not in inner:
        kind = f"a zip archive without a checkpoint in it ({', '.join(sorted(names)[:5])})"
        remedy = "Unpack it and give the checkpoint file."
    else:
        return
    raise SourceError(f"{path} is {kind}. {remedy}")
