"""The task of a segmentation: what it refuses, and its record."""

import json

import numpy as np
import pytest
import torch

from voxgraft.datasets.target import Target
from voxgraft.errors import TaskError
from voxgraft.tasks.segmentation import SegmentationTask, build_segmentation_task

ORGANS = Target(kind="segmentation", columns=("masks",), classes=("liver", "spleen", "aorta"))


@pytest.mark.parametrize(("overlapping", "outputs"), [(False, 4), (True, 3)])
def test_outputs_follow_the_form(overlapping, outputs):
    task = build_segmentation_task(ORGANS, loss="dice_ce", overlapping=overlapping)
    assert task.outputs == outputs
    assert task.initial_bias().shape == (outputs,)


def test_classes_that_no_case_annotates_are_refused_all_at_once():
    known = np.array([[1, 0, 0], [1, 0, 0]])
    with pytest.raises(TaskError, match="2 of 3 classes") as refused:
        build_segmentation_task(ORGANS).fit(known)
    assert "'spleen'" in str(refused.value)
    assert "'aorta'" in str(refused.value)
    with pytest.raises(TaskError, match="was not fitted"):
        _ = build_segmentation_task(ORGANS).annotated


@pytest.mark.parametrize(
    "known", [np.ones((0, 3)), np.ones((2, 2)), np.ones(3), np.full((1, 3), 2)]
)
def test_what_does_not_say_which_classes_are_known_is_refused(known):
    with pytest.raises(TaskError, match="training cases annotate"):
        build_segmentation_task(ORGANS).fit(known)


def test_impossible_settings_are_named_together():
    target = Target(kind="regression", columns=("age",))
    with pytest.raises(TaskError, match="4 faults") as refused:
        build_segmentation_task(target, loss="dice", primary="auroc", overlapping=None)
    for word in ("'regression'", "'dice'", "'auroc'", "overlapping is None"):
        assert word in str(refused.value)


def test_the_record_builds_the_same_task_again():
    task = build_segmentation_task(
        ORGANS, loss="dice_focal", overlapping=True, deep_supervision=True, primary="surface_dice"
    ).fit(np.array([[True, True, False], [True, False, True]]))
    assert task.annotated == (2, 1, 1)
    record = json.loads(json.dumps(task.to_dict()))
    again = SegmentationTask.restore(ORGANS, record)
    assert again.to_dict() == task.to_dict()


@pytest.mark.parametrize(
    "change", [{"annotated": [1]}, {"annotated": 3}, {"loss": "mse"}, {"more": 1}, None]
)
def test_a_damaged_record_is_refused(change):
    record = build_segmentation_task(ORGANS).to_dict()
    with pytest.raises(TaskError):
        SegmentationTask.restore(ORGANS, None if change is None else {**record, **change})


@pytest.mark.parametrize(
    ("outputs", "labels", "known"),
    [
        ((2, 3, 4, 4, 4), (2, 1, 4, 4, 4), (2, 3)),
        ((2, 4, 4, 4, 4), (2, 1, 4, 4, 5), (2, 3)),
        ((2, 4, 4, 4, 4), (2, 4, 4, 4), (2, 3)),
        ((2, 4, 4, 4, 4), (2, 1, 4, 4, 4), (2, 4)),
        ((1, 4, 4, 4, 4), (2, 1, 4, 4, 4), (2, 3)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(outputs, labels, known):
    zeros = torch.zeros(labels, dtype=torch.int16)
    with pytest.raises(TaskError, match="does not fit"):
        build_segmentation_task(ORGANS).loss(torch.zeros(outputs), zeros, torch.ones(known))


@pytest.mark.parametrize("shape", [(1, 4, 2, 2), (1, 4, 2, 2, 9), (1, 4, 2, 2, 0), (1, 3, 2, 2, 2)])
def test_a_level_on_another_grid_is_named(shape):
    labels = torch.zeros((1, 1, 4, 4, 4), dtype=torch.int16)
    levels = [torch.zeros(1, 4, 4, 4, 4), torch.zeros(shape)]
    with pytest.raises(TaskError, match="1 fault") as refused:
        build_segmentation_task(ORGANS, deep_supervision=True).loss(
            levels, labels, torch.ones(1, 3)
        )
    assert "outputs of level 1" in str(refused.value)
