"""Rules proposed for files under other names: all found, or admitted; never followed unasked."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from voxgraft.errors import GraftError, SourceError
from voxgraft.grafting.propose import graft_by_rules, propose
from voxgraft.models import build_encoder
from voxgraft.weights.convert.align import align
from voxgraft.weights.convert.renames import rename_rules
from voxgraft.weights.convert.rules_file import read_rules

_WORDS = (
    ("layer", "stage_"),
    ("downsample", "shortcut"),
    ("features", "body"),
    ("denseblock", "dense_"),
    ("transition", "between_"),
    ("blocks", "trunk.parts"),
    ("stages", "steps"),
    ("mlp", "ffn"),
    ("norm", "scaling"),
    ("bn", "scaling"),
    ("conv", "weighing"),
)


def _other_words(name: str) -> str:
    for old, new in _WORDS:
        name = name.replace(old, new)
    return f"net.core.{name}"


def _gammas(name: str) -> str:
    leaves = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean",
              "running_var": "moving_var"}  # fmt: skip
    path, _, leaf = name.rpartition(".")
    return f"{path}.{leaves.get(leaf, leaf)}" if re.search(r"bn\d$", path) else name


@pytest.fixture(scope="module")
def network() -> Callable[[str], nn.Module]:
    made: dict[str, nn.Module] = {}

    def make(architecture: str) -> nn.Module:
        if architecture not in made:
            torch.manual_seed(3)
            made[architecture] = timm.create_model(architecture, num_classes=4).eval()
        return made[architecture]

    return make


def _save(path: Path, state: dict[str, torch.Tensor]) -> Path:
    if path.suffix == ".pth":
        torch.save({"state_dict": state}, path)
    else:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("architecture", ["resnet18", "convnext_atto", "mobilenetv3_small_050"])
def test_renamed_files_are_proposed_completely_and_graft_with_parity(
    tmp_path: Path, network: Callable[[str], nn.Module], architecture: str, suffix: str
) -> None:
    state = {_other_words(n): t for n, t in network(architecture).state_dict().items()}
    path = _save(tmp_path / f"theirs{suffix}", state)
    proposal = propose(path, f"{architecture}_3d")
    assert proposal.complete
    assert len(proposal.rules.rules) < 20
    rules = tmp_path / "rules.yaml"
    rules.write_text(proposal.text())
    report = graft_by_rules(path, f"{architecture}_3d", rules).report
    assert report.coverage == 1.0
    assert report.parity.relative_error is not None
    for verdict in (*report.loaded, *report.adapted):
        assert _other_words(verdict["name"]) == verdict["from"]
    assert all("own head" in verdict["because"] for verdict in report.dropped)


def test_other_names_of_normalization_are_understood(
    tmp_path: Path, network: Callable[[str], nn.Module]
) -> None:
    state = {_gammas(n): t for n, t in network("resnet18").state_dict().items()}
    path = _save(tmp_path / "theirs.pth", state)
    proposal = propose(path, "resnet18_3d")
    assert proposal.complete
    report = graft_by_rules(path, "resnet18_3d", proposal.rules).report
    assert all(_gammas(verdict["name"]) == verdict["from"] for verdict in report.loaded)


def test_a_network_for_volumes_inside_another_program(tmp_path: Path) -> None:
    encoder = build_encoder("plain_resnet10_3d", seed=1)
    state = {f"model.trunk.{n.replace('layer', 'level')}": t
             for n, t in encoder.state_dict().items()}  # fmt: skip
    path = _save(tmp_path / "theirs.pth", state)
    proposal = propose(path, "plain_resnet10_3d")
    assert proposal.complete
    found = graft_by_rules(path, "plain_resnet10_3d", proposal.rules).encoder.state_dict()
    assert all(torch.equal(found[n], t) for n, t in encoder.state_dict().items())


def test_what_could_be_one_tensor_or_another_stays_unexplained(tmp_path: Path) -> None:
    """Equal norms under names without numbers, in a file whose order is alphabetical."""
    encoder = build_encoder("plain_resnet10_3d", seed=1)
    names = {"conv1": "zeta", "bn1": "kappa", "conv2": "alpha", "bn2": "mu"}

    def renamed(name: str) -> str:
        return re.sub(r"(layer\d\.0)\.(conv\d|bn\d)", lambda m: f"{m[1]}.{names[m[2]]}", name)

    state = {renamed(name): tensor for name, tensor in encoder.state_dict().items()}
    path = _save(tmp_path / "theirs.safetensors", state)
    proposal = propose(path, "plain_resnet10_3d")
    assert not proposal.complete
    # The convolutions differ in shape from the second stage on, and so in the first by analogy.
    unexplained = {entry.split()[0].rpartition(".")[0] for entry in proposal.unexplained_model}
    assert unexplained == {f"layer{stage}.0.bn{n}" for stage in (1, 2, 3, 4) for n in (1, 2)}
    assert "- {drop: 'layer1\\.0\\.kappa\\.bias', reason: ''}  # [64]" in proposal.text()
    with pytest.raises(GraftError, match=r"layer1\.0\.bn1\.weight expects"):
        graft_by_rules(path, "plain_resnet10_3d", proposal.rules)


def test_tensors_of_neither_side_are_commented_and_need_a_reason(
    tmp_path: Path, network: Callable[[str], nn.Module]
) -> None:
    state = dict(network("resnet18").state_dict())
    state["auxiliary.scale"] = torch.ones(7)
    del state["layer4.1.bn2.bias"]
    path = _save(tmp_path / "theirs.pth", state)
    proposal = propose(path, "resnet18_3d")
    assert proposal.unexplained_source == ("auxiliary.scale [7]",)
    assert proposal.unexplained_model == ("layer4.1.bn2.bias [512]",)
    text = proposal.text()
    asked = re.findall(r"^# (- \{(?:drop|fresh).*\})", text, flags=re.MULTILINE)
    assert len(asked) == 2
    rules = tmp_path / "rules.yaml"
    rules.write_text(text + "\n".join(asked))
    with pytest.raises(SourceError, match="has no reason") as caught:
        graft_by_rules(path, "resnet18_3d", rules)
    assert "(2 faults)" in str(caught.value)
    rules.write_text(text + "\n".join(asked).replace("''", "'not wanted'"))
    report = graft_by_rules(path, "resnet18_3d", rules).report
    assert report.fresh[-1]["because"] == "not wanted"


def test_2d_kernels_and_a_network_of_none_are_refused(
    tmp_path: Path, network: Callable[[str], nn.Module]
) -> None:
    path = _save(tmp_path / "theirs.pth", dict(network("resnet18").state_dict()))
    with pytest.raises(GraftError, match="is made of no 2D network"):
        propose(path, "plain_resnet10_3d")
    rules = propose(path, "resnet18_3d").rules
    with pytest.raises(GraftError, match="rules are for 'resnet18_3d', not for 'resnet34_3d'"):
        graft_by_rules(path, "resnet34_3d", rules)


def test_all_faults_of_a_file_of_rules_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(
        "format: voxgraft-rules/2\nmodel: resnet18_3d\nmethod: half\ncolour: red\n"
        "input: {channels: 0, mean: [0.5], sd: [-1.0]}\n"
        "rules: [{rename: '(', to: x}, {rename: a, to: '\\1'}, {drop: b}, {drop: c, reason: ' '},\n"
        "  {paint: d}, 7, {reconcile: e, method: stretch}, {fresh: f, reason: g, why: h}]\n"
    )
    with pytest.raises(SourceError) as caught:
        read_rules(path)
    for told in ("format", "method", "colour", "input.channels", "input.sd.0", "rules.0: '('",
                 "rules.1", "rules.2.reason", "rules.3", "rules.4: expected one of rename",
                 "rules.5", "rules.6.method", "rules.7.why"):  # fmt: skip
        assert told in str(caught.value), told
    for broken in ("{", "[1, 2]", "", "a: &a [*a]", "\0"):
        path.write_text(broken)
        with pytest.raises(SourceError, match=r"rules\.yaml"):
            read_rules(path)
    with pytest.raises(SourceError, match="is no file of rules"):
        read_rules(tmp_path / "none.yaml")


_PART = st.sampled_from(["a", "b", "conv1", "bn", "0", "1", "12", "x.y"])
_NAMES = st.lists(st.lists(_PART, min_size=1, max_size=4).map(".".join), unique=True, max_size=8)


@settings(max_examples=60, deadline=None)
@given(_NAMES, st.data())
def test_rules_of_renaming_do_what_they_were_made_for(
    names: list[str], data: st.DataObject
) -> None:
    new = data.draw(st.lists(_NAMES.map(lambda n: n[0] if n else "z"), min_size=len(names),
                             max_size=len(names), unique=True))  # fmt: skip
    pairs = dict(zip(names, new, strict=True))
    rules = rename_rules(pairs)
    for old, wanted in pairs.items():
        name = old
        for rule in rules:
            name = rule.rename(name)
        assert name == wanted


def test_an_order_that_contradicts_the_names_says_nothing() -> None:
    shapes = {"first.weight": (4, 4, 3, 3), "second.weight": (4, 4, 3, 3), "end.weight": (9,)}
    ours = {"second.weight": (4, 4, 3, 3), "first.weight": (4, 4, 3, 3), "last.weight": (9,)}
    found = align(shapes, ours, stems=(), inflate=False, ordered=True)
    assert found.pairs["first.weight"] == "first.weight"
    swapped = {"b2.weight": (4, 4), "b1.weight": (4, 4)}
    found = align(swapped, {"n1.weight": (4, 4), "n2.weight": (4, 4)}, stems=(), inflate=False,
                  ordered=True)  # fmt: skip
    assert found.pairs == {"b1.weight": "n1.weight", "b2.weight": "n2.weight"}
