"""Recipes of pre-training made from a few words: on videos, and on another labelled table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from voxgraft.datasets import Kind, Target, read_table
from voxgraft.types import Json


def video_recipe(table: str, model: str, *, target: str = "label") -> Json:
    """Return the recipe of supervised pre-training on labelled videos, as plain data.

    The settings that networks are commonly trained with on Kinetics: clips of 32 frames two apart,
    224 pixels, SGD with a cosine over 196 epochs, ten clips a video in evaluation. A folder of a
    few thousand videos wants fewer epochs (``--set optimization.epochs=30``).

    Expected: no Kinetics could be had here; on three real films, cut in pieces, a small network
    tells them apart (tests).

    Args:
        table: Made by ``voxgraft data import videos``.
        model: A network of the registry.
        target: The table's column of classes.

    Source:
        Feichtenhofer et al., SlowFast Networks for Video Recognition, ICCV 2019, section 4:
        clips, rate, warm-up and epochs; the batch is 64 clips there, spread over 128 GPUs.
    """
    return _recipe(table, model, [target], classes=True) | {
        "clips": {},
        "optimization": {
            "optimizer": "sgd",
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "learning_rate": 0.1,
            "epochs": 196.0,
            "eval_every_epochs": 10.0,
            "warmup": 0.17,
            "batch_size": 64,
            "gradient_clip_norm": None,
        },
        "augmentation": {},
    }


def table_recipe(table: str, model: str, *, target: Sequence[str]) -> Json:
    """Return the recipe of supervised pre-training on another labelled table, as plain data.

    Whole volumes with the recipe's standard settings; windows, intensity and size are for the
    data (``--set windows.size_voxels=[32,224,224]``).

    Args:
        table: Cases with a column ``split``.
        model: A network of the registry.
        target: Target columns.
    """
    return _recipe(table, model, list(target)) | {
        "augmentation": {"rotation_degrees": [15.0, 0.0, 0.0]},
        "optimization": {"epochs": 50.0, "eval_every_epochs": 1.0, "early_stop_patience": 10},
    }


def class_target(frame: pd.DataFrame, column: str) -> Target:
    """Return the target of a column that holds classes, however many: videos have hundreds."""
    kind: Kind | None = "multiclass" if frame[column].nunique() > 2 else None
    return Target.infer(frame, [column], kind=kind)


def _recipe(table: str, model: str, columns: list[str], *, classes: bool = False) -> Json:
    frame = read_table(Path(table)).frame
    found = class_target(frame, columns[0]) if classes else Target.infer(frame, columns)
    return {
        "table": table,
        "target": {
            "kind": found.kind,
            "columns": list(found.columns),
            "classes": list(found.classes),
            "unit": found.unit,
        },
        "metric": {"regression": "mae"}.get(found.kind, "auroc"),
        "preprocessing": {},
        "model": model,
        "start": "scratch",
        "score_splits": ["validation"],
    }
