"""A data set with masks, as an import collects it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass
class SegmentationFound:
    """A data set as an import collects it.

    Attributes:
        root: Where it lies.
        kind: Label maps, or folders of binary masks.
        sources: Class, as the data set calls it, to its values or files.
        ignored_values: Values of label maps where nothing is known.
        cases: ``case_id``, ``image``, ``masks`` (paths below ``root``, with ``/``) and columns of
            text.
        present: For folders, the classes whose file is there, a case.
        faults: (what, why): cases that cannot be used.
        notices: Sentences for the person who imports.
    """

    root: Path
    kind: Literal["label_map", "binary_masks"]
    sources: dict[str, tuple[int, ...] | tuple[str, ...]] = field(default_factory=dict)
    ignored_values: tuple[int, ...] = ()
    cases: list[dict[str, str]] = field(default_factory=list)
    present: dict[str, frozenset[str]] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
