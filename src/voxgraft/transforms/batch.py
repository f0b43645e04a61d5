"""Augmentation of whole batches on the device where they are trained on.

What happens to a sample depends on ``(seed, index of the sample)`` alone: its numbers are drawn
on the CPU from a stream of its own, one number for each purpose, so that a batch equals its
samples one by one, every device draws the same, and a probability that changes moves nothing
else. Steps touch only the samples that they were drawn for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from voxgraft.errors import PreprocessingError
from voxgraft.transforms.augmentation import Augmentation
from voxgraft.transforms.draws import Drawn, draw
from voxgraft.transforms.grid_sampling import resample_slices, resample_volumes
from voxgraft.types import Spacing3


def augment(
    batch: Float[Tensor, "b c d h w"],
    augmentation: Augmentation,
    seed: int,
    background: float = 0.0,
    *,
    spacing_mm: Spacing3 = (1.0, 1.0, 1.0),
    first_index: int = 0,
) -> Float[Tensor, "b c d h w"]:
    """Augment a batch.

    In this order: flips; rotation, scale, shear and translation by one trilinear resampling
    about the center (a bilinear one, slice by slice and several times as fast, of samples that
    move within their slices only); blur; noise; intensity scale and shift; gamma. Geometry is the
    same for all channels of a sample. What comes in from outside has the background's value.
    Values are not clipped afterwards: noise on windowed volumes leaves [0, 1].

    Args:
        batch: (B, C, D, H, W), floating point, on any device. It is not changed.
        augmentation: Ranges and probabilities.
        seed: Decides everything; take it from (seed of the run, step).
        background: Value of the voxels outside, after normalization.
        spacing_mm: (depth, height, width) of the voxels, for what is given in degrees and mm.
        first_index: Index of the batch's first sample; ``augment(batch[i:i+1], ...,
            first_index=i)`` is sample ``i`` of the whole batch's result.

    Returns:
        A batch of the same shape, dtype and device; ``batch`` itself if nothing was drawn.
        On the CPU, the same bits each time; on other devices the same parameters, with noise
        from the device's own generator.

    Raises:
        PreprocessingError: If the batch is not a floating-point batch of volumes, or a spacing
            is not positive.
    """
    if batch.ndim != 5 or not batch.is_floating_point():
        raise PreprocessingError(
            f"a batch to augment has shape {tuple(batch.shape)} and dtype {batch.dtype}. Expected "
            "(batch, channels, depth, height, width) in floating point."
        )
    if not all(0 < mm < np.inf for mm in spacing_mm):
        raise PreprocessingError(
            f"spacing_mm is {tuple(spacing_mm)}. Expected positive numbers of mm for (depth, "
            "height, width)."
        )
    if len(batch) == 0:
        return batch
    drawn = draw(augmentation, seed, range(first_index, first_index + len(batch)))
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if not drawn.anything:
        return batch
    work = batch.to(torch.float32)
    for axis in range(3):
        work = _changed(work, batch, drawn.flipped[:, axis], torch.flip, (axis + 2,))
    for chosen, resample in (
        (drawn.moved & ~drawn.within_slices, resample_volumes),
        (drawn.moved & drawn.within_slices, resample_slices),
    ):
        # From mm to voxels: a rotation stays one where voxels are anisotropic.
        matrices = np.linalg.inv(drawn.matrices_mm[chosen])
        matrices = matrices * spacing[None, None, :] / spacing[None, :, None]
        shifts = drawn.translation_mm[chosen] / spacing
        work = _changed(work, batch, chosen, resample, matrices, shifts, background)
    work = change_values(_own(work, batch), drawn, augmentation, spacing)
    return work.to(batch.dtype)


def change_values(
    work: Float[Tensor, "b c d h w"],
    drawn: Drawn,
    augmentation: Augmentation,
    spacing_mm: Float[np.ndarray, " 3"],
) -> Float[Tensor, "b c d h w"]:
    """Blur, add noise, scale, shift and apply gamma, as drawn, in place.

    Args:
        work: float32, of which the caller has the only use.
        drawn: For each sample.
        augmentation: What it was drawn from.
        spacing_mm: (depth, height, width) of the voxels.
    """
    blurred = drawn.blur_sigma_mm > 0
    for rows in _rows(blurred, work):
        radii = np.ceil(3.0 * augmentation.blur_sigma_mm[1] / spacing_mm).astype(int)
        work[rows] = _blur(work[rows], drawn.blur_sigma_mm[blurred, None] / spacing_mm, radii)
    for row in np.flatnonzero(drawn.noise_sd > 0):
        generator = torch.Generator(device=work.device).manual_seed(int(drawn.noise_seed[row]))
        noise = torch.randn(work.shape[1:], generator=generator, device=work.device)
        work[row] += noise.mul_(float(drawn.noise_sd[row]))
    scaled = (drawn.intensity_scale != 1) | (drawn.intensity_shift != 0)
    for rows in _rows(scaled, work):
        factor = _per_sample(drawn.intensity_scale[scaled], work)
        work[rows] = work[rows] * factor + _per_sample(drawn.intensity_shift[scaled], work)
    for row in np.flatnonzero(drawn.gamma != 1):
        # One by one: a vectorized power may differ in the last bit between sample and batch.
        work[row] = _apply_gamma(work[row], float(drawn.gamma[row]))
    return work


def _rows(chosen: Bool[np.ndarray, " b"], like: Tensor) -> list[Tensor]:
    """Return the indices of the chosen samples as a tensor, in a list; no tensor if none is."""
    rows = np.flatnonzero(chosen)
    return [torch.from_numpy(rows).to(like.device)] if rows.size else []


def _changed(
    work: Float[Tensor, "b c d h w"],
    given: Tensor,
    chosen: Bool[np.ndarray, " b"],
    change: Callable[..., Tensor],
    *arguments: Any,
) -> Float[Tensor, "b c d h w"]:
    """Return the batch with the chosen samples changed; where all are, nothing is copied."""
    if chosen.all():
        return change(work, *arguments)
    for rows in _rows(chosen, work):
        work = _own(work, given)
        work[rows] = change(work[rows], *arguments)
    return work


def _own(work: Tensor, given: Tensor) -> Tensor:
    """Return memory that may be written to: not what the caller gave."""
    return work.clone() if work.data_ptr() == given.data_ptr() else work


def _per_sample(values: Float[np.ndarray, " b"], like: Tensor) -> Float[Tensor, "b 1 1 1 1"]:
    column = torch.from_numpy(values.astype(np.float32)).to(like.device)
    return column.reshape(-1, 1, 1, 1, 1)


def _blur(
    batch: Float[Tensor, "b c d h w"],
    sigmas: Float[np.ndarray, "b 3"],
    radii: np.ndarray,
) -> Float[Tensor, "b c d h w"]:
    """Convolve with Gaussians, an axis at a time; outside lies the nearest voxel's value."""
    for axis in range(3):
        radius = int(radii[axis])
        kernels = np.exp(-0.5 * (np.arange(radius + 1) / sigmas[:, axis, None]) ** 2)
        kernels /= kernels[:, :1] + 2 * kernels[:, 1:].sum(axis=1, keepdims=True)
        size = batch.shape[2 + axis]
        padding = [0] * 6
        padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = radius
        padded = functional.pad(batch, padding, mode="replicate")
        batch = batch * _per_sample(kernels[:, 0], batch)
        for step in range(1, radius + 1):
            both = padded.narrow(2 + axis, radius - step, size)
            both = both + padded.narrow(2 + axis, radius + step, size)
            batch += both.mul_(_per_sample(kernels[:, step], batch))
    return batch


def _apply_gamma(sample: Float[Tensor, "c d h w"], exponent: float) -> Float[Tensor, "c d h w"]:
    """Raise the values, as fractions of the sample's range, to a power."""
    low, high = sample.amin(), sample.amax()
    extent = (high - low).clamp_min(torch.finfo(torch.float32).tiny)
    return ((sample - low) / extent).pow(exponent) * extent + low
