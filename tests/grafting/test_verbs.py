"""The command line's verbs of weights: exit codes, what is printed and what is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from typer.testing import CliRunner, Result

from voxgraft.cli.main import app
from voxgraft.errors import GraftError, SourceError, UsageError

MODEL = "mobilenetv3_small_050_3d"


def _verb(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(2)
    state = timm.create_model("mobilenetv3_small_050", num_classes=3).state_dict()
    words = (("blocks", "cells"), ("conv", "mix"), ("bn", "norm"))
    renamed = {}
    for name, tensor in state.items():
        for old, new in words:
            name = name.replace(old, new)
        renamed[f"core.{name}"] = tensor
    path = tmp_path_factory.mktemp("verbs") / "theirs.pth"
    torch.save({"student": {k: t + 1 for k, t in renamed.items()}, "teacher": renamed}, path)
    return path


def test_a_file_is_inspected_proposed_and_grafted(theirs: Path, tmp_path: Path) -> None:
    found = _verb("inspect", theirs, "--key", "teacher", "--json")
    assert found.exit_code == 0
    likely = json.loads(found.stdout)["likely"]
    assert likely[0]["by"] == "shapes"
    assert likely[0]["architecture"] == "mobilenetv3_small_050"
    assert likely[0]["coverage"] > 0.99
    assert MODEL in likely[0]["models"]
    assert "unknown: by shapes alone" in _verb("inspect", theirs, "--key", "teacher").stdout
    rules = tmp_path / "rules.yaml"
    done = _verb("graft", theirs, MODEL, "--propose", "--rules", rules, "--key", "teacher")
    assert done.exit_code == 0, done.output
    assert "read it, then" in done.stderr
    assert "key: teacher" in rules.read_text()
    shown = _verb("graft", theirs, MODEL, "--propose", "--key", "teacher")
    assert shown.stdout == rules.read_text()
    done = _verb("graft", theirs, MODEL, "--rules", rules, "--statistics", "--out", tmp_path / "g")
    assert done.exit_code == 0, done.output
    assert "coverage   100.0%" in done.stdout
    assert "statistics: " in done.stderr
    assert (tmp_path / "g" / "card.json").is_file()


def test_what_is_wrong_is_said(theirs: Path, tmp_path: Path) -> None:
    for arguments, kind, message in (
        (("inspect", theirs), SourceError, "several networks"),
        (("graft", f"{theirs}x", MODEL, "--propose"), SourceError, "does not exist"),
        (("graft", theirs, "plain_resnet10_3d", "--propose", "--key", "teacher"), GraftError,
         "is made of no 2D network"),
        (("graft", theirs, MODEL, "--rules", tmp_path / "none.yaml"), SourceError,
         "is no file of rules"),
        (("sources", "verify"), UsageError, "give the ids of sources to verify, or --all"),
        (("sources", "a", "b"), UsageError, "give one ID"),
        (("push", tmp_path, "org/name"), SourceError, "does not exist. Expected the folder"),
    ):  # fmt: skip
        result = _verb(*arguments)
        assert isinstance(result.exception, kind), arguments
        assert message in str(result.exception)


def test_proved_sources_are_marked_and_a_failure_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    result = _verb("sources", "verify", "resnet18.a1_in1k", "--json")
    assert result.exit_code == 1
    proof = json.loads(result.stdout)[0]
    assert proof["verification"] is None
    assert "HF_HUB_OFFLINE forbids" in proof["fault"]
    assert "0 of 1 verified" in result.stderr
