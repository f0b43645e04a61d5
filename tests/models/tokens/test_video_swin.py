"""Video Swin: as torchvision and the authors compute it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import video

from voxgraft.grafting import graft
from voxgraft.models import MODELS, Encoder, ModelEntry
from voxgraft.models.tokens import video_swin
from voxgraft.weights import InputContract, LocalFile, Source
from voxgraft.weights.layouts import key_layout

TOLERANCE = 1e-4  # relative to the largest value; issue 3, "It must show" 1
SMALL_SWIN = video_swin.VideoSwinConfig(
    width=8, depths=(2, 2, 2, 1), heads=(1, 1, 2, 2), window=(2, 3, 2), reference="small"
)
ENTRIES = {
    "small_swin": ModelEntry(
        name="small_swin", description="in small", family="video_swin", native="video",
        build=partial(video_swin.build_video_swin, SMALL_SWIN),
    )
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    for name, entry in ENTRIES.items():
        MODELS.register(name, entry)
    yield
    for name in ENTRIES:
        del MODELS._items[name]


def _drawn(network: nn.Module) -> Any:
    """Give every parameter values under which nothing is trivial: tables and biases too."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan = parameter[0].numel() if parameter.ndim > 1 and "rel" not in name else 4
            shift = 1.0 if name.endswith("weight") and parameter.ndim == 1 else 0.0
            parameter.copy_(shift + noise * fan**-0.5 * (0.2 if shift else 1.0))
    return network.eval()


def _graft(
    folder: Path, state: Mapping[str, Tensor], architecture: str, layout: str, **options: Any
) -> Any:
    path = folder / "file.safetensors"
    save_file({name: tensor.clone() for name, tensor in state.items()}, path)
    stem = ENTRIES[architecture].build(seed=0).declaration.stem.removesuffix(".weight")
    source = Source(
        id="video.small", file=LocalFile(path=str(path)), sha256=None, layout="video",
        input=InputContract(channels=3, mean=(0.45,) * 3, sd=(0.225,) * 3),
        architecture=architecture, stem=(stem,), head=("head",), parameters=None,
        key_layout=layout,
    )  # fmt: skip
    result = graft(source, architecture, **options)
    report = result.report
    assert key_layout(state.keys()) == layout
    assert report.coverage == 1.0
    used = " + ".join(v["from"] for v in (*report.loaded, *report.adapted)).split(" + ")
    assert sorted(used + [v["name"] for v in report.dropped]) == sorted(state)
    return result


def _clip(*size: int, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(5))


def _assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    scale = float(expected.abs().max())
    assert scale > 1e-2
    assert float((found - expected).abs().max()) / scale < TOLERANCE


def _torchvision_swin() -> Any:
    return _drawn(
        video.SwinTransformer3d(
            patch_size=[2, 4, 4], embed_dim=8, depths=[2, 2, 2, 1], num_heads=[1, 1, 2, 2],
            window_size=[2, 3, 2], num_classes=5,
        )
    )  # fmt: skip


@pytest.mark.parametrize("channels", [3, 1])
def test_swin_is_torchvisions(tmp_path: Path, channels: int) -> None:
    reference = _torchvision_swin()
    result = _graft(
        tmp_path, reference.state_dict(), "small_swin", "torchvision-swin3d", in_channels=channels
    )
    assert result.report.parity.relative_error < TOLERANCE
    reference.head = nn.Identity()
    encoder = result.encoder.eval()
    taps: list[Tensor] = []
    for index in (0, 2, 4, 6):
        reference.features[index].register_forward_hook(lambda *a: taps.append(a[2]))
    # Odd on purpose: patches, windows and merging have to fill up.
    volume = _clip(7, 45, 50, channels=channels)
    with torch.no_grad():
        _assert_close(encoder(volume), reference(volume.expand(-1, 3, -1, -1, -1)))
        stages = encoder.forward_stages(volume)
        features = encoder.forward_features(volume)
        _assert_close(encoder.pool(features), encoder(volume))
    for found, expected in zip(stages, taps, strict=True):
        _assert_close(found, expected.permute(0, 4, 1, 2, 3))


