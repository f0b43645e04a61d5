"""Recipes made from a few words: of pre-training on videos or another table, of segmentations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from voxgraft.datasets import (
    Kind,
    Table,
    Target,
    case_masks,
    known_structures,
    read_table,
    structure_names,
)
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


def segmentation_recipe(
    table: str, model: str, *, classes: Sequence[str] | None = None, fine_tuning: bool = False
) -> Json:
    """Return the recipe of a segmentation as SuPreM was trained, or fine-tuned, as plain data.

    Both: 1.5 mm along each axis, crops of 96 voxels, two of three around a structure, AdamW with a
    weight decay of 1e-5, values shifted by up to 0.1 in a fifth of the crops (paper, and the code's
    transforms); 20 epochs of warm-up, then a cosine, no clipping of gradients, windows that overlap
    by half (code's defaults).

    =====================  ==============================  =================================
    what                   pre-training                    ``fine_tuning``
    =====================  ==============================  =================================
    HU                     -175 to 250 (both)              -250 to 250 (both)
    structures             a sigmoid each, Dice with BCE   one softmax, Dice with CE
    learning rate          1e-3 (paper; the code 1e-4)     1e-4 (both)
    epochs                 800 (code)                      201, one evaluation in 10 (code)
    crops in an update     4: two cases, two each (code)   1 (code)
    =====================  ==============================  =================================

    What differs here: a quarter turn within slices, which they make in a tenth of the crops, is a
    turn by any angle, as often; a crop comes from a case of its own, so an epoch of pre-training
    has as many crops as cases, not two a case; scans are not cropped to the body first; weights are
    chosen by validation Dice (in pre-training at every 10 epochs), theirs are the last.

    Args:
        table: Scans with masks and a column ``split``; of several data sets: ``join_tables``.
        model: A network of the registry.
        classes: Structures; None takes all that a training case annotates.
        fine_tuning: Whether a start is fine-tuned, instead of one being made.

    Raises:
        TableError: If the masks cannot be used, or a structure is annotated nowhere.

    Source:
        Li et al., How Well Do Supervised 3D Models Transfer to Medical Imaging Tasks?, ICLR 2024,
        and its code (MrGiovanni/SuPreM: supervised_pretraining, target_applications).
    """
    cases = read_table(Path(table))
    names = _annotated(cases) if classes is None else list(classes)
    target = Target(kind="segmentation", columns=("masks",), classes=tuple(names))
    known_structures(cases, target.classes)
    epochs = 201.0 if fine_tuning else 800.0
    return _settings(table, model, target) | {
        "metric": "dice",
        "score_splits": [name for name in ("validation", "test") if name in cases.splits]
        or ["validation"],
        "preprocessing": {
            "spacing_mm": [1.5, 1.5, 1.5],
            "intensity": {
                "kind": "window",
                "low": -250.0 if fine_tuning else -175.0,
                "high": 250.0,
            },
        },
        "crop_size_voxels": [96, 96, 96],
        "segmentation": {
            "overlapping": not fine_tuning,
            "loss": "dice_ce",
            "foreground": 2 / 3,
            "overlap": 0.5,
        },
        "optimization": {
            "optimizer": "adamw",
            "learning_rate": 1e-4 if fine_tuning else 1e-3,
            "weight_decay": 1e-5,
            "epochs": epochs,
            "warmup": 20.0 / epochs,
            "schedule": "cosine",
            "batch_size": 1 if fine_tuning else 4,
            "eval_every_epochs": 10.0,
            "gradient_clip_norm": None,
        },
        "augmentation": {
            "rotation_degrees": [180.0, 0.0, 0.0],
            "rotation_probability": 0.1,
            "in_plane": True,
            "intensity_shift": 0.1,
            "intensity_shift_probability": 0.2,
        },
    }


def _annotated(cases: Table) -> list[str]:
    """Return the structures that a training case annotates, in the order of the table's files."""
    train = cases.split("train") if "train" in cases.splits else cases
    said = {name for masks in case_masks(train).values() for name in masks.annotated}
    return [name for name in structure_names(cases) if name in said]


def class_target(frame: pd.DataFrame, column: str) -> Target:
    """Return the target of a column that holds classes, however many: videos have hundreds."""
    kind: Kind | None = "multiclass" if frame[column].nunique() > 2 else None
    return Target.infer(frame, [column], kind=kind)


def _recipe(table: str, model: str, columns: list[str], *, classes: bool = False) -> Json:
    frame = read_table(Path(table)).frame
    found = class_target(frame, columns[0]) if classes else Target.infer(frame, columns)
    return _settings(table, model, found)


def _settings(table: str, model: str, target: Target) -> Json:
    return {
        "table": table,
        "target": target.to_dict(),
        "metric": {"regression": "mae"}.get(target.kind, "auroc"),
        "preprocessing": {},
        "model": model,
        "start": "scratch",
        "score_splits": ["validation"],
    }
