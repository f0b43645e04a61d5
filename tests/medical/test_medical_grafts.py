"""Medical convolutional networks grafted from files of the published layout, to the last tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from voxgraft.errors import GraftError
from voxgraft.grafting import graft, save_graft
from voxgraft.models.volumetric.medical_resnet import build_merlin
from voxgraft.weights import SOURCES, Source, naming_rules, read_state_dict, resolve_source
from voxgraft.weights.convert import convert
from voxgraft.weights.layouts import key_layout
from voxgraft.weights.source import LocalFile


def given(name: str, path: Path) -> Source:
    return replace(SOURCES.get(name), file=LocalFile(path=str(path)))


@pytest.mark.parametrize(("prefix", "channels"), [("", 1), ("module.", 3)])
def test_medicalnet_with_and_without_its_prefix(
    tmp_path: Path, prefix: str, channels: int, files: ModuleType
) -> None:
    plain = {
        n.removeprefix("module."): t for n, t in files.randomized(files.medicalnet(10)).items()
    }
    path = tmp_path / "resnet_10_23dataset.pth"
    torch.save({"state_dict": {f"{prefix}{n}": t for n, t in plain.items()}}, path)
    source = resolve_source(f"medicalnet_resnet10.23datasets@{path}")
    result = graft(source, "medicalnet_resnet10_3d", in_channels=channels)
    assert result.report.coverage == 1.0
    assert not result.report.dropped
    assert result.report.parity.relative_error is not None
    assert result.report.parity.relative_error <= (0.0 if channels == 1 else 1e-4)
    own = result.encoder.state_dict()
    stem = plain.pop("conv1.weight")
    assert all(torch.equal(own[name], tensor) for name, tensor in plain.items())
    torch.testing.assert_close(own["conv1.weight"].sum(1, keepdim=True), stem)
    assert result.input_sd == (1.0,) * channels


def test_medicalnet_of_the_other_shortcut_is_refused_and_a_segmentation_dropped(
    tmp_path: Path, files: ModuleType
) -> None:
    state = files.randomized(files.medicalnet(10))
    state["module.conv_seg.0.weight"] = torch.ones(512, 32, 2, 2, 2)
    path = tmp_path / "fine_tuned.pth"
    torch.save({"state_dict": state}, path)
    source = given("medicalnet_resnet10.3dseg8", path)
    report = graft(source, "medicalnet_resnet10_3d").report
    assert [verdict["name"] for verdict in report.dropped] == ["conv_seg.0.weight"]
    with pytest.raises(GraftError, match=r"downsample\.0\.weight .* has no place in the model"):
        graft(source, "medicalnet_resnet10_3d", model_options={"shortcut": "A"})


def test_penet_from_its_own_file(tmp_path: Path, files: ModuleType) -> None:
    state = files.randomized(files.penet(600, old_names=True))
    path = tmp_path / "xnet_kin_90.pth.tar"
    torch.save(
        {
            "ckpt_info": {"epoch": 90, "val_loss": np.float64(1.5)},
            "model_name": "XNetClassifier",
            "model_args": {"model_depth": 50, "num_classes": 600},
            "model_state": state,
            "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": []},
            "lr_scheduler": {"last_epoch": 1},
        },
        path,
    )
    result = graft(given("penet.kinetics600", path), "penet_3d")
    assert result.report.coverage == 1.0
    dropped = {verdict["name"] for verdict in result.report.dropped}
    assert dropped == {"classifier.fc.weight", "classifier.fc.bias"}
    assert result.report.parity.relative_error is not None
    key = "encoders.3.{}_blocks.2.se_block.excite.2.weight"
    loaded = result.encoder.state_dict()[key.format("penet")]
    assert torch.equal(loaded, state[f"module.{key.format('xnet')}"])


@pytest.mark.parametrize(("kind", "channels"), [("plain", 1), ("residual", 3)])
def test_nnunet_from_a_training_checkpoint(
    tmp_path: Path, kind: str, channels: int, files: ModuleType
) -> None:
    features, blocks = (8, 12, 16, 16), (1, 2, 2, 1)
    network = files.nnunet(kind, 3, features, blocks)
    state = files.randomized(network.state_dict(keep_vars=True))
    network.load_state_dict(state)
    path = tmp_path / "checkpoint_final.pth"
    torch.save(
        {
            "network_weights": state,
            "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(2)}}},
            "grad_scaler_state": None,
            "logging": {"mean_fg_dice": [np.float64(0.5)], "dice_per_class": [[np.float32(0.5)]]},
            "_best_ema": np.float64(0.9),
            "current_epoch": 1000,
            "init_args": {"configuration": "3d_fullres", "device": torch.device("cpu")},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2),
        },
        path,
    )
    name = "nnunet.totalsegmentator_291" if kind == "plain" else "nnunet_resenc.openmind_mae"
    source = given(name, path)
    lists = {
        "features": list(features),
        "blocks": list(blocks),
        "kernels": [[3, 3, 3]] * 4,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * 3],
    }
    result = graft(source, source.architecture, in_channels=channels, model_options=lists)
    assert result.report.coverage == 1.0
    reasons = {verdict["because"] for verdict in result.report.dropped}
    assert {reason.split(" (")[0] for reason in reasons} == {
        "the encoder again, which the decoder refers to",
        "a tensor again that is also named conv or norm",
        "the source's own head",
        "part of the source's decoder",
    }
    x = torch.randn(1, 1, 16, 24, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = network.encoder(x)[-1]
        found = result.encoder.eval().forward_features(x.expand(-1, channels, -1, -1, -1))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    followed = graft(source, source.architecture, in_channels=channels)
    assert "built as the checkpoint shows it, with features [8, 12, 16, 16]" in str(
        followed.report.notes
    )
    assert followed.model_options == result.model_options
    save_graft(followed, tmp_path / "saved")
    again = graft(tmp_path / "saved", source.architecture, in_channels=channels).encoder
    assert again.declaration == followed.encoder.declaration
    for strides in ([[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]], [[1, 1, 1]] * 4):
        with pytest.raises(GraftError, match=r"strides .* the two compute different things"):
            graft(source, source.architecture, model_options={**lists, "strides": strides})


@pytest.mark.parametrize("channels", [1, 3])
def test_stunet_from_an_old_nnunet_checkpoint(
    tmp_path: Path, channels: int, files: ModuleType
) -> None:
    path = tmp_path / "small_ep4k.model"
    contents = {
        "epoch": 4000,
        "state_dict": files.randomized(files.stunet("s")),
        "optimizer_state_dict": {},
    }
    torch.save({**contents, "plot_stuff": ([np.float64(1.0)],), "best_stuff": (None,)}, path)
    result = graft(given("stunet_s.totalsegmentator", path), "stunet_s_3d", in_channels=channels)
    assert result.report.coverage == 1.0
    assert len(result.report.adapted) == (0 if channels == 1 else 2)
    assert result.report.parity.relative_error is not None


@pytest.mark.parametrize("prefix", ["", "trunk.", "model.trunk."])
def test_fmcibs_trunk_is_found(tmp_path: Path, prefix: str) -> None:
    trunk = {f"{prefix}layer4.0.conv3.weight": torch.ones(2, 2, 1, 1, 1)}
    head = {f"{prefix.replace('trunk.', 'heads.')}0.weight": torch.ones(2)}
    path = tmp_path / "model_weights.torch"
    if prefix:
        torch.save({"state_dict": {**trunk, **head}}, path)
    else:
        torch.save({"trunk_state_dict": trunk, "head_state_dict": head}, path)
    state = read_state_dict(path)
    assert key_layout(state) == ("fmcib" if prefix else "timm")
    targets = {"layer4.0.conv3.weight": (2, 2, 1, 1, 1)}
    report = convert(state, targets, naming_rules(SOURCES.get("fmcib_resnet50.deeplesion"))).report
    assert (report.coverage, len(report.dropped)) == (1.0, bool(prefix))


def test_merlin_without_its_text(tmp_path: Path, files: ModuleType) -> None:
    state = files.randomized(files.merlin([1, 1, 1, 1], 5, with_text=True))
    path = tmp_path / "merlin.pt"
    torch.save(state, path)
    source = given("merlin_resnet152.abdominal_ct", path)
    encoder = build_merlin((1, 1, 1, 1), in_channels=3)
    report = graft(source, encoder).report
    assert report.coverage == 1.0
    assert {verdict["because"].split(" (")[0] for verdict in report.dropped} == {
        "the text encoder",
        "the temperature of the contrast with the reports",
        "the source's own head",
    }
    x = torch.randn(1, 1, 8, 40, 40, generator=torch.Generator().manual_seed(2))
    grey = graft(source, build_merlin((1, 1, 1, 1)), check_parity=False).encoder.eval()
    with torch.no_grad():
        expected = encoder.eval()(x.expand(-1, 3, -1, -1, -1))
        torch.testing.assert_close(grey(x), expected, rtol=1e-4, atol=1e-4)


def old_names(state: Mapping[str, Tensor], stages: int) -> dict[str, Tensor]:
    """Name an nnU-Net's tensors as its first version did (Generic_UNet).

    The deepest stage is two stacks there, of one block each; so are the levels of the decoder,
    whose other layers have no biases.
    """
    named: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if ".all_modules." in name or name.startswith("decoder.encoder."):
            continue
        place, _, part = name.replace(".norm.", ".instnorm.").partition(".convs.")
        if name.startswith("encoder."):
            stage, (block, _, rest) = place.split(".")[2], part.partition(".")
            deepest = f"{stage}.{block}.blocks.0" if int(stage) == stages - 1 else ""
            new = f"conv_blocks_context.{deepest or f'{stage}.blocks.{block}'}.{rest}"
        else:
            if not part and name.endswith("bias"):
                continue
            level, (block, _, rest) = place.split(".")[2], part.partition(".")
            kind = "tu" if "transpconvs" in name else "seg_outputs"
            local = f"conv_blocks_localization.{level}.{block}.blocks.0.{rest}"
            new = local if part else f"{kind}.{level}.weight"
        named[new] = tensor
    return named


def test_an_old_nnunet_is_recognised_and_followed(tmp_path: Path, files: ModuleType) -> None:
    network = files.nnunet("plain", 3, (8, 12, 16, 16), (2, 2, 2, 2))
    state = files.randomized(network.state_dict(keep_vars=True))
    network.load_state_dict(state)
    old = old_names(state, 4)
    assert key_layout(old) == "nnunet"
    assert {"conv_blocks_context.3.1.blocks.0.instnorm.weight", "tu.2.weight"} <= set(old)
    path = tmp_path / "model_final_checkpoint.model"
    torch.save({"epoch": 1000, "state_dict": old, "best_stuff": (np.float64(1.0),)}, path)
    result = graft(f"nnunet_3d@{path}", "nnunet_3d")
    assert result.report.coverage == 1.0
    assert result.model_options["strides"] == [[1, 1, 1], *[[2, 2, 2]] * 3]
    x = torch.randn(1, 1, 16, 24, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = network.encoder(x)[-1]
        found = result.encoder.eval().forward_features(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
