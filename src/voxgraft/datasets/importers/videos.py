"""Folders of natural videos, laid out as Kinetics is, become a table for video pre-training."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from voxgraft.datasets.importers.class_folders import (
    class_folders,
    compiled_pattern,
    found_id,
    shared_case_ids,
)
from voxgraft.datasets.importers.folder import Progress, run_jobs
from voxgraft.datasets.importers.kinetics import annotated_clips
from voxgraft.datasets.importers.study_table import LEFT_OUT, Found, Notice, finish_studies
from voxgraft.datasets.table import Table
from voxgraft.errors import TableError, VideoError
from voxgraft.videos import VIDEO_SUFFIXES, check_video, import_av

_CLIP_NAME = re.compile(r"(.+)_\d{6}_\d{6}")
"""A clip as Kinetics names it: the source video, first and last second."""
_BESIDE_VIDEOS = (".json", ".txt", ".csv", ".tsv", ".md", ".xml", ".yaml", ".yml", ".srt", ".vtt")
_EVALUATED = ("test", "validation")


def import_videos(
    root: Path | str,
    table_path: Path | str,
    *,
    annotations: Sequence[Path | str] = (),
    source_pattern: str | None = None,
    leave_out_faulty: bool = False,
    jobs: int = 1,
    on_progress: Progress | None = None,
    on_notice: Notice | None = None,
) -> Table:
    """Make a table of videos with a class each; the files stay where they are.

    Without annotations, the tree is ``ROOT/CLASS/...`` or ``ROOT/train|val|test/CLASS/...``
    (``validate`` and ``validation`` too). With Kinetics' annotation files, videos named
    ``<youtube_id>_<start, 6 digits>_<end, 6 digits>`` lie anywhere below the root, and label and
    split come from the annotations; files that no row names are passed over.

    Columns: ``case_id``, ``patient_id``, ``image``, ``label`` and, where known, ``split``.
    ``patient_id`` is the *source video*, so that clips of one video stay on one side of a split:
    the youtube id of a name as above; any other file is taken for a video of its own, by its path.
    The first frame of each file is decoded, and the end of the file looked for.

    Args:
        root: The folder.
        table_path: Where the table goes (.csv, .tsv or .parquet). What is left out stands in
            ``<its name>_left_out.csv`` beside it.
        annotations: Kinetics' CSV files (label, youtube_id, time_start, time_end, split).
        source_pattern: Regular expression searched for in a file's path below ``root`` (with
            ``/``); its first group, or the whole match, is the source video.
        leave_out_faulty: Write the table without what cannot be used. Of a source video on
            several sides of the split, the test's clips stay, else the validation's.
        jobs: Threads that look into files.
        on_progress: Called with (files looked into, files in all).
        on_notice: Called with sentences that should be read.

    Returns:
        The table, as written.

    Raises:
        TableError: If there are fewer than two classes, files that are no videos or cannot be
            read, annotated videos that are not there, clips that would share an id, or source
            videos on two sides of the split; all are named at once.
        VideoError: If PyAV is not installed.
    """
    import_av()
    root, table_path = Path(root), Path(table_path)
    if not root.is_dir():
        raise TableError(f"{root}: no such folder. Expected ROOT/CLASS/videos.")
    pattern = compiled_pattern(source_pattern, "source", r"'(v_\w+_g\d+)'")
    base = root.resolve()
    found = Found()
    if annotations:
        videos = list(_below(base, found))
        rows = annotated_clips([Path(path) for path in annotations], videos, base, found)
    else:
        rows = list(_in_class_folders(base, found))
    rows = _with_sources(rows, pattern, found)
    rows = _own_ids(rows, found)
    rows = _readable(base, rows, jobs, on_progress, found)
    found.rows = _on_one_side(rows, found)
    classes = sorted({row["label"] for row in found.rows})
    if len(classes) < 2 and (leave_out_faulty or not found.faults):
        also = f" {len(found.faults)} file(s) were left out." if found.faults else ""
        raise TableError(
            f"{root}: found {len(found.rows)} videos in classes {', '.join(classes) or 'none'}; "
            f"expected videos in two or more (ROOT/CLASS/video.mp4).{also}"
        )
    return finish_studies(
        found,
        root=root,
        table_path=table_path,
        left_out_path=table_path.with_name(f"{table_path.stem}_{LEFT_OUT}"),
        sidecar_columns=[],
        leave_out_faulty=leave_out_faulty,
        on_notice=on_notice,
        noun="videos",
    )


def _below(folder: Path, found: Found) -> Iterator[Path]:
    """Yield the videos at any depth; notes are passed over, other files are faults."""
    for name, folders, files in os.walk(folder):
        folders[:] = sorted(inner for inner in folders if not inner.startswith("."))
        for file in sorted(file for file in files if not file.startswith(".")):
            suffix = Path(file).suffix.lower()
            if suffix in VIDEO_SUFFIXES:
                yield Path(name) / file
            elif suffix not in _BESIDE_VIDEOS:
                found.faults.append((str(Path(name) / file), "is no video (by its suffix)"))


def _in_class_folders(base: Path, found: Found) -> Iterator[dict[str, Any]]:
    for split, folder in class_folders(base):
        for path in _below(folder, found):
            inside = path.relative_to(base).as_posix()
            bare = inside.removesuffix(path.suffix)
            row = {"case_id": bare.replace("/", "_"), "image": inside, "label": folder.name}
            yield row if split is None else {**row, "split": split}
    for place in sorted({base, *(folder.parent for _, folder in class_folders(base))}):
        found.faults += [
            (str(path), "lies in no class folder")
            for path in sorted(place.iterdir())
            if path.suffix.lower() in VIDEO_SUFFIXES and path.name[0] != "." and path.is_file()
        ]


def _with_sources(
    rows: list[dict[str, Any]], pattern: re.Pattern[str] | None, found: Found
) -> list[dict[str, Any]]:
    """Add the source video as ``patient_id``."""
    kept = []
    for row in rows:
        bare = row["image"].removesuffix(Path(row["image"]).suffix)
        clip = _CLIP_NAME.fullmatch(bare.rsplit("/", 1)[-1])
        source = clip.group(1) if clip else bare
        if pattern is not None:
            source = found_id(pattern, row["image"])
            if not source:
                why = f"source pattern {pattern.pattern!r} does not match its path"
                found.faults.append((row["image"], why))
                continue
        kept.append({"case_id": row["case_id"], "patient_id": source, **row})
    return kept


def _own_ids(rows: list[dict[str, Any]], found: Found) -> list[dict[str, Any]]:
    doubled = shared_case_ids(rows)
    for case_id, images in doubled.items():
        found.faults.append((" and ".join(images), f"would share the case_id {case_id!r}"))
    return [row for row in rows if row["case_id"] not in doubled]


def _readable(
    base: Path,
    rows: list[dict[str, Any]],
    jobs: int,
    on_progress: Progress | None,
    found: Found,
) -> list[dict[str, Any]]:
    unreadable: dict[int, str] = {}

    def look(position: int) -> None:
        path = base / rows[position]["image"]
        try:
            check_video(path)
        except VideoError as error:
            unreadable[position] = str(error).removeprefix(f"{path}: ")

    run_jobs(look, list(range(len(rows))), jobs, on_progress)
    found.faults += [(rows[k]["image"], unreadable[k]) for k in sorted(unreadable)]
    return [row for position, row in enumerate(rows) if position not in unreadable]


def _on_one_side(rows: list[dict[str, Any]], found: Found) -> list[dict[str, Any]]:
    """Keep each source video on one side of the split: the test, else the validation."""
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(row["patient_id"], set()).add(row.get("split", ""))
    kept = []
    for row in rows:
        own = sides[row["patient_id"]]
        stays = next((side for side in _EVALUATED if side in own), row.get("split", ""))
        if row.get("split", "") == stays:
            kept.append(row)
        else:
            why = (
                f"is of the video {row['patient_id']!r}, of which the {stays} split has clips too; "
                "expected one side"
            )
            found.faults.append((row["image"], why))
    return kept
