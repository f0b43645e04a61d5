"""Why a trained network scores a study as it does: which slices, and where in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from voxgraft.datasets import Windows, pool_windows
from voxgraft.errors import InferenceError
from voxgraft.feeds import cut_windows
from voxgraft.feeds.volumes import crop_start
from voxgraft.inference.grad_cam import GradCam
from voxgraft.inference.occlusion import occlusion
from voxgraft.inference.predict import check_predicts_scans
from voxgraft.models import Network
from voxgraft.runs import TrainedRun
from voxgraft.types import Size3

Method = Literal["grad_cam", "occlusion"]
METHODS: tuple[Method, ...] = get_args(Method)
BOXES: Size3 = (6, 6, 6)
"""Boxes that occlusion covers in turn, along (depth, height, width)."""


class SeenWindow(NamedTuple):
    """One window of a study, or the whole of it."""

    first_slice: int
    """May be negative: a study shorter than a window lies in its middle."""
    score: float
    """What the network says of the window alone: a probability, or a value in the target's unit."""
    attention: float | None
    """Its share of the study's vector; None without attention over windows."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where a network looked. Evidence of what moves its output, no proof of a cause."""

    heat: Float[np.ndarray, "d h w"]
    """float32 from 0 to 1, on the preprocessed study's grid. 1 is the study's own maximum; all
    zero where nothing speaks for the output."""
    windows: tuple[SeenWindow, ...]
    window_slices: int
    """Slices of a window."""
    windowed: bool
    """Whether the study is seen through windows; else the one window is the whole study."""
    score: float
    """Of the study."""
    output: int
    """Which output is explained."""
    method: Method

    @property
    def slice_profile(self) -> Float[np.ndarray, " d"]:
        """Of each slice the largest score of the windows that hold it.

        Of a study that is seen whole, that is its score in every slice.
        """
        return self._over_slices([window.score for window in self.windows])

    @property
    def slice_attention(self) -> Float[np.ndarray, " d"] | None:
        """Of each slice the largest attention of the windows that hold it; None without."""
        weights = [w.attention for w in self.windows if w.attention is not None]
        return self._over_slices(weights) if weights else None

    @property
    def slice_heat(self) -> Float[np.ndarray, " d"]:
        """Of each slice the largest heat in it."""
        return np.asarray(self.heat.max(axis=(1, 2)))

    def telling_slices(self, most: int = 3) -> tuple[int, ...]:
        """Return the slices to look at, not next to each other: a tenth of the study apart.

        First the hottest slice of the window with the largest score, as windows have heat too that
        the study's score leaves out; then the hottest slices elsewhere. With attention, and of a
        study seen whole, simply the hottest ones. Without any heat it is the middle slice.
        """
        heat = self.slice_heat
        if not heat.max() > 0:
            return (len(heat) // 2,)
        order = np.argsort(-heat, kind="stable").tolist()
        if self.windowed and self.windows[0].attention is None:
            first = max(self.windows, key=lambda window: window.score).first_slice
            order = [at for at in order if first <= at < first + self.window_slices][:1] + order
        apart = max(1, len(heat) // 10)
        chosen: list[int] = []
        for place in order:
            if all(abs(place - other) >= apart for other in chosen) and heat[place] > 0:
                chosen.append(place)
        return tuple(chosen[:most])

    def _over_slices(self, values: list[float]) -> Float[np.ndarray, " d"]:
        profile = np.full(len(self.heat), -np.inf)
        for window, value in zip(self.windows, values, strict=True):
            end = window.first_slice + self.window_slices
            held = profile[max(0, window.first_slice) : max(0, end)]
            np.maximum(held, value, out=held)
        return profile


def explain(
    run: TrainedRun,
    image: Float[np.ndarray, "c d h w"],
    *,
    output: int = 0,
    method: Method = "grad_cam",
    boxes: Size3 = BOXES,
) -> Explanation:
    """Find the places of a study that speak for an output.

    Of a study seen through windows, each window is explained; where several windows hold a voxel,
    its heat is their mean, and what no window holds has none. Without attention over windows it is
    the window's own output that is explained, also of a window that the study's score leaves out;
    with attention it is the study's, through all its windows. Heat is comparable between windows,
    and is divided by its maximum over the study.

    Args:
        run: A trained run.
        image: A preprocessed study.
        output: Which output: 0 of a binary target (its second class) or of a regression; the
            class's or label's index otherwise.
        method: ``"grad_cam"``, see :class:`~voxgraft.inference.grad_cam.GradCam`; or
            ``"occlusion"``: the drop of the output where a box of the study is background, for
            any network, with one prediction a box and window.
        boxes: With occlusion: boxes along (depth, height, width) of a window.

    Raises:
        InferenceError: If an argument is impossible, Grad-CAM has no map of this network, or the
            result is not finite.
        ModelError: If the study does not fit the network.
        RunError: If the run was trained on clips of videos.
    """
    _check(run, image, output, method, boxes)
    network, windows = run.network, run.recipe.seen_windows
    background = run.background_of(image)
    parts = image[None] if windows is None else cut_windows(image, windows, background)
    given = torch.from_numpy(np.ascontiguousarray(parts, np.float32)).to(network.input_mean.device)
    with torch.no_grad():
        vectors = network.forward_pooled(given)
    if not bool(torch.isfinite(vectors).all()):
        raise InferenceError(
            f"the run in {run.folder} makes values of this study that are not finite: there is "
            "nothing to explain. See whether the scan's intensities are sensible."
        )
    study, alone, attention, directions = _scores(run, vectors, output)
    size: Size3 = (given.shape[2], given.shape[3], given.shape[4])
    cam = GradCam(network, size) if method == "grad_cam" else None
    total = np.zeros(image.shape[1:], dtype=np.float32)
    seen = np.zeros(image.shape[1:], dtype=np.float32)
    starts = (0,) if windows is None else windows.starts(image.shape[1])
    for place, first in enumerate(starts):
        if cam is not None:
            heat = cam.heat(given[place], directions[place], vectors[place])
        else:
            outputs = _outputs(network, vectors, place, output)
            heat = occlusion(given[place], outputs, background=background, boxes=boxes)
        inside, box = _placed(image.shape[1:], windows, first, size)
        total[inside] += heat.cpu().numpy()[box]
        seen[inside] += 1
    total /= np.maximum(seen, 1)
    highest = float(total.max())
    weights = [None] * len(starts) if attention is None else attention.tolist()
    return Explanation(
        heat=total / highest if highest > 0 else total,
        windows=tuple(map(SeenWindow, starts, alone.tolist(), weights)),
        window_slices=size[0],
        windowed=windows is not None,
        score=study,
        output=output,
        method=method,
    )


def _check(
    run: TrainedRun, image: Float[np.ndarray, "c d h w"], output: int, method: str, boxes: Size3
) -> None:
    check_predicts_scans(run)
    if image.ndim != 4 or image.shape[0] != run.volume_channels:
        raise InferenceError(
            f"the study has shape {image.shape}; expected ({run.volume_channels}, depth, height, "
            f"width), as the run in {run.folder} was trained. Give preprocess(...).voxels."
        )
    if not 0 <= output < run.network.outputs:
        raise InferenceError(
            f"output is {output}; the run in {run.folder} has {run.network.outputs}. Expected "
            f"from 0 to {run.network.outputs - 1}."
        )
    if method not in METHODS:
        raise InferenceError(f"method is {method!r}; expected {' or '.join(map(repr, METHODS))}.")
    if len(boxes) != 3 or min(boxes) < 1:
        raise InferenceError(f"boxes is {boxes!r}; expected three whole numbers of at least 1.")


def _scores(
    run: TrainedRun, vectors: Float[Tensor, "m n"], output: int
) -> tuple[float, np.ndarray, np.ndarray | None, Float[Tensor, "m n"]]:
    """Return scores of the study and its windows, attention, and the output's gradient each."""
    network, windows = run.network, run.recipe.seen_windows
    with torch.no_grad():
        alone = run.task.decode(network.head(vectors).cpu())
    if network.windows is None:
        directions = network.head.weight[output].detach().expand(len(vectors), -1)
        pooled = alone
        if windows is not None:
            studies = np.zeros(len(vectors), dtype=np.int64)
            pooled = pool_windows(alone, studies, 1, windows.aggregate, top_k=windows.top_k)
        return float(pooled[0, output]), alone[:, output], None, directions
    leaf = vectors.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = network.head(network.windows(leaf[None]))
        (directions,) = torch.autograd.grad(logits[0, output], leaf)
    with torch.no_grad():
        attention = network.windows.weights(vectors[None])[0]
    study = run.task.decode(logits.detach().cpu())
    return float(study[0, output]), alone[:, output], attention.cpu().numpy(), directions


def _outputs(
    network: Network, vectors: Float[Tensor, "m n"], place: int, output: int
) -> Callable[[Tensor], Tensor]:
    """Return what gives the output of images in a window's place: with attention, the study's."""

    def outputs(images: Tensor) -> Tensor:
        own = network.forward_pooled(images)
        if network.windows is not None:
            bags = vectors.repeat(len(own), 1, 1)
            bags[:, place] = own
            own = network.windows(bags)
        found: Tensor = network.head(own)[:, output]
        return found

    return outputs


def _placed(
    shape: tuple[int, ...], windows: Windows | None, first: int, size: Size3
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where a window lies in its study, and that part in the window: padding left out."""
    start = (0, 0, 0)
    if windows is not None:
        _, top, left = crop_start((shape[0], shape[1], shape[2]), size, None)
        start = (first, top, left)
    inside, box = [], []
    for begin, length, full in zip(start, size, shape, strict=True):
        low, high = max(0, begin), min(full, begin + length)
        inside.append(slice(low, high))
        box.append(slice(low - begin, high - begin))
    return tuple(inside), tuple(box)
