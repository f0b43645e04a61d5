"""What augmentation does to each sample, as numbers drawn from a stream of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from voxgraft.transforms.augmentation import AXES, Augmentation

_DRAWS = 32
"""Uniform numbers that are drawn for a sample; each slot has one meaning."""

_STREAM = 0x617567
"""Sets these random streams apart from others of the same seed."""


@dataclass(frozen=True)
class Drawn:
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

    def only(self, row: int) -> Drawn:
        """Return what was drawn for one sample."""
        return Drawn(**{name: values[row : row + 1] for name, values in vars(self).items()})

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


def draw(augmentation: Augmentation, seed: int, indices: range) -> Drawn:
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
    return Drawn(
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
