"""Checkpoints as nnU-Net 2 writes them: any plan, its contract, its labels, its reading order."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from voxgraft.grafting import find_source, graft, graft_segmentation

FEATURES, BLOCKS = [4, 6, 8], [2, 1, 2]
KERNELS = [[1, 3, 3], [3, 3, 3], [3, 3, 3]]
STRIDES = [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
LABELS = {"background": 0, "liver": 2, "spleen": 1, "kidney_left": 3, "ignore": 4}
CT = {"mean": 80.0, "std": 120.0, "percentile_00_5": -900.0, "percentile_99_5": 1100.0}


def _plans(**changes: Any) -> dict[str, Any]:
    base = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "batch_size": 2,
        "patch_size": [20, 40, 24],
        "spacing": [3.0, 0.75, 1.5],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "architecture": {"arch_kwargs": {"strides": STRIDES, "kernel_sizes": KERNELS}},
    }
    own = {"inherits_from": "3d_fullres", "batch_size": 4}
    plans = {
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "image_reader_writer": "SimpleITKIO",
        "configurations": {
            "3d_fullres": base,
            "3d_cascade": own,
            "loop": {"inherits_from": "loop"},
        },
        "foreground_intensity_properties_per_channel": {"0": CT},
    }
    base |= {key: changes.pop(key) for key in list(changes) if key in base}
    return {**plans, **changes}


def _reference(kind: str = "plain", outputs: int = 4, channels: int = 1) -> nn.Module:
    made, blocks = (
        (PlainConvUNet, {"n_conv_per_stage": BLOCKS})
        if kind == "plain"
        else (ResidualEncoderUNet, {"n_blocks_per_stage": BLOCKS})
    )
    torch.manual_seed(5)
    network = made(
        channels, 3, FEATURES, kernel_sizes=KERNELS, strides=STRIDES, num_classes=outputs,
        n_conv_per_stage_decoder=2 if kind == "plain" else 1, conv_op=nn.Conv3d, conv_bias=True,
        norm_op=nn.InstanceNorm3d, norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True}, deep_supervision=False, **blocks,
    )  # fmt: skip
    return network.eval()


def _saved(path: Path, network: nn.Module, plans: object, **settings: Any) -> Path:
    content = {
        "network_weights": network.state_dict(),
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5)], "ema_fg_dice": []},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1000,
        "init_args": {
            "plans": plans, "configuration": "3d_fullres", "fold": 0,
            "dataset_json": {"labels": LABELS, "channel_names": {"0": "CT"}}, **settings,
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }  # fmt: skip
    torch.save(content, path)
    return path


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_a_whole_network_of_any_plan(tmp_path: Path, kind: str, named: bool) -> None:
    network = _reference(kind)
    path = _saved(tmp_path / "checkpoint_final.pth", network, _plans())
    model = "nnunet_3d" if kind == "plain" else "nnunet_resenc_3d"
    source = find_source(f"{model}@{path}" if named else path)
    assert source.architecture == model
    assert source.classes == ("background", "spleen", "liver", "kidney_left")
    classes = ("background", "liver", "spleen")
    result = graft_segmentation(source, model, parts="all", classes=classes)
    assert result.report.coverage == 1.0
    assert not result.report.fresh
    every = {v["from"] for v in (*result.report.loaded, *result.report.adapted)}
    every |= {v["name"] for v in result.report.dropped}
    assert every == network.state_dict().keys()
    volume = torch.randn(1, 1, 6, 12, 20)
    result.network.input_mean.zero_()
    result.network.input_sd.fill_(1.0)
    with torch.no_grad():
        expected = network(volume)[:, [0, 2, 1]]
        torch.testing.assert_close(result.network.eval()(volume), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefix", ["net.", "model.", "network.module.", "_orig_mod."])
def test_a_plan_under_a_prefix(tmp_path: Path, prefix: str) -> None:
    state = {prefix + name: tensor for name, tensor in _reference().state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    for source in (f"nnunet_3d@{tmp_path / 'a.ckpt'}", tmp_path / "a.ckpt"):
        result = graft(source, "nnunet_3d")
        assert result.report.coverage == 1.0
        assert result.model_options["features"] == FEATURES


def test_the_contract_is_that_of_its_plans(tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.pth", _reference(), _plans(), configuration="3d_cascade")
    source = find_source(path)
    contract = source.input
    assert contract.spacing_mm == (3.0, 0.75, 1.5)
    assert contract.size == (20, 40, 24)
    assert contract.window_hu == contract.value_range == (-900.0, 1100.0)
    assert (contract.mean, contract.sd) == ((80.0,), (120.0,))
    assert contract.axes is None
    assert "own order" in contract.axes_evidence
    assert "the checkpoint's own plans (3d_cascade)" in source.note
    # An entry of the catalogue gives way to what its file says.
    entry = graft(f"nnunet.totalsegmentator_291@{path}", "nnunet_3d", check_parity=False)
    assert entry.source.input == contract
    assert (entry.input_mean, entry.input_sd) == ((80.0,), (120.0,))


@pytest.mark.parametrize("forward", [[1, 0, 2], [2, 0, 1], [1, 2, 0]])
def test_transposed_plans_are_told_along_the_scan(tmp_path: Path, forward: list[int]) -> None:
    network = _reference()
    plans = _plans(transpose_forward=forward, image_reader_writer="NibabelIOWithReorient")
    result = graft_segmentation(
        find_source(_saved(tmp_path / "a.pth", network, plans)), "nnunet_3d", parts="all",
        classes=("background", "spleen", "liver", "kidney_left"),
    )  # fmt: skip
    contract = result.source.input
    assert contract.spacing_mm is not None
    assert contract.size is not None
    # nnU-Net: data.transpose(forward); then its spacing and patch are those of the plans.
    assert [contract.spacing_mm[axis] for axis in forward] == [3.0, 0.75, 1.5]
    assert [contract.size[axis] for axis in forward] == [20, 40, 24]
    assert contract.axes == "".join("SAR"[axis] for axis in forward)
    result.network.input_mean.zero_()
    result.network.input_sd.fill_(1.0)
    volume = torch.randn(1, 1, 8, 12, 16)
    order = [0, 1, *(axis + 2 for axis in forward)]
    with torch.no_grad():
        expected = network(volume.permute(order)).permute(*(order.index(k) for k in range(5)))
        torch.testing.assert_close(result.network.eval()(volume), expected, rtol=1e-4, atol=1e-5)


def test_other_normalizations_and_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    plans = _plans(normalization_schemes=["ZScoreNormalization"] * 2)
    regions = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    _saved(path, _reference(outputs=2, channels=2), plans, dataset_json={"labels": regions})
    source = find_source(path)
    assert source.input.z_score
    assert source.input.channels == 2
    assert source.classes == ("whole", "core")
    _saved(path, _reference(), _plans(normalization_schemes=["RescaleTo01Normalization"]))
    assert find_source(path).input.value_range == (0.0, 1.0)
    _saved(path, _reference(), _plans(normalization_schemes=["NoNormalization"]))
    assert "its normalization is NoNormalization" in find_source(path).note
    _saved(path, _reference(outputs=3), _plans())
    source = find_source(path)
    assert source.classes == ()
    assert "its labels do not name the 3 channels of the head" in source.note


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"spacing": [1.0, 1.0]}, "spacing is [1.0, 1.0], expected three numbers above 0"),
        ({"spacing": [1.0, "a", 1.0]}, "'a' is no number"),
        ({"patch_size": [10**400, 1, 1]}, "is no number, or beyond 1e+09"),
        ({"patch_size": [8, 8.5, 8]}, "expected whole numbers"),
        ({"patch_size": None}, "patch_size is None"),
        ({"transpose_forward": [0, 0, 1]}, "transpose_forward is [0, 0, 1]"),
        ({"transpose_forward": "012"}, "transpose_forward is '012'"),
        ({"configurations": {}}, "there is no configuration '3d_fullres'"),
        ({"configurations": {"3d_fullres": {"inherits_from": "3d_fullres"}}}, "without end"),
        ({"normalization_schemes": []}, "normalization_schemes is []"),
        ({"foreground_intensity_properties_per_channel": {}}, "no intensity properties"),
        (
            {"foreground_intensity_properties_per_channel": {"0": {**CT, "std": 0}}},
            "the standard deviation 0",
        ),
    ],
)
def test_plans_that_cannot_be_followed_are_said(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    path = _saved(tmp_path / "a.pth", _reference(), _plans(**copy.deepcopy(changes)))
    result = graft(path, "nnunet_3d", check_parity=False)
    note = next(note for note in result.report.notes if "cannot be followed" in note)
    assert said in note


@pytest.mark.parametrize("labels", [None, {}, {"a": "b"}, {3: 1}, {"a": [None]}, {"a": 0, "b": 2}])
def test_labels_that_name_nothing_are_no_classes(tmp_path: Path, labels: object) -> None:
    path = _saved(tmp_path / "a.pth", _reference(), _plans(), dataset_json={"labels": labels})
    assert find_source(path).classes == ()
