"""The study of Ke et al. (2023) as a plan: video pre-training for chest CT, its errors mended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from voxgraft.comparison.published.ke2023 import MODELS_2D, MODELS_3D
from voxgraft.errors import RecipeError
from voxgraft.types import Json

SOURCES: dict[str, str] = {
    "mvit_base_32x3": "mvit_base_32x3.k400",
    "r2plus1d_r50": "r2plus1d_r50.k400_16x4",
    "csn_r101": "csn_r101.k400_32x2",
    "slowfast_r50": "slowfast_r50.k400_8x8",
    "slow_r50": "slow_r50.k400_8x8",
    "swin3d_t": "swin3d_t.authors_k400_1k",
    "penet_3d": "penet.kinetics600",
    "slicewise_resnet18": "torchvision_resnet18.imagenet1k_v1",
    "slicewise_resnext101_32x8d": "torchvision_resnext101_32x8d.imagenet1k_v1",
    "lrcn_resnext101_32x8d": "torchvision_resnext101_32x8d.imagenet1k_v1",
    "slicewise_vit_small_patch14_dinov2": "vit_small_patch14_dinov2.lvd142m",
}
"""The start "video" of each network: Kinetics, or images for networks on slices."""

BASELINE_OF_TODAY = "slicewise_vit_small_patch14_dinov2"
"""Not in the paper: self-supervised on images, with attention over slices."""

_HU = {"RSNA": "pe", "LIDC": "lung"}
_SIZES: dict[str, list[float | str]] = {"RSNA": [0.01, 0.1, "all"], "LIDC": [0.1, "all"]}
_STUDY_SLICES = 150
_SMALL = (8, 32, 32)


def ke2023(
    table: str,
    target: str,
    *,
    dataset: Literal["RSNA", "LIDC"] = "RSNA",
    pretraining_table: str | None = None,
    pretraining_target: str | None = None,
    sources: Mapping[str, str] | None = None,
    networks: Sequence[str] | None = None,
    small: bool = False,
) -> Json:
    """Return the plan of the study, as plain data that ``plan_from_dict`` reads.

    Ten networks (and one more of today) from four starts: scratch, video or images, another
    labelled chest CT, and video then CT. Without a table of other CT there are two starts.
    docs/ke2023.md lists what the paper did otherwise and why it is mended here.

    Expected: no run of this plan on the real data has been made here (they could not be had); the
    report shows the printed cells beside each of ours.

    Args:
        table: Table of studies, with slice labels: ``voxgraft data import rsna-pe`` or
            ``lidc-studies`` makes it.
        target: Its column with the study's label.
        dataset: Which printed half to stand beside; decides the HU window and the sizes.
        pretraining_table: Table of other labelled chest CT, for the starts ``ct`` and ``video_ct``.
        pretraining_target: Its column.
        sources: Network to source, in place of the published checkpoint of that network.
        networks: The networks to try; all if None.
        small: Windows of 8×32×32 voxels, few steps, one size and rate: to see that everything
            runs. Its numbers mean nothing.

    Raises:
        RecipeError: If the data set is unknown, or a network is not in the study.

    Source:
        Ke et al., Video pretraining advances 3D deep learning on chest CT tasks, MIDL 2023
        (arXiv 2304.00546), section 3 and appendix.
    """
    if dataset not in _HU:
        raise RecipeError(f"dataset is {dataset!r}, expected one of {list(_HU)}.")
    wanted = tuple(SOURCES if networks is None else networks)
    strange = sorted({*wanted, *(sources or ())} - set(SOURCES))
    if strange:
        raise RecipeError(
            f"{', '.join(strange)}: not in the study, which has {', '.join(SOURCES)}."
        )
    starting = {name: (sources or {}).get(name, SOURCES[name]) for name in wanted}
    models = [_model(name, small) for name in wanted]
    starts: list[Any] = ["scratch", {"name": "video", "source": starting}]
    stages: Json = {}
    if pretraining_table is not None:
        stages["ct"] = {"table": pretraining_table, "target": pretraining_target or target}
        starts += [
            {"name": "ct", "pretraining": "ct"},
            {"name": "video_ct", "source": starting, "pretraining": "ct"},
        ]
    plan: Json = {
        "title": f"Video pre-training for chest CT ({dataset}), after Ke et al. (2023)",
        "note": "Networks on slices (2D) start from images where 3D networks start from video.",
        "table": table,
        "target": target,
        "dataset": ["RSNA-STR PE" if dataset == "RSNA" else "LIDC-IDRI"],
        "published": f"ke2023/{dataset}",
        "split": {"fractions": [0.7, 0.15, 0.15], "seed": 0},
        "preprocessing": {
            "resize_voxels": [None, 256, 256],
            "intensity": {"kind": "window", "name": _HU[dataset]},
            "storage": "uint8",
        },
        "augmentation": {"rotation_degrees": [20.0, 0.0, 0.0], "rotation_probability": 1.0},
        "windows": {"size_voxels": [32, 224, 224], "min_positive_slices": 4},
        "models": models,
        "starts": starts,
        "pretraining": stages,
        "sizes": _SIZES[dataset],
        "seeds": 3,
        "keep_weights": "first seed",
        "optimization": {
            "optimizer": "adam",
            "weight_decay": 1e-6,
            "schedule": "plateau",
            "plateau_factor": 0.5,
            "plateau_patience": 5,
            "plateau_on": "loss",
            "balance": "classes",
            "warmup": 0.0,
            "epochs": 50.0,
            "eval_every_epochs": 1.0,
            "early_stop_patience": 5,
            "batch_size": 16,
            "gradient_clip_norm": None,
            "precision": "fp16" if torch.cuda.is_available() else "no",
        },
        "learning_rate": {"grid": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1], "size": 0.1},
    }
    return _smaller(plan) if small else plan


def _model(name: str, small: bool) -> Json:
    """Return a network with the windows that it sees studies through."""
    depth, height, width = _SMALL if small else (32, 224, 224)
    if name in ("slicewise_resnet18", "slicewise_resnext101_32x8d"):
        slices = {"size_voxels": [1, height, width], "min_positive_slices": 1}
        return {"name": name, "windows": slices, "batch_size": 32}
    if name == "lrcn_resnext101_32x8d":
        study = {
            "size_voxels": [16 if small else _STUDY_SLICES, height, width],
            "labels": "study",
            "aggregate": "mean",
        }
        return {"name": name, "windows": study, "batch_size": 4}
    if name == BASELINE_OF_TODAY:
        plane = [28, 28] if small else [224, 224]
        return {
            "name": name,
            "options": {"join": "attention"},
            "windows": {
                "size_voxels": [depth, *plane],
                "min_positive_slices": 2 if small else 4,
            },
            "batch_size": 8,
        }
    if name == "penet_3d" and not small:
        return {"name": name, "windows": {"size_voxels": [24, 224, 224]}}
    return {"name": name}


def _smaller(plan: Json) -> Json:
    """Return the plan at a size that two cores go through in minutes."""
    plan["title"] += ", small"
    plan["note"] += " A small version, to see that everything runs: its numbers mean nothing."
    plan["preprocessing"] |= {"resize_voxels": [None, 36, 36]}
    plan["windows"] = {"size_voxels": list(_SMALL), "min_positive_slices": 2}
    plan["sizes"], plan["seeds"], plan["keep_weights"] = ["all"], 1, "none"
    plan["optimization"] |= {
        "schedule": "constant",
        "plateau_on": "metric",
        "epochs": None,
        "eval_every_epochs": None,
        "steps": 2,
        "eval_every": 2,
        "batch_size": 4,
        "batchnorm": "never",
        "early_stop_patience": None,
        "precision": "no",
    }
    plan["learning_rate"] = {"grid": [1e-3]}
    for model in plan["models"]:
        model["batch_size"] = 4
    return plan


NETWORKS = (*MODELS_3D, *MODELS_2D, BASELINE_OF_TODAY)
"""The networks of the study, in the order of the report."""
