"""Graft every start onto every network once, before anything trains."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from voxgraft.comparison.matrix import Arm, Study, pair_id
from voxgraft.comparison.plan import Stage
from voxgraft.datasets import Windows
from voxgraft.errors import FetchError, raise_faults
from voxgraft.files import read_json, write_json
from voxgraft.metrics import primary_metric
from voxgraft.models import build_encoder
from voxgraft.progress import progress_bar
from voxgraft.recipes import ModelSettings, StartSettings
from voxgraft.runs import build_segmenter, graft_start
from voxgraft.runs.input_contract import given_input, with_findings
from voxgraft.types import Json
from voxgraft.weights.report import GraftReport


def audit_grafts(study: Study, folder: Path, in_channels: int) -> Json:
    """Graft every start onto every model once, with parity; nothing trains if one fails.

    A start that goes through a stage first is grafted twice: as it goes into the stage, and, once
    the stage has made its run, as it comes out.

    Returns:
        Per model and start the GraftReport as JSON (None from scratch), also kept in
        ``grafts.json``.

    Raises:
        GraftError: If a tensor is unexplained or a graft differs from its original.
        FetchError: If sources are neither here nor to be fetched; all are named.
    """
    plan = study.plan
    path = folder / "grafts.json"
    known: Json = read_json(path) if path.is_file() else {}
    reports: Json = {}
    pairs = study.pairs()
    missing: dict[str, str] = {}
    with progress_bar(len(pairs), "checking grafts") as bar:
        for model, start in pairs:
            pair = pair_id(model.name, start.name)
            before = start.name in plan.chained and pair not in study.made
            key = f"{pair}__before_{plan.chained[start.name]}" if before else pair
            if key not in known:
                stage = plan.stages[plan.chained[start.name]] if before else None
                try:
                    report = _report(study, model, start, stage, in_channels)
                except FetchError as error:
                    missing[str(start.source)] = str(error)
                    continue
                known[key] = None if report is None else report.to_dict()
                write_json(path, known)
            reports[key] = known[key]
            bar.advance(1, start.name)
    if missing:
        raise_faults(
            FetchError,
            f"{len(missing)} sources cannot be had here",
            list(missing.values()),
            "Fetch them as said, or leave these starts (or networks) out.",
        )
    return reports


def _report(
    study: Study,
    model: ModelSettings,
    start: StartSettings,
    stage: Stage | None,
    in_channels: int,
) -> GraftReport | None:
    """Graft a start as the comparison, or the stage that it goes through first, will."""
    plan = study.plan
    target = study.target if stage is None else stage.target
    if target is not None and target.kind == "segmentation":
        arm = Arm(model=model, start=start, train_size=study.sizes[0])
        recipe = study.recipe(arm, plan.seeds[0], None)
        if stage is not None:
            recipe = dataclasses.replace(
                recipe,
                target=target,
                segmentation=stage.segmentation or plan.segmentation,
                crop_size_voxels=stage.crop_size_voxels or plan.crop_size_voxels,
                metric=stage.metric or primary_metric(target.kind).name,
            )
        _, grown = build_segmenter(recipe, recipe.build_task().outputs, in_channels=in_channels)
        return None if grown is None else grown.report
    windows = plan.windows if model.windows is None else model.windows
    crop = plan.crop_size_voxels if windows is None else windows.size_voxels
    channels = seen_channels(in_channels, model, plan.windows)
    given = given_input(plan.preprocessing, in_channels=channels, crop_size_voxels=crop)
    if start.source is None:
        build_encoder(model.name, in_channels=channels, **model.options)
    grafted = graft_start(model, start, in_channels=channels)
    return None if grafted is None else with_findings(grafted, given).report


def seen_channels(channels: int, model: ModelSettings, windows: Windows | None) -> int:
    """Return the channels that a network is given: those of the volumes, times the neighbors'."""
    seen = windows if model.windows is None else model.windows
    return channels * (1 if seen is None else 2 * seen.neighbors + 1)
