"""Hub manners: places, the shared cache, offline words, what is uploaded and what comes back."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from voxgraft.errors import FetchError, GraftError, RunError, SourceError
from voxgraft.grafting import find_source, from_pretrained, graft, save_graft, verify_source
from voxgraft.models import Network, build_encoder
from voxgraft.runs import push
from voxgraft.weights import Card, load_card, save_weights
from voxgraft.weights.hub import parse_place
from voxgraft.weights.verification import verifications

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Cache:
    """A hub's cache folder, with what a download would have left there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def repository(self, name: str, absent: tuple[str, ...] = ()) -> Path:
        root = self.folder / f"models--{name.replace('/', '--')}"
        (root / "refs").mkdir(parents=True, exist_ok=True)
        (root / "refs" / "main").write_text(COMMIT)
        for file in absent:
            path = root / ".no_exist" / COMMIT / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        snapshot = root / "snapshots" / COMMIT
        snapshot.mkdir(parents=True, exist_ok=True)
        return snapshot


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("VOXGRAFT_CACHE", str(tmp_path / "own"))
    return Cache(tmp_path / "hub")


def test_places_on_the_hub_are_read() -> None:
    place = parse_place("hf-hub:org/a.name_1@v1.0:weights/model.pt")
    assert (place.repository, place.revision, place.filename) == (
        "org/a.name_1", "v1.0", "weights/model.pt",
    )  # fmt: skip
    assert str(parse_place("hf-hub:org/name")) == "hf-hub:org/name"
    assert parse_place("org/name@abc").revision == "abc"
    for wrong in ("hf-hub:name", "hf-hub:a/b/c", "hf-hub:", "hf-hub:a/b:../../x", "hf-hub:a/b:/x",
                  "hf-hub:a b/c"):  # fmt: skip
        with pytest.raises(SourceError, match=r"is no place on the hub\. Expected hf-hub:ORG"):
            parse_place(wrong)


def test_timms_repositories_say_their_architecture(cache: Cache) -> None:
    snapshot = cache.repository("someone/small", absent=("card.json",))
    config = {"architecture": "mobilenetv3_small_050", "num_classes": 3,
              "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6],
                                 "license": "mit"}}  # fmt: skip
    (snapshot / "config.json").write_text(json.dumps(config))
    network = timm.create_model("mobilenetv3_small_050", num_classes=3).eval()
    save_file(network.state_dict(), snapshot / "model.safetensors")
    result = graft("hf-hub:someone/small", "mobilenetv3_small_050_3d", in_channels=3)
    assert result.report.coverage == 1.0
    assert result.report.parity.relative_error is not None
    assert result.source.id == "hf-hub:someone/small"
    assert result.source.licence == "mit"
    assert result.input_mean == pytest.approx((0.1, 0.2, 0.3))
    assert result.input_sd == pytest.approx((0.4, 0.5, 0.6))


def test_what_timm_left_in_the_cache_is_enough(cache: Cache) -> None:
    """timm fetches the weights alone: no card, no configuration, and no note of their absence."""
    snapshot = cache.repository("someone/small")
    network = timm.create_model("mobilenetv3_small_100").eval()
    save_file(network.state_dict(), snapshot / "model.safetensors")
    result = graft("hf-hub:someone/small", "mobilenetv3_small_3d")
    assert result.report.coverage == 1.0
    assert result.report.parity.relative_error is not None


def test_other_repositories_are_recognised_by_their_tensors(cache: Cache) -> None:
    snapshot = cache.repository("lab/volumes", absent=("card.json", "config.json"))
    encoder = build_encoder("plain_resnet10_3d", seed=2)
    state = {f"backbone.{name}": tensor for name, tensor in encoder.state_dict().items()}
    torch.save({"state_dict": state}, snapshot / "best.ckpt")
    source = find_source("hf-hub:lab/volumes:best.ckpt")
    assert (source.architecture, source.prefix) == ("plain_resnet10_3d", "backbone.")
    report = graft(source, "plain_resnet10_3d").report
    assert report.coverage == 1.0
    assert any("is the part 'backbone'" in note for note in report.notes)


def test_without_a_network_the_words_are_clear(cache: Cache) -> None:
    with pytest.raises(FetchError) as caught:
        find_source("hf-hub:org/name")
    text = str(caught.value)
    assert "nothing of org/name is in the hub's cache" in text
    assert "HF_HUB_OFFLINE forbids to fetch it" in text
    assert "https://huggingface.co/org/name/tree/main" in text
    snapshot = cache.repository("org/name", absent=("card.json", "config.json", "x.pth"))
    (snapshot / "README.md").write_text("weights elsewhere")
    with pytest.raises(FetchError, match=r"has no file 'x\.pth' at revision 'main'"):
        find_source("hf-hub:org/name:x.pth")
    with pytest.raises(FetchError, match="what hf-hub:org/name holds cannot be asked"):
        find_source("hf-hub:org/name")


class FakeHub:
    """Takes what the hub would be sent."""

    def __init__(self, refuses: Exception | None = None) -> None:
        self.refuses = refuses
        self.created: list[tuple[str, bool | None]] = []
        self.files: dict[str, bytes] = {}

    def create_repo(
        self, repo_id: str, *, private: bool | None = None, exist_ok: bool = False
    ) -> Any:
        assert exist_ok
        self.created.append((repo_id, private))
        if self.refuses:
            raise self.refuses

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> Any:
        assert commit_message
        self.files = {p.name: p.read_bytes() for p in Path(folder_path).iterdir()}


