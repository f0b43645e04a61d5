"""The rules for pancreatic tumors, on a pancreas and tumors of counted voxels."""

import numpy as np
import pytest

from voxgraft.errors import MetricError
from voxgraft.metrics.segmentation import (
    PHASE_TUMORS,
    PancreasRules,
    PancreasScan,
    clean_masks,
    clean_pancreas,
    judge_cleaned,
    judge_scan,
    score_patients,
)

CLASSES = {"pancreas": 1, "pdac": 3, "cyst": 4, "pnet": 5}


def scan(*boxes):
    labels = np.zeros((20, 20, 40), np.uint8)
    labels[5:15, 5:15, 0:10] = 1
    for value, *sides in boxes:
        labels[tuple(slice(*side) for side in sides)] = value
    return labels


BESIDE = ((5, 10), (5, 10))


def test_small_far_and_second_parts_are_removed():
    labels = scan(
        (1, (0, 3), (0, 3), (30, 33)),  # a second pancreas
        (3, (5, 10), (5, 8), (10, 12)),  # 30 voxels, beside
        (4, (5, 10), (12, 15), (10, 12)),  # 30 voxels, beside: too small for a cyst
        (5, (5, 10), (5, 12), (20, 21)),  # 35 voxels, far
        (3, *BESIDE, (36, 40)),  # large, but beside the second pancreas at most
        (7, (16, 18), (16, 18), (16, 18)),  # of no class
    )
    cleaned = clean_pancreas(labels, CLASSES)
    assert dict(zip(*np.unique(cleaned, return_counts=True), strict=True)).keys() == {0, 1, 3}
    assert (cleaned == 1).sum() == 1000
    assert (cleaned == 3).sum() == 30
    assert (labels == 5).any()  # the input stays


@pytest.mark.parametrize(("tumor", "fewest"), [("pdac", 30), ("cyst", 40), ("pnet", 35)])
def test_the_smallest_sizes(tumor, fewest):
    for missing in (0, 1):
        labels = scan((CLASSES[tumor], (5, 10), (5, 5 + fewest // 5), (10, 11)))
        labels[5, 5, 10] *= 1 - missing
        assert (clean_pancreas(labels, CLASSES) == CLASSES[tumor]).any() == (not missing)


def test_touching_is_by_one_voxel_corners_too():
    for gap, touches in ((10, True), (11, False)):
        labels = scan((3, (15, 19), (15, 19), (gap, gap + 4)))
        assert (clean_pancreas(labels, CLASSES) == 3).any() == touches
        wider = PancreasRules(widened_voxels=2)
        assert (clean_pancreas(labels, CLASSES, wider) == 3).any()
    assert not clean_pancreas(np.zeros((3, 3, 3), np.int64), CLASSES).any()


def test_a_scan_is_scored_by_its_cleaned_map():
    labels = scan((3, *BESIDE, (10, 13)), (3, *BESIDE, (30, 33)))
    reference = scan((5, *BESIDE, (10, 13)))
    probabilities = {name: np.full(labels.shape, 0.1, np.float32) for name in CLASSES}
    probabilities["pdac"][7, 7, 11] = 0.9
    probabilities["pdac"][7, 7, 31] = 1.0  # in the part that falls
    given = (labels, reference, probabilities, CLASSES)
    venous = judge_scan(*given, patient_id="p", judged=PHASE_TUMORS["venous"])
    assert (venous.tumor, venous.called, venous.score) == (False, True, pytest.approx(0.9))
    probabilities["pnet"][6, 6, 6] = 0.4  # in the pancreas, no tumor drawn
    arterial = judge_scan(*given, patient_id="p", judged=PHASE_TUMORS["arterial"])
    assert (arterial.tumor, arterial.called, arterial.score) == (True, False, pytest.approx(0.4))
    probabilities["cyst"][6, 6, 6] = 0.5
    both = judge_scan(
        scan(), reference, probabilities, CLASSES, patient_id="p", judged=("pdac", "cyst")
    )
    assert both.score == pytest.approx((0.1 + 0.5) / 2)


def test_patients_are_positive_by_any_phase():
    scans = [
        PancreasScan("a", False, False, 0.2),
        PancreasScan("a", True, True, 0.8),
        PancreasScan("b", True, False, 0.3),
        PancreasScan("c", False, True, 0.5),
        PancreasScan("d", False, False, 0.1),
        PancreasScan("d", False, False, 0.2),
    ]
    scored = score_patients(scans)
    assert scored["sensitivity"].value == 0.5
    assert scored["specificity"].value == 0.5
    assert scored["auroc"].value == 0.75
    healthy = score_patients(scans[3:])
    assert healthy["sensitivity"].reason == "no patient has a tumor"
    assert np.isnan(healthy["auroc"].value)
    assert score_patients(scans[:2])["specificity"].reason == "every patient has a tumor"


def test_what_is_refused():
    labels = scan()
    with pytest.raises(MetricError, match="'pnet' has no index"):
        clean_pancreas(labels, {"pancreas": 1, "pdac": 3, "cyst": 4})
    with pytest.raises(MetricError, match="float64"):
        clean_pancreas(labels.astype(float), CLASSES)
    too_high = {"pdac": np.full(labels.shape, 2.0)}
    with pytest.raises(MetricError, match="2 faults"):
        judge_scan(labels, labels, too_high, CLASSES, patient_id="p", judged=PHASE_TUMORS["venous"])


def test_masks_that_overlap_are_cleaned_as_they_are():
    labels = scan((3, *BESIDE, (10, 13)), (5, (5, 10), (5, 12), (20, 21)))
    masks = {name: labels == value for name, value in CLASSES.items()}
    masks["pancreas"] |= masks["pdac"]  # the organ goes on through its tumor
    cleaned = clean_masks(masks)
    assert np.array_equal(cleaned["pancreas"], masks["pancreas"])
    assert np.array_equal(cleaned["pdac"], masks["pdac"])
    assert not cleaned["pnet"].any()
    judged = {"tumor": True, "patient_id": "p", "judged": ("pdac", "pnet")}
    found = judge_cleaned(cleaned, None, **judged, voxel_ml=0.5)
    assert (found.called, found.score) == (True, pytest.approx(75 * 0.5))
    nothing = dict.fromkeys(CLASSES, np.zeros((3, 3, 3), bool))
    assert judge_cleaned(clean_masks(nothing), None, **judged).score == 0
    with pytest.raises(MetricError, match="no mask of 'cyst', 'pnet'"):
        clean_masks({"pancreas": labels == 1, "pdac": labels == 3})
