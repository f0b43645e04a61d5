"""Grafts: every tensor accounted for, features equal to the 2D original's, faults by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from voxgraft.errors import FetchError, GraftError, ModelError, RegistryError, SourceError
from voxgraft.grafting import graft, save_graft
from voxgraft.models import build_encoder
from voxgraft.weights import (
    SOURCES,
    Drop,
    Fresh,
    GraftReport,
    LocalFile,
    ReconcileKernel,
    Rename,
    fetch_source,
    load_card,
    read_source,
    read_state_dict,
    resolve_source,
    tensor_digests,
)

LITE0 = "efficientnet_lite0.tf_in1k"
PACKAGED = [s.id for s in SOURCES if s.tensor_digests and s.layout == "image"]


def _network(architecture: str, **options: int) -> nn.Module:
    """Return a timm network whose statistics and scales are as uneven as trained ones."""
    torch.manual_seed(7)
    network: nn.Module = timm.create_model(architecture, **options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def small(folder: Path) -> Path:
    path = folder / "small.safetensors"
    save_file(_network("mobilenetv3_small_050").state_dict(), path)
    return path


SMALL_MODEL = "mobilenetv3_small_050_3d"


@cache
def _packaged(name: str) -> Path:
    try:
        return fetch_source(SOURCES.get(name))
    except FetchError as fault:
        pytest.skip(str(fault))


@pytest.mark.parametrize("name", PACKAGED)
@pytest.mark.parametrize("method", ["average", "center"])
def test_real_weights_graft_wholly_and_with_parity(name: str, method: str) -> None:
    _packaged(name)
    model = f"{SOURCES.get(name).architecture}_3d"
    report = graft(name, model, method=method).report
    assert report.coverage == 1.0
    assert report.unexplained == ()
    assert not report.fresh
    assert report.parity.relative_error is not None
    assert report.parity.relative_error < 1e-5
    assert "known digests" in report.origin


def test_real_weights_give_the_original_features_by_another_road() -> None:
    """Load by order instead of by name, and compare in odd sizes with zero padding inside."""
    state = read_state_dict(_packaged(LITE0))
    reference = timm.create_model("efficientnet_lite0", num_classes=0).eval()
    names = list(reference.state_dict())
    values = list(state.values())[: len(names)]
    reference.load_state_dict(dict(zip(names, values, strict=True)), strict=True)
    result = graft(LITE0, "efficientnet_lite0_3d", method="center", check_parity=False)
    assert "trained as timm's tf_efficientnet_lite0" in " ".join(result.report.notes)
    grey = torch.randn(1, 1, 61, 47, generator=torch.Generator().manual_seed(1))
    volume = grey.unsqueeze(2).expand(-1, -1, 5, -1, -1)
    with torch.no_grad():
        expected = reference(grey.expand(-1, 3, -1, -1))
        found = result.encoder.eval()(volume)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert result.input_mean == pytest.approx((127 / 255,))
    assert result.input_sd == pytest.approx((128 / 255,))


def test_mobilenetv2_gives_the_features_of_torchvisions_network() -> None:
    """Load by order into another implementation of the architecture, torchvision's."""
    name = "mobilenetv2_100.deep_sort_in1k"
    state = read_state_dict(_packaged(name))
    original = torchvision.models.mobilenet_v2(weights=None).features.eval()
    names = list(original.state_dict())
    original.load_state_dict(dict(zip(names, state.values(), strict=True)), strict=True)
    result = graft(name, "mobilenetv2_3d", method="center", in_channels=3, check_parity=False)
    image = torch.randn(1, 3, 61, 47, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = original(image)
        found = result.encoder.eval().forward_features(image.unsqueeze(2).expand(-1, -1, 5, -1, -1))
    torch.testing.assert_close(found, expected.unsqueeze(2), rtol=1e-4, atol=1e-4)


def test_a_packaged_file_is_known_by_its_values() -> None:
    source = resolve_source(_packaged(LITE0))
    assert source.id == LITE0
    assert graft(source, "tf_efficientnet_lite0_3d").report.source == LITE0


@pytest.mark.parametrize("architecture", ["resnet10t", "regnetx_002", "convnext_atto"])
@pytest.mark.parametrize("method", ["average", "center"])
def test_twins_with_random_weights(folder: Path, architecture: str, method: str) -> None:
    path = folder / f"{architecture}.safetensors"
    if not path.is_file():
        save_file(_network(architecture, num_classes=5).state_dict(), path)
    result = graft(f"timm:{architecture}@{path}", f"{architecture}_3d", method=method)
    assert result.report.coverage == 1.0
    assert result.encoder.training
    assert all(p.requires_grad and p.device.type == "cpu" for p in result.encoder.parameters())
    assert "origin unverified" in result.report.origin


@pytest.mark.parametrize("stem", ["sum", "mean", "repeat", "first"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_stems_have_parity_with_the_reference_they_promise(
    small: Path, stem: str, channels: int
) -> None:
    result = graft(f"timm:mobilenetv3_small_050@{small}", SMALL_MODEL,
                   stem=stem, in_channels=channels)  # fmt: skip
    assert result.report.parity.relative_error is not None
    assert result.report.parity.relative_error <= 1e-4
    assert result.report.stem == ("" if channels == 3 else stem)
    assert len(result.input_mean) == len(result.input_sd) == channels
    if channels == 3:
        assert result.input_mean == (0.485, 0.456, 0.406)


@dataclass(frozen=True)
class _Scale:
    """A rule that spoils one kernel by two percent and says nothing else."""

    target: str

    def adapt(self, name: str, tensor: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, str] | None:
        return (tensor * 1.02, "scaled") if name == self.target else None


@pytest.mark.parametrize("method", ["average", "center"])
def test_parity_finds_a_spoilt_kernel_and_names_its_module(small: Path, method: str) -> None:
    with pytest.raises(GraftError) as caught:
        graft(f"timm:mobilenetv3_small_050@{small}", SMALL_MODEL, method=method,
              rules=[_Scale("blocks.2.0.conv_dw.weight")])  # fmt: skip
    assert "They part at blocks.2.0.conv_dw." in str(caught.value)
    assert "Nothing may train on this" in str(caught.value)


def _renamed(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {(f"{n}_old" if n == name else n): t for n, t in state.items()}


def _without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {n: t for n, t in state.items() if n != name}


def _turned(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {**state, name: state[name].transpose(0, 1).contiguous()}


def _square_turned(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {**state, name: state[name].transpose(2, 3).contiguous()}


def _more(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {**state, f"{name}.more": torch.ones(2)}


CHANGES: dict[str, tuple[Callable[[dict[str, Tensor], str], dict[str, Tensor]], str]] = {
    "renamed": (_renamed, "{name} is renamed: its values are under '{name}_old'"),
    "missing": (_without, "{name} is missing"),
    "transposed": (_turned, "{name} {turned} is transposed: axes 0 and 1 are exchanged"),
    "transposed, same shape": (_square_turned, "{name} {shape} is transposed: axes 2 and 3"),
    "extra": (_more, "{name}.more [2] is extra"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("given", ["as its source", "as a file"])
def test_one_changed_tensor_of_the_real_file_raises_naming_it(
    tmp_path: Path, change: str, given: str
) -> None:
    spoil, message = CHANGES[change]
    name = "_blocks.3._depthwise_conv.weight"
    state = read_state_dict(_packaged(LITE0))
    shape = list(state[name].shape)
    path = tmp_path / "changed.pth"
    torch.save(spoil(state, name), path)
    source = f"{LITE0}@{path}" if given == "as its source" else str(path)
    with pytest.raises(SourceError) as caught:
        graft(source, "efficientnet_lite0_3d")
    turned = [shape[1], shape[0], *shape[2:]]
    assert message.format(name=name, shape=shape, turned=turned) in str(caught.value)
    assert "(1 fault)" in str(caught.value)


@pytest.mark.parametrize("change", ["renamed", "missing", "transposed", "extra"])
def test_one_changed_tensor_of_any_file_raises_naming_it(
    tmp_path: Path, small: Path, change: str
) -> None:
    name = "blocks.1.0.conv_pw.weight"
    spoil, _ = CHANGES[change]
    path = tmp_path / "changed.safetensors"
    save_file(spoil(read_state_dict(small), name), path)
    with pytest.raises(GraftError, match=name.replace(".", r"\.")) as caught:
        graft(f"timm:mobilenetv3_small_050@{path}", SMALL_MODEL)
    assert "Nothing was loaded" in str(caught.value)
    if change == "transposed":
        assert "it seems transposed" in str(caught.value)


def test_an_equally_shaped_transposition_of_an_unknown_file_is_admitted_as_unseen(
    tmp_path: Path, small: Path
) -> None:
    path = tmp_path / "turned.safetensors"
    state = read_state_dict(small)
    save_file(_square_turned(state, "blocks.1.0.conv_dw.weight"), path)
    report = graft(f"timm:mobilenetv3_small_050@{path}", SMALL_MODEL).report
    assert "origin unverified" in report.origin
    known = replace(
        resolve_source(f"timm:mobilenetv3_small_050@{path}"),
        tensor_digests_given=tensor_digests(state),
    )
    with pytest.raises(SourceError, match=r"conv_dw\.weight .* axes 2 and 3 are exchanged"):
        graft(known, SMALL_MODEL)


def test_a_rule_mends_a_renamed_tensor(tmp_path: Path, small: Path) -> None:
    path = tmp_path / "renamed.safetensors"
    save_file(_renamed(read_state_dict(small), "conv_stem.weight"), path)
    source = f"timm:mobilenetv3_small_050@{path}"
    report = graft(source, SMALL_MODEL, rules=[Rename("_old$", "")]).report
    assert report.coverage == 1.0
    assert report.parity.max_abs_error is not None
    rules = [Drop(".*_old", "not wanted"), Fresh("conv_stem.weight", "another modality")]
    report = graft(source, SMALL_MODEL, rules=rules, model_options={"seed": 1}).report
    assert report.fresh == ({"name": "conv_stem.weight", "because": "another modality"},)
    assert 0.99 < report.coverage < 1.0
    assert report.parity.where == "not checked: 1 tensors are fresh, by a rule"
    assert report.parity.max_abs_error is None


def test_a_kernel_of_another_size_is_reconciled_by_rule(tmp_path: Path, small: Path) -> None:
    state = read_state_dict(small)
    kernel = state["conv_stem.weight"]
    state["conv_stem.weight"] = nn.functional.pad(kernel, (1, 1, 1, 1))
    path = tmp_path / "wide.safetensors"
    save_file(state, path)
    source = f"timm:mobilenetv3_small_050@{path}"
    with pytest.raises(
        GraftError, match=r"expects \(16, 1, 3, 3, 3\), found \(16, 3, 5, 5\) after"
    ):
        graft(source, SMALL_MODEL)
    mended = graft(source, SMALL_MODEL, rules=[ReconcileKernel("conv_stem.weight")])
    plain = graft(f"timm:mobilenetv3_small_050@{small}", SMALL_MODEL, method="average")
    assert "kernel 3×5×5 to 3×3×3 (center)" in str(mended.report.adapted)
    assert mended.report.parity.where == "not checked: 1 tensors are resized, by a rule"
    assert torch.equal(mended.encoder.state_dict()["conv_stem.weight"],
                       plain.encoder.state_dict()["conv_stem.weight"])  # fmt: skip


def test_a_network_of_the_same_tensors_but_another_function_is_refused(folder: Path) -> None:
    path = folder / "blur.safetensors"
    save_file(_network("resnetblur18").state_dict(), path)
    with pytest.raises(GraftError) as caught:
        graft(f"timm:resnetblur18@{path}", "resnet18_3d")
    assert "holds weights of 'resnetblur18'" in str(caught.value)
    assert "timm:resnet18@FILE" in str(caught.value)
    with pytest.raises(GraftError, match=r"tensors of .* are unexplained \(\d+ faults\)"):
        graft(f"timm:resnetblur18@{path}", "resnet26_3d")


def test_group_normalization_comes_after_the_check(small: Path) -> None:
    result = graft(f"timm:mobilenetv3_small_050@{small}", SMALL_MODEL, norm="group")
    assert result.report.parity.relative_error is not None
    assert result.report.norm == "group"
    assert not any("running_mean" in name for name in result.encoder.state_dict())
    assert any("group normalizations after the check" in note for note in result.report.notes)


@pytest.mark.parametrize("norm", ["keep", "group"])
def test_a_saved_graft_is_a_start_again(tmp_path: Path, small: Path, norm: str) -> None:
    options = {"depth_stride": 4}
    first = graft(f"timm:mobilenetv3_small_050@{small}", SMALL_MODEL, norm=norm,
                  model_options=options, depth_padding="replicate")  # fmt: skip
    card = save_graft(first, tmp_path / "saved")
    assert load_card(tmp_path / "saved") == card
    assert GraftReport.from_dict(json.loads(json.dumps(card.report))) == first.report
    second = graft(tmp_path / "saved", SMALL_MODEL)
    assert second.report.parity.max_abs_error == 0.0
    assert second.report.method == "direct"
    assert second.report.norm == norm
    assert second.encoder.depth_padding == "replicate"
    assert second.encoder.declaration.strides == first.encoder.declaration.strides
    assert second.input_mean == pytest.approx(first.input_mean)
    ours, theirs = second.encoder.state_dict(), first.encoder.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    two = graft(tmp_path / "saved", SMALL_MODEL, in_channels=2)
    assert "1 channels to 2 (sum)" in str(two.report.adapted)
    with pytest.raises(GraftError, match="are unexplained"):
        graft(tmp_path / "saved", "mobilenetv3_small_3d")


def test_a_kept_head_comes_along(tmp_path: Path, small: Path) -> None:
    first = graft(f"timm:mobilenetv3_small_050@{small}", SMALL_MODEL, check_parity=False)
    assert first.report.parity.where == "not checked"
    head = {"head.weight": torch.ones(2, 1024), "head.bias": torch.zeros(2)}
    save_graft(replace(first, head_state=head), tmp_path / "run")
    dropped = graft(tmp_path / "run", SMALL_MODEL)
    assert {verdict["name"] for verdict in dropped.report.dropped} == set(head)
    assert not dropped.head_state
    kept = graft(tmp_path / "run", SMALL_MODEL, keep_head=True)
    assert torch.equal(kept.head_state["head.weight"], head["head.weight"])


def test_an_encoder_that_is_given_keeps_its_identity_and_mode(small: Path) -> None:
    encoder = build_encoder(SMALL_MODEL, in_channels=2, depth_padding="replicate")
    weights = [id(parameter) for parameter in encoder.parameters()]
    result = graft(f"timm:mobilenetv3_small_050@{small}", encoder)
    assert result.encoder is encoder
    assert [id(parameter) for parameter in encoder.parameters()] == weights
    assert encoder.depth_padding == "replicate"
    assert len(result.input_mean) == 2
    assert result.report.coverage == 1.0
    with pytest.raises(GraftError, match="an encoder is given, which has its own"):
        graft(f"timm:mobilenetv3_small_050@{small}", encoder, depth_padding="zeros")
    with torch.device("meta"):
        nowhere = build_encoder(SMALL_MODEL)
    with pytest.raises(GraftError, match="not on the CPU"):
        graft(f"timm:mobilenetv3_small_050@{small}", nowhere)


def test_the_global_random_state_is_left_alone(small: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    graft(f"timm:mobilenetv3_small_050@{small}", SMALL_MODEL)
    assert torch.equal(torch.rand(1), expected)


def test_impossible_wishes(small: Path) -> None:
    source = f"timm:mobilenetv3_small_050@{small}"
    with pytest.raises(ModelError, match="method is 'half'"):
        graft(source, SMALL_MODEL, method="half")
    with pytest.raises(ModelError, match="stem is 'max'"):
        graft(source, SMALL_MODEL, stem="max")
    with pytest.raises(ModelError, match="norm is 'layer'"):
        graft(source, SMALL_MODEL, norm="layer")
    with pytest.raises(GraftError, match=r"model_options has 'width', expected some of .*seed"):
        graft(source, SMALL_MODEL, model_options={"width": 2})
    with pytest.raises(RegistryError, match="no model is called 'nothing'"):
        graft(source, "nothing")
    with pytest.raises(GraftError, match="are unexplained"):
        graft(source, "plain_resnet10_3d")  # no twin of anything


def test_reading_leaves_the_source_file_as_it_was(small: Path) -> None:
    before = small.read_bytes()
    result = graft(f"timm:mobilenetv3_small_050@{small}", SMALL_MODEL, check_parity=False)
    with torch.no_grad():
        for parameter in result.encoder.parameters():
            parameter.zero_()
    assert small.read_bytes() == before
    again = read_source(replace(result.source, file=LocalFile(path=str(small))))
    assert float(again.state["conv_stem.weight"].abs().max()) > 0
