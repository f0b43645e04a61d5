"""Losses of segmentations: equal to MONAI's where all is known, silent where nothing is."""

import warnings

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss, FocalLoss
from monai.losses.hausdorff_loss import LogHausdorffDTLoss
from monai.networks.utils import one_hot
from torch.nn import BCEWithLogitsLoss

from voxgraft.datasets.target import Target
from voxgraft.tasks.segmentation import build_segmentation_task
from voxgraft.tasks.segmentation.levels import coarser_labels

LOSSES = ("dice_ce", "dice_focal", "dice_ce_hausdorff")
FORMS = pytest.mark.parametrize("overlapping", [False, True])
KINDS = pytest.mark.parametrize("loss", LOSSES)
SIZE = (6, 7, 8)


def task(classes=3, loss="dice_ce", overlapping=False, deep=False):
    names = tuple("abcdefghij"[:classes])
    target = Target(kind="segmentation", columns=("masks",), classes=names)
    return build_segmentation_task(
        target, loss=loss, overlapping=overlapping, deep_supervision=deep
    )


def draw(shape, *, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def draw_labels(batch=2, layers=1, classes=3, *, lowest=0, seed=1):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, layers, *SIZE)
    labels = torch.randint(lowest, classes + 1, shape, generator=generator)
    return labels.to(torch.int16)


def value_and_gradient(function, logits):
    logits = logits.clone().requires_grad_()
    value = function(logits)
    value.backward()
    return value.detach(), logits.grad


def monai(loss, overlapping, masks, classes=3):
    """MONAI's losses of one-hot masks, background first unless structures overlap."""
    form = {"sigmoid": True} if overlapping else {"softmax": True}
    shared = {"include_background": overlapping, **form}
    if loss == "dice_focal":
        dice = DiceLoss(**shared, smooth_nr=1e-5, smooth_dr=1e-5)
        focal = FocalLoss(use_softmax=not overlapping, gamma=2.0)
        # MONAI's mean is over channels too, where the softmax form has one term a voxel.
        terms = 1 if overlapping else classes + 1
        return lambda logits: dice(logits, masks) + terms * focal(logits, masks)
    both = DiceCELoss(**shared, smooth_nr=1e-5, smooth_dr=1e-5)
    if overlapping:  # there MONAI's second term would be a softmax still
        dice, entropy = DiceLoss(**shared, smooth_nr=1e-5, smooth_dr=1e-5), BCEWithLogitsLoss()
        both = lambda logits, masks: dice(logits, masks) + entropy(logits, masks)  # noqa: E731
    if loss == "dice_ce":
        return lambda logits: both(logits, masks)
    far = LogHausdorffDTLoss(**shared, reduction="none")
    return lambda logits: both(logits, masks) + far(logits, masks).mean()


