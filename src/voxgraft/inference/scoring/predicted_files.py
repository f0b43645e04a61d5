"""Predictions of any tool as files: where a case's are, and what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from voxgraft.datasets import read_structures
from voxgraft.errors import InferenceError
from voxgraft.inference.scoring.class_names import PredictedClasses
from voxgraft.inference.segmentation_files import COMBINED, MASKS, NAMES
from voxgraft.volumes import SCAN_SUFFIXES

ENDINGS = ("", "_seg", "_pred", "_segmentation", "_trans")
"""What tools add to the name of a case; ``_seg`` and ``_trans`` are MONAI's."""
_CHANNEL = "_0000"
_NO_CLASS = ("ct", "image", "scan")


class UntoldClassesError(InferenceError):
    """Nothing says what the values of a label map mean."""


@dataclass(frozen=True)
class CaseFiles:
    """What was predicted for one case.

    Attributes:
        path: The label map; None where there is a file a class.
        values: Name to its values in the label map.
        files: Name to its file.
    """

    path: Path | None
    values: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, as the predictions call them."""
        return tuple(self.values if self.path is not None else self.files)

    @property
    def all_files(self) -> tuple[Path, ...]:
        """Every file."""
        return tuple(self.files.values()) if self.path is None else (self.path,)


class PredictedFolder:
    """A folder of predictions: label maps named after cases, or folders of them.

    A case's file or folder has the name of the case, or of its scan's file (also without the
    channel ``_0000`` of nnU-Net), with or without one of :data:`ENDINGS`. A folder holds a label
    map, or a file a class named after it, itself or in ``segmentations/``.

    Raises:
        InferenceError: If there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InferenceError(
                f"{folder}: no such folder. Give the folder of the predictions: a label map a "
                "case, or a folder a case with a file a class."
            )
        self.folder = folder
        self._entries: dict[str, list[Path]] = {}
        for path in sorted(folder.iterdir()):
            name = path.name if path.is_dir() else stem_of(path)
            if name is not None and not path.name.startswith("."):
                self._entries.setdefault(name, []).append(path)

    def find(self, case_id: str, image: Path) -> Path | None:
        """Return a case's file or folder; None if it is missing.

        Args:
            case_id: The case.
            image: Its scan.

        Raises:
            InferenceError: If there are several.
        """
        plain = stem_of(image) or image.name
        names = dict.fromkeys((case_id, plain, plain.removesuffix(_CHANNEL)))
        for name in names:
            found = [path for end in ENDINGS for path in self._entries.get(name + end, [])]
            if len(found) > 1:
                raise InferenceError(
                    f"has several predictions: {', '.join(path.name for path in found)}"
                )
            if found:
                return found[0]
        return None

    def entries(self, limit: int = 5) -> str:
        """Return some names of what is in the folder, for messages."""
        names = [path.name for paths in self._entries.values() for path in paths]
        more = f", … ({len(names)} in all)" if len(names) > limit else ""
        return ", ".join(names[:limit]) + more if names else "no file of a known format"


def describe_files(path: Path, said: PredictedClasses) -> CaseFiles:
    """Return what a case's file or folder holds, without reading its voxels.

    Args:
        path: The file or folder.
        said: What its values mean; a folder with ``labels.json`` says so itself.

    Raises:
        UntoldClassesError: If a label map's values were not told.
        InferenceError: If a folder holds nothing.
        TableError: If ``labels.json`` cannot be used.
    """
    if not path.is_dir():
        return _label_map(path, said)
    if (path / NAMES).is_file():
        own = read_structures(path / NAMES)
        if own.kind == "label_map":
            values = {name: own.values(name) for name in own.names}
            return _label_map(path / COMBINED, PredictedClasses(values=values))
        return CaseFiles(None, files={n: path / MASKS / own.files(n)[0] for n in own.names})
    files = _scans(path / MASKS) if (path / MASKS).is_dir() else {}
    whole = _scans(path)
    if said.values is not None and not files:
        labels = [one for name, one in whole.items() if name not in _NO_CLASS]
        if len(labels) == 1:
            return _label_map(labels[0], said)
    files = files or {name: one for name, one in whole.items() if name not in _NO_CLASS}
    files.pop(stem_of(Path(COMBINED)) or "", None)
    if not files:
        raise InferenceError("is a folder without a label map or a file a class")
    return CaseFiles(None, files=files)


def stem_of(path: Path) -> str | None:
    """Return a file's name without its suffix; None if it is no scan's."""
    for suffix in sorted(SCAN_SUFFIXES, key=len, reverse=True):
        if path.name.casefold().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return None


def _label_map(path: Path, said: PredictedClasses) -> CaseFiles:
    if said.values is None:
        raise UntoldClassesError(
            f"{path}: a label map, and nothing says what its values mean. Say it with --classes "
            "liver=1,spleen=2,... or a file: nnU-Net's dataset.json, or a structures.json."
        )
    return CaseFiles(path, values=said.values)


def _scans(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = stem_of(path)
        if name is not None and path.is_file() and not path.name.startswith("."):
            found[name] = path
    return found
