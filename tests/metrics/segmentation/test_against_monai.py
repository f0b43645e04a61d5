"""Both conventions against MONAI, on random shapes with anisotropic spacing."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voxgraft.metrics.segmentation import score_masks
from voxgraft.metrics.segmentation.elements import CORNERS, area_table

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from monai.metrics import (
        compute_average_surface_distance,
        compute_dice,
        compute_hausdorff_distance,
        compute_surface_dice,
    )
    from monai.metrics.utils import get_code_to_measure_table


@pytest.fixture(autouse=True)
def _quiet_monai():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def as_batch(mask):
    return torch.from_numpy(mask)[None, None]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 0.7, 0.9), (1.3, 0.7, 2.1)])
def test_every_surface_area(spacing):
    table, kernel = get_code_to_measure_table(spacing)
    bits = [int(kernel[(0, 0, *corner)]) for corner in CORNERS]
    theirs = [
        float(table[sum(bit for at, bit in enumerate(bits) if code >> at & 1)])
        for code in range(256)
    ]
    np.testing.assert_allclose(area_table(spacing), theirs, rtol=1e-6, atol=1e-7)


def test_scores_equal_monai(pairs_of_masks):
    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(pairs_of_masks(), st.sampled_from([0.0, 0.63, 1.37, 3.1]))
    def holds(pair, tolerance):
        one, two, spacing = pair
        ours = score_masks(one, two, spacing, tolerance_mm=tolerance, convention="voxel")
        by_area = score_masks(one, two, spacing, tolerance_mm=tolerance)
        a, b = as_batch(one), as_batch(two)
        options = {"include_background": True, "spacing": spacing}
        theirs = {
            "dice": compute_dice(a, b),
            "surface_dice": compute_surface_dice(a, b, [tolerance], **options),
            "hausdorff95_mm": compute_hausdorff_distance(a, b, percentile=95, **options),
            "hausdorff_mm": compute_hausdorff_distance(a, b, **options),
            "assd_mm": compute_average_surface_distance(a, b, symmetric=True, **options),
        }
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(float(value), rel=1e-5, abs=1e-5), name
        area = compute_surface_dice(a, b, [tolerance], use_subvoxels=True, **options)
        assert by_area["surface_dice"] == pytest.approx(float(area), rel=1e-5, abs=1e-5)
        assert by_area["dice"] == ours["dice"]

    holds()
