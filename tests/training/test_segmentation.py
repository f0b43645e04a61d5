"""Dice of whole cases in training: against MONAI, with classes and voxels that are unknown."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_dice

from voxgraft.training.segmentation import dice_of_classes

SHAPE = (3, 4, 5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(1, 4))
def test_dice_of_a_label_map_is_monais(seed, classes):
    rng = np.random.default_rng(seed)
    found, truth = (rng.integers(0, classes + 1, SHAPE) for _ in range(2))
    known = rng.random(classes) < 0.7
    labels = truth[None].astype(np.int16)
    own = dice_of_classes(torch.from_numpy(found), labels, known)
    for index in range(classes):
        pair = [torch.from_numpy(each == index + 1)[None, None] for each in (found, truth)]
        expected = float(compute_dice(*pair)) if known[index] else np.nan
        if known[index] and not (truth == index + 1).any() and (found == index + 1).any():
            expected = 0.0  # MONAI leaves out classes that the reference lacks
        np.testing.assert_allclose(own[index], expected, atol=1e-6)


def test_two_layers_give_what_one_gives_where_nothing_overlaps():
    rng = np.random.default_rng(0)
    found, truth = (rng.integers(0, 4, SHAPE) for _ in range(2))
    known = np.array([True, True, False])
    one = truth[None].astype(np.int16)
    two = np.stack([np.where(truth == 2, 0, truth), np.where(truth == 2, 2, 0)]).astype(np.int16)
    single = dice_of_classes(torch.from_numpy(found), one, known)
    np.testing.assert_allclose(dice_of_classes(torch.from_numpy(found), two, known), single)


def test_unknown_voxels_count_nowhere():
    found = torch.tensor([[[1, 1, 1, 0]]])
    labels = np.array([[[[1, -1, 0, 1]]]], dtype=np.int16)
    known = np.array([True])
    np.testing.assert_allclose(dice_of_classes(found, labels, known), [2 * 1 / (2 + 2)])
    absent = dice_of_classes(torch.zeros(1, 1, 4, dtype=torch.long), labels * 0, known)
    assert np.isnan(absent).all()
