"""The studies that ``voxgraft compare`` has by name, from the flags of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxgraft.errors import UsageError

STUDIES = ("ke2023", "suprem")

_OF_BOTH = ("dataset", "pretraining_table", "small")
_OWN = {
    "ke2023": ("target", "pretraining_target"),
    "suprem": (
        "start", "sizes", "group", "classes", "pretraining_classes", "pretraining_sizes",
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StudyFlags:
    """What was said on the command line."""

    table: Path | None
    target: list[str] | None
    model: list[str] | None
    start: list[str] | None
    sizes: list[Any] | None
    dataset: str | None
    group: str | None
    classes: list[str] | None
    pretraining_table: Path | None
    pretraining_target: str | None
    pretraining_classes: list[str] | None
    pretraining_sizes: list[Any] | None
    small: bool

    def given(self, *names: str) -> list[str]:
        """Return the flags of some fields that were given."""
        return [f"--{name.replace('_', '-')}" for name in names if getattr(self, name)]

    def of_studies(self) -> list[str]:
        """Return the flags given that only studies take."""
        both = {"target", "start", "sizes"}
        own = [name for names in _OWN.values() for name in names if name not in both]
        return self.given(*_OF_BOTH, *own)


def study_plan(name: str, flags: StudyFlags) -> dict[str, Any]:
    """Return the plan of a study, as plain data.

    Raises:
        UsageError: If a flag is missing, or is of another study.
    """
    from voxgraft.comparison import ke2023, suprem

    strange = flags.given(*(n for other in STUDIES if other != name for n in _OWN[other]))
    if strange or flags.table is None:
        own = ", ".join(f"--{n.replace('_', '-')}" for n in _OWN[name])
        said = f"It has no {', '.join(strange)}. " if strange else ""
        raise UsageError(
            f"{name} takes --table, and as wished --model, --seeds, --dataset, "
            f"--pretraining-table, --small, {own}. {said}Change single settings with --set "
            f"PATH=VALUE (docs/{name}.md)."
        )
    table = str(flags.table.resolve())
    other = str(flags.pretraining_table.resolve()) if flags.pretraining_table else None
    if name == "ke2023":
        if len(flags.target or ()) != 1:
            raise UsageError("ke2023 takes one --target, the column with the study's label.")
        return ke2023(
            table,
            (flags.target or [""])[0],
            dataset=flags.dataset or "RSNA",  # type: ignore[arg-type]
            pretraining_table=other,
            pretraining_target=flags.pretraining_target,
            networks=flags.model,
            small=flags.small,
        )
    given: dict[str, Any] = {"sizes": flags.sizes, "pretraining_sizes": flags.pretraining_sizes}
    return suprem(
        table,
        group=flags.group,
        classes=flags.classes,
        dataset=flags.dataset,
        networks=flags.model,
        starts=flags.start,
        pretraining_table=other,
        pretraining_classes=flags.pretraining_classes,
        small=flags.small,
        **{key: value for key, value in given.items() if value is not None},
    )


def read_sizes(text: str, flag: str) -> list[int | float | str]:
    """Return training sizes from ``50,0.5,all``.

    Raises:
        UsageError: If one is none.
    """
    try:
        return [_size(part.strip()) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(
            f"{flag}: {text!r} are no numbers of patients, fractions or 'all' (50,0.5,all)."
        ) from error


def _size(text: str) -> int | float | str:
    if text == "all":
        return text
    return int(text) if text.isdecimal() else float(text)