def _run(folder: Path) -> Network:
    """Write what a finished run leaves, without the training."""
    network = Network(build_encoder("plain_resnet10_3d", seed=1), 2, seed=1)
    state = {n: t for n, t in network.state_dict().items() if n.startswith(("encoder.", "head."))}
    card = Card(
        model="plain_resnet10_3d",
        in_channels=1,
        input_mean=(0.5,),
        input_sd=(0.25,),
        stem="conv1.weight",
        outputs=2,
        licence="cc-by-4.0",
        trained_on=("LIDC-IDRI",),
        training={"recipe": {"table": "/home/me/secret/table.csv"}},
    )
    save_weights(folder, state, card)
    (folder / "predictions.parquet").write_bytes(b"patients")
    scored = {"patient": {"auroc": {"value": 0.8125, "reason": None}, "ece": {"value": None}}}
    (folder / "result.json").write_text(json.dumps({"metrics": {"test": scored}}))
    return network


def test_what_is_pushed_comes_back(tmp_path: Path, cache: Cache) -> None:
    network = _run(tmp_path / "run")
    hub = FakeHub()
    assert push(tmp_path / "run", "org/ours", api=hub) == "hf-hub:org/ours"
    assert hub.created == [("org/ours", True)]
    assert set(hub.files) == {"model.safetensors", "card.json", "README.md"}
    assert b"/home/me" not in hub.files["card.json"]
    page = hub.files["README.md"].decode()
    for told in (
        "license: cc-by-4.0",
        "| test | patient | auroc | 0.8125 |",
        "LIDC-IDRI",
        'vg.from_pretrained("hf-hub:org/ours")',
        "| start | random weights |",
    ):
        assert told in page
    assert "ece" not in page
    snapshot = cache.repository("org/ours")
    for name, content in hub.files.items():
        (snapshot / name).write_bytes(content)
    back = from_pretrained("hf-hub:org/ours")
    assert not back.training
    volume = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(back(volume), network.eval()(volume))
    assert torch.equal(from_pretrained("org/ours").head.weight, network.head.weight)
    other = from_pretrained(tmp_path / "run", outputs=5, seed=3)
    assert other.head.weight.shape == (5, 512)
    assert graft("hf-hub:org/ours", "plain_resnet10_3d").report.coverage == 1.0


def test_a_saved_graft_has_no_head_to_come_back(tmp_path: Path) -> None:
    network = timm.create_model("mobilenetv3_small_050").eval()
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    done = graft(f"timm:mobilenetv3_small_050@{tmp_path / 'a.safetensors'}",
                 "mobilenetv3_small_050_3d", norm="group", check_parity=False)  # fmt: skip
    save_graft(done, tmp_path / "saved")
    with pytest.raises(GraftError, match=r"has no head: expected head\.weight.*Give outputs="):
        from_pretrained(tmp_path / "saved")
    back = from_pretrained(tmp_path / "saved", outputs=1)
    assert back.input_mean.tolist() == pytest.approx(done.input_mean)
    ours, theirs = back.encoder.state_dict(), done.encoder.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    hub = FakeHub()
    push(tmp_path / "saved", "org/start", private=False, api=hub)
    assert hub.created == [("org/start", False)]
    page = hub.files["README.md"].decode()
    assert "license: unknown" in page
    assert "outputs=2" in page
    assert "| coverage of the start | 100.0% |" in page


def test_what_was_damaged_is_not_pushed_or_loaded(tmp_path: Path) -> None:
    _run(tmp_path / "run")
    whole = load_card(tmp_path / "run")
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    card["tensor_digests"]["head.bias"] = "0" * 16
    (tmp_path / "run" / "card.json").write_text(json.dumps(card))
    with pytest.raises(RunError, match=r"head\.bias \[2\] has other values"):
        push(tmp_path / "run", "org/ours", api=FakeHub())
    with pytest.raises(GraftError, match=r"head\.bias \[2\] has other values"):
        from_pretrained(tmp_path / "run")
    card |= {"tensor_digests": dict(whole.tensor_digests), "model": "plain_resnet18_3d"}
    (tmp_path / "run" / "card.json").write_text(json.dumps(card))
    with pytest.raises(GraftError, match="does not fit the network 'plain_resnet18_3d'"):
        from_pretrained(tmp_path / "run")
    with pytest.raises(GraftError, match=r"is no folder\. Give the folder of a run"):
        from_pretrained(tmp_path / "nowhere")


def test_a_hub_that_refuses_is_quoted(tmp_path: Path) -> None:
    _run(tmp_path / "run")
    with pytest.raises(FetchError, match=r"org/ours could not be pushed: no token\. Log in with"):
        push(tmp_path / "run", "org/ours", api=FakeHub(OSError("no token.")))
    with pytest.raises(SourceError, match="is no place on the hub"):
        push(tmp_path / "run", "ours", api=FakeHub())


def test_a_source_that_is_proved_is_recorded(tmp_path: Path, cache: Cache) -> None:
    snapshot = cache.repository("timm/mobilenetv3_small_050.lamb_in1k")
    torch.manual_seed(1)
    network = timm.create_model("mobilenetv3_small_050").eval()
    save_file(network.state_dict(), snapshot / "model.safetensors")
    source = find_source("mobilenetv3_small_050.lamb_in1k")
    proof = verify_source(source)
    assert proof.fault == ""
    assert proof.verification is not None
    assert proof.verification.parity < 1e-4
    assert verifications()[source.id] == proof.verification
    assert len(asdict(proof)["verification"]["sha256"]) == 64
    failed = verify_source(find_source("resnet18.a1_in1k"))
    assert failed.verification is None
    assert "is not in the hub's cache" in failed.fault
    assert list(verifications()) == [source.id]
    (tmp_path / "own" / "verified.json").write_text("[")
    with pytest.raises(SourceError, match=r"verified\.json.*Delete it"):
        verifications()