@FORMS
@KINDS
def test_with_everything_known_the_losses_are_monais(loss, overlapping):
    labels = draw_labels()
    masks = one_hot(labels, 4)[:, 1 if overlapping else 0 :].float()
    logits = 2 * draw((2, 3 + (not overlapping), *SIZE))
    known = torch.ones(2, 3)
    own = value_and_gradient(lambda x: task(3, loss, overlapping).loss(x, labels, known), logits)
    other = value_and_gradient(monai(loss, overlapping, masks), logits)
    torch.testing.assert_close(own[0], other[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(own[1], other[1], atol=1e-5, rtol=1e-5)


def test_structures_of_several_layers_overlap():
    labels = draw_labels(layers=2)
    masks = torch.stack([(labels == k).any(dim=1) for k in (1, 2, 3)], dim=1).float()
    logits = draw((2, 3, *SIZE))
    found = task(overlapping=True).loss(logits, labels, torch.ones(2, 3))
    torch.testing.assert_close(found, monai("dice_ce", True, masks)(logits))


def test_layers_that_overlap_without_a_sigmoid_each_give_the_first_structure():
    labels = draw_labels(layers=2)
    first = torch.where(labels[:, :1] == 0, labels[:, 1:], labels[:, :1])
    logits, known = draw((2, 4, *SIZE)), torch.ones(2, 3)
    torch.testing.assert_close(
        task().loss(logits, labels, known), task().loss(logits, first, known)
    )


def test_dice_of_an_absent_class_is_monais_smoothed_by_the_crops_voxels():
    logits, masks = draw((2, 3, *SIZE)), torch.zeros(2, 3, *SIZE)
    voxels = float(masks[0, 0].numel())
    other = DiceLoss(smooth_nr=voxels, smooth_dr=voxels, sigmoid=True)
    expected = other(logits, masks) + BCEWithLogitsLoss()(logits, masks)
    labels = torch.zeros(2, 1, *SIZE, dtype=torch.int16)
    found = task(overlapping=True).loss(logits, labels, torch.ones(2, 3))
    torch.testing.assert_close(found, expected)


@FORMS
@KINDS
def test_a_crop_that_is_rightly_empty_has_no_loss(loss, overlapping):
    logits = torch.full((1, 3 + (not overlapping), *SIZE), -20.0)
    if not overlapping:
        logits[:, 0] = 20.0
    labels = torch.zeros(1, 1, *SIZE, dtype=torch.int16)
    here = task(loss=loss, overlapping=overlapping)
    assert here.loss(logits, labels, torch.ones(1, 3)).item() < 1e-6
    found, gradient = value_and_gradient(
        lambda x: here.loss(x, labels, torch.ones(1, 3)), torch.zeros_like(logits)
    )
    classes = gradient if overlapping else gradient[:, 1:]
    assert found > 0.3
    assert (classes > 0).all()


@FORMS
@KINDS
@pytest.mark.parametrize("deep", [False, True])
def test_unknown_classes_and_unknown_voxels_get_no_gradient(loss, overlapping, deep):
    labels = draw_labels(layers=2 if overlapping else 1, lowest=0)
    known = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    labels[0][labels[0] == 2] = 0
    labels[:, 0, :, :2] = -1
    labels[:, 1:, :, :2] = 0
    first = 0 if overlapping else 1
    levels = [draw((2, 3 + first, *SIZE)), draw((2, 3 + first, 3, 4, 4))]
    levels = [level.requires_grad_() for level in levels[: 1 + deep]]
    task(3, loss, overlapping, deep).loss(levels, labels, known).backward()
    for place, level in enumerate(levels):
        gradient = level.grad
        assert (gradient[0, first + 1] == 0).all()
        assert (gradient[0, [first, first + 2]] != 0).any()
        assert (gradient[1] != 0).any(dim=(1, 2, 3)).all()
        assert (gradient[..., : 1 if place else 2, :] == 0).all()
        if not overlapping:
            own = labels if place == 0 else coarser_labels(labels, level.shape[2:])
            assert (gradient[0, 0] == 0).all()
            assert (gradient[0, 1][own[0, 0] == 0] > 0).all()  # not a, whatever it is


@FORMS
@KINDS
def test_two_partly_annotated_sets_train_one_readout(loss, overlapping):
    """Each set draws one of two structures; the readout finds both, and its background rests."""
    draw = torch.Generator().manual_seed(3)
    truth = torch.randint(3, (2, 1, 6, 6, 6), generator=draw)  # 0 none, 1 and 2 the structures
    seen = torch.nn.functional.one_hot(truth[:, 0], 3).movedim(-1, 1).float()
    seen = seen + 0.2 * torch.randn(seen.shape, generator=draw)
    labels = torch.stack([truth[0] * (truth[0] == 1), truth[1] * (truth[1] == 2)])
    known = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    readout = torch.nn.Conv3d(3, 2 if overlapping else 3, 1)
    torch.nn.init.zeros_(readout.weight)
    torch.nn.init.zeros_(readout.bias)
    optimizer = torch.optim.Adam(readout.parameters(), lr=0.1)
    here = task(2, loss, overlapping)
    for _ in range(60):
        optimizer.zero_grad()
        here.loss(readout(seen), labels, known).backward()
        optimizer.step()
    with torch.no_grad():
        out = readout(seen)
    if not overlapping:
        assert (readout.weight[0] == 0).all()
        assert readout.bias[0] == 0
        out = out[:, 1:] - out[:, :1]
    found = torch.where(out.amax(1) > 0, 1 + out.argmax(1), 0)
    assert (found == truth[:, 0]).float().mean() > 0.97


@FORMS
@KINDS
def test_what_is_unknown_changes_nothing(loss, overlapping):
    """A case that knows nothing beside one that knows all: as if it were not there."""
    labels, logits = draw_labels(), draw((2, 3 + (not overlapping), *SIZE))
    here = task(3, loss, overlapping)
    known = torch.tensor([[1.0] * 3, [0.0] * 3])
    both, gradient = value_and_gradient(lambda x: here.loss(x, labels, known), logits)
    alone, expected = value_and_gradient(lambda x: here.loss(x, labels[:1], known[:1]), logits[:1])
    torch.testing.assert_close(both, alone)
    torch.testing.assert_close(gradient[:1], expected)
    assert (gradient[1] == 0).all()


@FORMS
@KINDS
@pytest.mark.parametrize("why", ["classes", "voxels"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_known_is_a_loss_of_zero(loss, overlapping, why, dtype):
    labels = draw_labels(batch=1)
    known = torch.ones(1, 3)
    if why == "classes":
        known = torch.zeros(1, 3)
    else:
        labels[:] = -1
    logits = 50 * draw((1, 3 + (not overlapping), *SIZE)).to(dtype)
    found, gradient = value_and_gradient(
        lambda x: task(3, loss, overlapping).loss(x, labels, known), logits
    )
    assert found == 0
    assert (gradient == 0).all()


@FORMS
@KINDS
def test_half_precision_is_reckoned_in_full(loss, overlapping):
    labels, known = draw_labels(), torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    labels[0][labels[0] == 2] = 0
    logits = (300 * draw((2, 3 + (not overlapping), *SIZE))).bfloat16()
    here = task(3, loss, overlapping)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, gradient = value_and_gradient(lambda x: here.loss(x, labels, known), logits)
    assert found.dtype == torch.float32
    assert gradient.isfinite().all()
    torch.testing.assert_close(found, here.loss(logits.float(), labels, known))


def test_coarser_levels_by_hand():
    """The voxel before the middle of each block, and half of the weight."""
    labels = draw_labels()
    logits = [draw((2, 4, *SIZE)), draw((2, 4, 3, 4, 4)), draw((2, 4, 2, 2, 2))]
    known = torch.ones(2, 3)
    own = [
        labels,
        labels[:, :, ::2, ::2, ::2],
        labels[:, :, [1, 5]][..., [1, 5], :][..., [1, 5]],
    ]
    parts = [task().loss(x, y, known) for x, y in zip(logits, own, strict=True)]
    expected = (4 * parts[0] + 2 * parts[1] + parts[2]) / 7
    deep = task(deep=True)
    strides = ((1, 1, 1), (2, 2, 2), (4, 4, 4))
    torch.testing.assert_close(deep.loss(logits, labels, known, strides=strides), expected)
    torch.testing.assert_close(deep.loss(logits[:1], labels, known), parts[0])


@pytest.mark.parametrize(("edge", "stride"), [(1, 2), (5, 4), (7, 2), (9, 8), (33, 16)])
def test_coarser_labels_stand_in_their_block(edge, stride):
    places = torch.arange(edge).view(1, 1, edge, 1, 1).to(torch.int16)
    count = -(-edge // stride)
    found = coarser_labels(places, (count, 1, 1), (stride, 1, 1)).flatten()
    assert (found // stride == torch.arange(count)).all()


# Two sets of cases on six voxels: 0 and 1 are A, 2 and 3 are B, 4 and 5 neither.
_TRUTH = torch.tensor([1, 1, 2, 2, 0, 0])


def train(here, first, *, naive):
    """Learn free logits of each voxel from one case that annotates A and one that has B."""
    labels = torch.stack([_TRUTH * (_TRUTH == 1), _TRUTH * (_TRUTH == 2)])
    labels = labels.view(2, 1, 1, 1, 6).to(torch.int16)
    known = torch.ones(2, 2) if naive else torch.eye(2)
    logits = torch.zeros(1, 2 + first, 1, 1, 6, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=1.0)
    for _ in range(300):
        optimizer.zero_grad()
        here.loss(logits.expand(2, -1, -1, -1, -1), labels, known).backward()
        optimizer.step()
    return logits.detach()[0, :, 0, 0]


@FORMS
@pytest.mark.parametrize("loss", ["dice_ce", "dice_focal"])
def test_cases_that_annotate_one_class_each_teach_both(loss, overlapping):
    here, first = task(2, loss, overlapping), 0 if overlapping else 1
    learnt, naive = (train(here, first, naive=naive) for naive in (False, True))
    if overlapping:
        # Each class is found where it is; called absent by the other set, it is not.
        expected = torch.stack([_TRUTH == 1, _TRUTH == 2])
        assert ((learnt > 2) == expected).all()
        assert ((learnt < -2) == ~expected).all()
        assert (naive[expected].abs() < 2).all()
    else:
        assert torch.equal(learnt.argmax(dim=0), _TRUTH)
        sure, torn = (x.softmax(dim=0)[_TRUTH, torch.arange(6)] for x in (learnt, naive))
        assert (sure > 0.9).all()
        assert (torn[:4] < 0.8).all()


def test_losses_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for loss in LOSSES:
            task(1, loss).loss(draw((1, 2, *SIZE)), draw_labels(1, 1, 1), torch.ones(1, 1))
