"""Whole cases in validation: what lies around a small one, and which errors end a training."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from voxgraft.datasets import Table, Target
from voxgraft.errors import InferenceError, ScoresError
from voxgraft.feeds import CropFeed, WholeCases
from voxgraft.models import build_segmentation
from voxgraft.recipes import SegmentationSettings
from voxgraft.store import VolumeStore, prepare_masks
from voxgraft.tasks.segmentation import build_segmentation_task
from voxgraft.training import SlidCases
from voxgraft.training.segmentation import evaluate_segmentation, middle_crop
from voxgraft.transforms import Preprocessing, ZScore
from voxgraft.volumes import Affine, LabelMap, Volume, write_volume

CROP = (12, 16, 16)
SHAPES = ((5, 20, 16), (2, 9, 16), (14, 16, 7))


@pytest.fixture(scope="module")
def feeds(tmp_path_factory):
    """Scans smaller than a crop along some axes, standardized: each has its own background."""
    folder = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(0)
    affine = Affine.from_spacing((2.0, 1.0, 1.0))
    for number, shape in enumerate(SHAPES):
        image = rng.normal(100.0 * number, 30.0 + number, shape).astype(np.float32)
        labels = (image > image.mean() + 20).astype(np.uint8)
        write_volume(Volume(image[None], affine), folder / f"{number}.nii")
        write_volume(LabelMap(labels, affine), folder / f"{number}_seg.nii")
    (folder / "structures.json").write_text(
        json.dumps({"kind": "label_map", "structures": {"spot": 1}})
    )
    ids = [f"c{number}" for number in range(len(SHAPES))]
    frame = pd.DataFrame({"case_id": ids, "patient_id": ids})
    frame["image"] = [f"{number}.nii" for number in range(len(SHAPES))]
    frame["masks"] = [f"{number}_seg.nii" for number in range(len(SHAPES))]
    table = Table(frame, folder)
    settings = Preprocessing(intensity=ZScore(), storage="float32")
    prepared = VolumeStore(folder / "store").prepare(table, settings)
    masks = prepare_masks(table, ["spot"], prepared)
    sliding = SegmentationSettings().sliding(CROP, validation=True)
    cases = SlidCases(WholeCases(prepared, masks, ids), sliding)
    return prepared, CropFeed(prepared, masks, ids, CROP), cases


@pytest.fixture
def judged() -> Callable:
    """A network with what it is shown, and its task."""
    task = build_segmentation_task(
        Target(kind="segmentation", columns=("masks",), classes=("spot",))
    ).fit(np.ones((3, 1)))
    network = build_segmentation("segresnet_8", 2, decoder="native", seed=0)
    shown: list[torch.Tensor] = []
    network.register_forward_pre_hook(lambda _, given: shown.append(given[0].clone()))
    return network, task, shown


def test_around_small_cases_lies_what_training_has_there(feeds, judged):
    prepared, crops, cases = feeds
    network, task, shown = judged
    backgrounds = [prepared.background_of(case) for case in prepared.case_ids]
    assert len({round(value, 3) for value in backgrounds}) == 3
    evaluation = evaluate_segmentation(network, task, cases)
    assert not evaluation.fault
    trained = next(crops.batches([np.arange(3)])).images
    seen = {tuple(window.shape[2:]) for window in shown}
    assert seen == {CROP}
    for place, (case_id, background) in enumerate(zip(prepared.case_ids, backgrounds, strict=True)):
        volume = prepared.read(case_id)
        outside = 1.0 - np.prod(np.minimum(SHAPES[place], CROP)) / np.prod(CROP)
        own = [
            window
            for batch in shown
            for window in batch
            if float((window == background).float().mean()) > outside - 1e-6
        ]
        assert len(own) >= 2  # at least one window, and the crop of the loss
        for window in own:
            assert np.isin(window.numpy(), [*volume.ravel(), np.float32(background)]).all()
        assert float((trained[place] == background).float().mean()) >= outside - 1e-6


def test_the_crop_of_the_loss_is_one_that_training_could_have_had(feeds):
    _, crops, cases = feeds
    for place in range(3):
        image, labels = cases.cases.read(place)
        found = middle_crop(image, labels, cases.sliding_over(place))
        whole = np.minimum(SHAPES[place], CROP) == SHAPES[place]
        if whole.all():  # then there is only one place that it can lie at
            batch = next(crops.batches([np.array([place])]))
            assert torch.equal(found[0], batch.images[0])
            assert torch.equal(found[1], batch.labels[0])
        assert found[0].shape == found[1].shape == (1, *CROP)


def test_only_scores_that_are_nan_are_a_divergence(feeds, judged):
    cases, (network, task, _) = feeds[2], judged
    with torch.no_grad():
        network.head.bias.fill_(torch.nan)
    evaluation = evaluate_segmentation(network, task, cases)
    assert "validation case 'c0'" in evaluation.fault
    assert "NaN" in evaluation.fault
    assert network.training
    cramped = replace(cases, sliding=replace(cases.sliding, max_buffer_bytes=64))
    with pytest.raises(InferenceError, match="keep at least 1280 voxels") as raised:
        evaluate_segmentation(network, task, cramped)
    assert not isinstance(raised.value, ScoresError)
    assert network.training