class AuthorsWindows(nn.Module):
    """Video Swin's window attention as its paper has it, computed window by window.

    Written from the paper and the released configuration, for this test alone: the mask is made
    of the regions that a window holds after the shift, the bias is looked up pair by pair.
    """

    def __init__(self, width: int, heads: int, window: tuple[int, ...], shifted: bool) -> None:
        super().__init__()
        self.window, self.heads, self.shifted = window, heads, shifted
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        rows = (2 * window[0] - 1) * (2 * window[1] - 1) * (2 * window[2] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, heads))
        count = window[0] * window[1] * window[2]
        index = torch.zeros(count, count, dtype=torch.long)
        places = [(d, h, w) for d in range(window[0]) for h in range(window[1])
                  for w in range(window[2])]  # fmt: skip
        for i, a in enumerate(places):
            for j, b in enumerate(places):
                d, h, w = (x - y + n - 1 for x, y, n in zip(a, b, window, strict=True))
                index[i, j] = (d * (2 * window[1] - 1) + h) * (2 * window[2] - 1) + w
        self.register_buffer("relative_position_index", index)

    def forward(self, x: Tensor) -> Tensor:
        sizes = x.shape[1:4]
        assert all(size > n for size, n in zip(sizes, self.window, strict=True))
        full = [-(-size // n) * n for size, n in zip(sizes, self.window, strict=True)]
        beyond = [a - b for a, b in zip(full, sizes, strict=True)]
        x = F.pad(x, (0, 0, 0, beyond[2], 0, beyond[1], 0, beyond[0]))
        shift = [n // 2 if self.shifted else 0 for n in self.window]
        x = x.roll([-s for s in shift], (1, 2, 3))
        out = torch.zeros_like(x)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        # Along an axis, the last window of a shifted map holds two regions that are no neighbors.
        region = [
            torch.tensor([0 if i < n - w else (1 if i < n - s or s == 0 else 2) for i in range(n)])
            for n, w, s in zip(full, self.window, shift, strict=True)
        ]
        for d in range(0, full[0], self.window[0]):
            for h in range(0, full[1], self.window[1]):
                for w in range(0, full[2], self.window[2]):
                    cut = tuple(
                        slice(start, start + n)
                        for start, n in zip((d, h, w), self.window, strict=True)
                    )
                    tokens = x[(slice(None), *cut)].flatten(1, 3)
                    ids = torch.cartesian_prod(*(r[c] for r, c in zip(region, cut, strict=True)))
                    apart = (ids[:, None] != ids[None]).any(-1).float() * -100.0
                    q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).unbind(2)
                    scores = torch.einsum("bihc,bjhc->bhij", q, k) * q.shape[-1] ** -0.5
                    weights = (scores + bias + apart).softmax(-1)
                    answer = self.proj(torch.einsum("bhij,bjhc->bihc", weights, v).flatten(2))
                    out[(slice(None), *cut)] = answer.view(
                        len(x), *(c.stop - c.start for c in cut), -1
                    )
        out = out.roll(shift, (1, 2, 3))
        return out[:, : sizes[0], : sizes[1], : sizes[2]]


class AuthorsBlock(nn.Module):
    def __init__(self, width: int, heads: int, window: tuple[int, ...], shifted: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = AuthorsWindows(width, heads, window, shifted)
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))


class AuthorsSwin(nn.Module):
    """Two stages of Video Swin with the names that the authors' files have after ``backbone.``."""

    def __init__(self, widths: list[int], heads: list[int], window: tuple[int, ...]) -> None:
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv3d(3, widths[0], (2, 4, 4), stride=(2, 4, 4))
        self.patch_embed.norm = nn.LayerNorm(widths[0])
        self.layers = nn.ModuleList()
        for index, (width, count) in enumerate(zip(widths, heads, strict=True)):
            layer = nn.Module()
            blocks = 1 if index == 3 else 2
            layer.blocks = nn.ModuleList(
                AuthorsBlock(width, count, window, number % 2 == 1) for number in range(blocks)
            )
            if index < 3:
                layer.downsample = nn.Module()
                layer.downsample.reduction = nn.Linear(4 * width, 2 * width, bias=False)
                layer.downsample.norm = nn.LayerNorm(4 * width)
            self.layers.append(layer)
        self.norm = nn.LayerNorm(widths[-1])

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed.norm(self.patch_embed.proj(x).permute(0, 2, 3, 4, 1))
        for layer in self.layers:
            for block in layer.blocks:
                x = block(x)
            if hasattr(layer, "downsample"):
                corners = [x[:, :, i::2, j::2] for j in (0, 1) for i in (0, 1)]
                x = layer.downsample.reduction(layer.downsample.norm(torch.cat(corners, dim=-1)))
        return self.norm(x)


def test_video_swins_own_files_compute_the_same(tmp_path: Path) -> None:
    """``backbone.*`` and ``cls_head.fc_cls`` of the authors' files, indices included."""
    original = _drawn(AuthorsSwin([8, 16, 32, 64], [1, 1, 2, 2], SMALL_SWIN.window))
    state = {f"backbone.{name}": tensor for name, tensor in original.state_dict().items()}
    state["cls_head.fc_cls.weight"] = torch.ones(5, 64)
    state["cls_head.fc_cls.bias"] = torch.ones(5)
    result = _graft(tmp_path, state, "small_swin", "video-swin", in_channels=3)
    assert result.report.parity.max_abs_error == 0.0
    indices = [v for v in result.report.dropped if v["name"].endswith("relative_position_index")]
    assert len(indices) == 7
    assert "no weight" in indices[0]["because"]
    # 6 × 128 × 96 voxels: every map is larger than its window, the third is filled up.
    volume = _clip(6, 128, 96)
    with torch.no_grad():
        expected = original(volume).permute(0, 4, 1, 2, 3)
        _assert_close(result.encoder.eval().forward_features(volume), expected)


@pytest.mark.parametrize("name", ENTRIES)
def test_any_size_runs(name: str) -> None:
    encoder: Encoder = ENTRIES[name].build(in_channels=1, seed=0).eval()
    strides = encoder.declaration.strides
    with torch.no_grad():
        for size in ((1, 1, 1), (3, 40, 97), (9, 33, 64)):
            stages = encoder.forward_stages(_clip(*size, channels=1))
            for stage, stride in zip(stages, strides, strict=True):
                grid = tuple(-(-n // s) for n, s in zip(size, stride, strict=True))
                assert tuple(stage.shape[2:]) == grid
                assert stage.isfinite().all()


@pytest.mark.parametrize("name", ENTRIES)
def test_gradient_checkpointing_gives_the_same_gradients(name: str) -> None:
    encoder: Encoder = ENTRIES[name].build(in_channels=1, seed=0).train()
    gradients = []
    for on in (False, True):
        encoder.set_gradient_checkpointing(on)
        encoder.zero_grad()
        encoder(_clip(4, 64, 64, channels=1)).square().sum().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


@pytest.mark.parametrize("name", ["swin3d_t", "swin3d_s", "swin3d_b"])
def test_torchvisions_published_configurations_are_ours(name: str) -> None:
    with torch.device("meta"):
        theirs = getattr(video, name)(weights=None).state_dict()
        ours = MODELS.get(name).build(in_channels=3)
    expected = {
        key: tensor.shape
        for key, tensor in theirs.items()
        if not key.startswith("head") and not key.endswith("position_index")
    }
    assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == expected
    assert ours.declaration.reference == f"torchvision.models.video.{name}"
