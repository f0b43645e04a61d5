"""Augmentation of whole batches on the device where they are trained on.

What happens to a sample depends on ``(seed, index of the sample)`` alone: its numbers are drawn
on the CPU from a stream of its own, one number for each purpose, so that a batch equals its
samples one by one, every device draws the same, and a probability that changes moves nothing
else. Steps touch only the samples that they were drawn for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from voxgraft.errors import PreprocessingError
from voxgraft.transforms.augmentation import AXES, Augmentation
from voxgraft.transforms.grid_sampling import resample_slices, resample_volumes
from voxgraft.types import Spacing3

_DRAWS = 32
"""Uniform numbers that are drawn for a sample; each slot has one meaning."""

_STREAM = 0x617567
"""Sets these random streams apart from others of the same seed."""


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
    drawn = _draw(augmentation, seed, range(first_index, first_index + len(batch)))
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
    work = _own(work, batch)
    blurred = drawn.blur_sigma_mm > 0
    for rows in _rows(blurred, work):
        radii = np.ceil(3.0 * augmentation.blur_sigma_mm[1] / spacing).astype(int)
        work[rows] = _blur(work[rows], drawn.blur_sigma_mm[blurred, None] / spacing, radii)
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
    return work.to(batch.dtype)


@dataclass(frozen=True)
class _Drawn:
    """What was drawn for each of B samples; a step that does not happen has its neutral value."""

    flipped: Bool[np.ndarray, "b 3"]
    matrices_mm: Float[np.ndarray, "b 3 3"]
    translation_mm: Float[np.ndarray, "b 3"]
    intensity_shift: Float[np.ndarray, " b"]
    intensity_scale: Float[np.ndarray, " b"]
    gamma: Float[np.ndarray, " b"]
    noise_sd: Float[np.ndarray, " b"]
    noise_seed: Float[np.ndarray, " b"]
    blur_sigma_mm: Float[np.ndarray, " b"]

    @property
    def moved(self) -> Bool[np.ndarray, " b"]:
        """Which samples are resampled."""
        turned = (self.matrices_mm != np.eye(3)).any(axis=(1, 2))
        moved: Bool[np.ndarray, " b"] = turned | (self.translation_mm != 0).any(axis=1)
        return moved

    @property
    def within_slices(self) -> Bool[np.ndarray, " b"]:
        """Which samples stay in their slices: nothing goes along depth, or depends on it."""
        across = self.matrices_mm - np.eye(3)
        across[:, 1:, 1:] = 0.0
        within: Bool[np.ndarray, " b"] = ~across.any(axis=(1, 2)) & (self.translation_mm[:, 0] == 0)
        return within

    @property
    def anything(self) -> bool:
        """Whether any step happens to any sample."""
        steps = (
            self.flipped.any(),
            self.moved.any(),
            (self.intensity_shift != 0).any(),
            (self.intensity_scale != 1).any(),
            (self.gamma != 1).any(),
            (self.noise_sd > 0).any(),
            (self.blur_sigma_mm > 0).any(),
        )
        return any(bool(step) for step in steps)


def _draw(augmentation: Augmentation, seed: int, indices: range) -> _Drawn:
    """Draw the parameters of samples from their own streams."""
    a = augmentation
    streams = [np.random.default_rng((int(seed) % 2**64, index, _STREAM)) for index in indices]
    u = np.stack([stream.random(_DRAWS) for stream in streams])
    happens = {
        "rotation": u[:, 3] < a.rotation_probability,
        "scale": u[:, 7] < a.scale_probability,
        "shear": u[:, 9] < a.shear_probability,
        "translation": u[:, 16] < a.translation_probability,
        "shift": u[:, 20] < a.intensity_shift_probability,
        "factor": u[:, 22] < a.intensity_scale_probability,
        "gamma": u[:, 24] < a.gamma_probability,
        "noise": u[:, 26] < a.noise_probability,
        "blur": u[:, 29] < a.blur_probability,
    }
    may_flip = np.array([axis in a.flip_axes for axis in AXES])
    angles = np.radians((2 * u[:, 4:7] - 1) * a.rotation_degrees) * happens["rotation"][:, None]
    scales = np.where(happens["scale"], _log_uniform(a.scale, u[:, 8]), 1.0)
    shears = (2 * u[:, 10:16] - 1) * a.shear * happens["shear"][:, None]
    matrices = np.stack(
        [_matrix_mm(*values, a.in_plane) for values in zip(angles, scales, shears, strict=True)]
    )
    translation = (2 * u[:, 17:20] - 1) * a.translation_mm * happens["translation"][:, None]
    return _Drawn(
        flipped=(u[:, 0:3] < a.flip_probability) & may_flip,
        matrices_mm=matrices,
        translation_mm=translation,
        intensity_shift=(2 * u[:, 21] - 1) * a.intensity_shift * happens["shift"],
        intensity_scale=np.where(happens["factor"], _uniform(a.intensity_scale, u[:, 23]), 1.0),
        gamma=np.where(happens["gamma"], _log_uniform(a.gamma, u[:, 25]), 1.0),
        noise_sd=np.where(happens["noise"], _uniform(a.noise_sd, u[:, 27]), 0.0),
        noise_seed=np.floor(u[:, 28] * 2**53),
        blur_sigma_mm=np.where(happens["blur"], _uniform(a.blur_sigma_mm, u[:, 30]), 0.0),
    )


def _uniform(bounds: tuple[float, float], u: Float[np.ndarray, " b"]) -> Float[np.ndarray, " b"]:
    return bounds[0] + u * (bounds[1] - bounds[0])


def _log_uniform(
    bounds: tuple[float, float], u: Float[np.ndarray, " b"]
) -> Float[np.ndarray, " b"]:
    drawn: Float[np.ndarray, " b"] = bounds[0] * (bounds[1] / bounds[0]) ** u
    return drawn


def _matrix_mm(
    angles: Float[np.ndarray, " 3"], scale: float, shears: Float[np.ndarray, " 6"], in_plane: bool
) -> Float[np.ndarray, "3 3"]:
    """Return the matrix that moves the content, in mm: scale, then shears, then rotations.

    With ``in_plane``, scale and shears leave depth alone.
    """
    matrix = np.eye(3)
    if shears.any():
        matrix[~np.eye(3, dtype=bool)] = shears
    matrix *= scale
    if in_plane:
        matrix[0, :] = matrix[:, 0] = np.eye(3)[0]
    for axis in (2, 1, 0):
        if angles[axis]:
            first, second = (index for index in range(3) if index != axis)
            cosine, sine = np.cos(angles[axis]), np.sin(angles[axis])
            rotation = np.eye(3)
            rotation[[first, second], [first, second]] = cosine
            rotation[first, second], rotation[second, first] = -sine, sine
            matrix = rotation @ matrix
    return matrix


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
