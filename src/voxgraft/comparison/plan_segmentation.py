"""What a plan of a segmentation must have, and must not."""

from __future__ import annotations

from typing import Any

from voxgraft.comparison.plan import Stage
from voxgraft.datasets import Target
from voxgraft.metrics import metric_names
from voxgraft.recipes import Faults, SegmentationSettings, TaskSettings
from voxgraft.training import Optimization

KIND = "segmentation"


def segments(target: Target | None) -> bool:
    """Say whether a target is a segmentation; one that is only columns yet is none."""
    return target is not None and target.kind == KIND


def settle_segmentation(values: dict[str, Any], faults: Faults) -> None:
    """Fill in the settings of a plan's segmentations, and see that what they need is there.

    Args:
        values: Of the plan, as read; changed in place.
        faults: Where faults go.
    """
    stages: dict[str, Stage] = values["stages"]
    own = segments(values.get("target"))
    if own or any(segments(stage.target) for stage in stages.values()):
        values.setdefault("segmentation", SegmentationSettings())
    elif values.get("segmentation") is not None:
        faults.add(KIND, "is for targets of that kind; no target of this plan is one")
    crop = values.get("crop_size_voxels")
    if own:
        _check(values, crop, "", faults)
        _check_whole(values, faults)
    for name, stage in stages.items():
        key = f"pretraining.{name}."
        if segments(stage.target):
            settings: dict[str, Any] = {
                "task": stage.task,
                "metric": stage.metric,
                "windows": stage.windows,
            }
            settings["optimization"] = stage.optimization
            _check(settings, stage.crop_size_voxels or crop, key, faults)
        elif stage.segmentation is not None:
            faults.add(f"{key}{KIND}", "is for targets of that kind; this stage has another")


def _check(values: dict[str, Any], crop: Any, key: str, faults: Faults) -> None:
    if crop is None:
        faults.add(
            f"{key}crop_size_voxels",
            "missing; a segmentation trains on crops and sees whole scans in windows of their "
            "size: (depth, height, width), e.g. [96, 96, 96]",
        )
    if values.get("windows") is not None:
        faults.add(f"{key}windows", "is for whole cases; a segmentation has crop_size_voxels")
    if values.get("task") not in (None, TaskSettings()):
        faults.add(f"{key}task", "is for whole cases; a segmentation's loss is segmentation.loss")
    optimization: Optimization | None = values.get("optimization")
    if optimization is not None and optimization.balance != "none":
        faults.add(f"{key}optimization.balance", "is for classes of cases; expected none")
    names = metric_names(KIND)
    if values.get("metric") not in (None, *names):
        faults.add(f"{key}metric", f"is {values['metric']!r}, expected one of {', '.join(names)}")


def _check_whole(values: dict[str, Any], faults: Faults) -> None:
    """See that nothing of the plan is for numbers of whole cases."""
    if values.get("level", "case") != "case":
        faults.add("level", "is 'patient'; masks of several scans have no mean. Expected case")
    if values.get("baselines"):
        faults.add("baselines", "a column of the table segments nothing; leave them out")
    if values.get("published"):
        faults.add("published", "is of classifications; leave it out")
    for start in values["starts"]:
        if start.adapt.method == "probe":
            faults.add(
                "starts",
                f"{start.name!r} is a probe, which fits features of whole cases; choose another "
                "adaptation",
            )
    for model in (*values["models"], *values["networks"].values()):
        if model.windows is not None:
            faults.add("models", f"{model.name} has windows; a segmentation has crop_size_voxels")
