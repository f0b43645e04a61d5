"""Arrays of JAX against timm's own reading of the same files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.models.vision_transformer import _load_weights

from voxgraft.errors import SourceError
from voxgraft.weights.convert import convert
from voxgraft.weights.layouts import KEY_LAYOUTS, key_layout
from voxgraft.weights.read import read_checkpoint

WIDTH, DEPTH, HEADS, SIZE = 24, 2, 3, 32


def _arrays(kind: str, pooled: bool) -> dict[str, np.ndarray]:
    """Return random arrays named as vision_transformer ("old") or big_vision name them."""
    chance = np.random.default_rng(1)

    def draw(*shape: int) -> np.ndarray:
        return chance.normal(size=shape).astype(np.float32)

    def attention(where: str) -> dict[str, np.ndarray]:
        each = WIDTH // HEADS
        found = {f"{where}/out/kernel": draw(HEADS, each, WIDTH), f"{where}/out/bias": draw(WIDTH)}
        for part in ("query", "key", "value"):
            found[f"{where}/{part}/kernel"] = draw(WIDTH, HEADS, each)
            found[f"{where}/{part}/bias"] = draw(HEADS, each)
        return found

    def norm(where: str) -> dict[str, np.ndarray]:
        return {f"{where}/scale": draw(WIDTH), f"{where}/bias": draw(WIDTH)}

    def mlp(where: str) -> dict[str, np.ndarray]:
        return {
            f"{where}/Dense_0/kernel": draw(WIDTH, 4 * WIDTH),
            f"{where}/Dense_0/bias": draw(4 * WIDTH),
            f"{where}/Dense_1/kernel": draw(4 * WIDTH, WIDTH),
            f"{where}/Dense_1/bias": draw(WIDTH),
        }

    old = kind == "old"
    tokens = (SIZE // 16) ** 2 + (0 if pooled else 1)
    position = "Transformer/posembed_input/pos_embedding" if old else "pos_embedding"
    arrays = {
        "embedding/kernel": draw(16, 16, 3, WIDTH),
        "embedding/bias": draw(WIDTH),
        position: draw(1, tokens, WIDTH),
        **norm("Transformer/encoder_norm"),
        "head/kernel": draw(WIDTH, 5),
        "head/bias": draw(5),
    }
    if not pooled:
        arrays["cls"] = draw(1, 1, WIDTH)
    else:
        arrays["MAPHead_0/probe"] = draw(1, 1, WIDTH)
        arrays |= attention("MAPHead_0/MultiHeadDotProductAttention_0")
        arrays |= norm("MAPHead_0/LayerNorm_0") | mlp("MAPHead_0/MlpBlock_0")
    blocks = [
        norm("LayerNorm_0")
        | norm("LayerNorm_2" if old else "LayerNorm_1")
        | attention(f"MultiHeadDotProductAttention_{1 if old else 0}")
        | mlp("MlpBlock_3" if old else "MlpBlock_0")
        for _ in range(DEPTH)
    ]
    if kind == "scanned":
        for name in blocks[0]:
            arrays[f"Transformer/encoderblock/{name}"] = np.stack([b[name] for b in blocks])
    else:
        for number, block in enumerate(blocks):
            for name, array in block.items():
                arrays[f"Transformer/encoderblock_{number}/{name}"] = array
    if kind == "two towers":
        arrays = {f"params/img/{name}": array for name, array in arrays.items()}
        arrays |= {"params/t": draw(1), "params/b": draw(1), "params/txt/head/bias": draw(4)}
    return arrays


@pytest.mark.parametrize(
    ("kind", "pooled"),
    [("old", False), ("plain", False), ("scanned", False), ("plain", True), ("two towers", True)],
)
def test_arrays_become_what_timm_makes_of_them(tmp_path: Path, kind: str, pooled: bool) -> None:
    path = tmp_path / "vit.npz"
    np.savez(path, **_arrays(kind, pooled))
    reference = timm.create_model(
        "vit_tiny_patch16_224", embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, img_size=SIZE,
        num_classes=5, global_pool="map" if pooled else "token", class_token=not pooled,
    )  # fmt: skip
    with torch.no_grad():
        _load_weights(reference, str(path))
    expected = reference.state_dict()
    checkpoint = read_checkpoint(path)
    assert checkpoint.notes[0] == "arrays of JAX got PyTorch's order of axes"
    assert key_layout(checkpoint.state.keys()) == "flax-vit"
    shapes = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    found = convert(checkpoint.state, shapes, KEY_LAYOUTS["flax-vit"]("vit_tiny_patch16_224"))
    assert not found.report.fresh
    assert all(torch.equal(found.state[name], expected[name]) for name in expected)


def test_halves_of_no_kind_are_bfloat16(tmp_path: Path) -> None:
    values = torch.randn(3, 4).bfloat16()
    raw = values.view(torch.int16).numpy().view("V2")
    np.savez(tmp_path / "a.npz", **{"layer/kernel": raw})
    state = read_checkpoint(tmp_path / "a.npz").state
    assert torch.equal(state["layer.weight"], values.float().T)


def test_kernels_of_every_rank_and_plain_arrays(tmp_path: Path) -> None:
    arrays = {
        "a/kernel": np.arange(2 * 3 * 4 * 5 * 6.0).reshape(2, 3, 4, 5, 6),
        "b/kernel": np.arange(12.0).reshape(3, 4).astype(">f4"),
        "gn/scale": np.ones((1, 1, 1, 7)),
        "count": np.int64(3),
    }
    np.savez(tmp_path / "a.npz", **arrays)
    state = read_checkpoint(tmp_path / "a.npz").state
    assert state["a.weight"].shape == (6, 5, 2, 3, 4)
    assert float(state["a.weight"][5, 2, 1, 0, 3]) == arrays["a/kernel"][1, 0, 3, 2, 5]
    assert float(state["b.weight"][2, 1]) == 6.0
    assert state["gn.weight"].shape == (7,)
    np.savez(tmp_path / "b.npz", weight=np.ones((2, 3)))
    assert read_checkpoint(tmp_path / "b.npz").state["weight"].shape == (2, 3)


def test_python_objects_in_arrays_are_never_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(SourceError, match="Python objects, which are never opened"):
        read_checkpoint(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", a=np.array(["text"]))
    with pytest.raises(SourceError, match="an array of <U4, expected numbers"):
        read_checkpoint(tmp_path / "b.npz")
