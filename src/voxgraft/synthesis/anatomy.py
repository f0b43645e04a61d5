"""A made abdomen in Hounsfield units: organs with masks, different in every case.

Real labelled scans cannot be shipped with a program. These bodies have what a segmentation must
cope with (organs that touch, of like density, that move, grow and tilt from case to case; noise,
spacing and field of view that differ) and nothing that could be taken for a patient. A result on
them says that the machinery works, never which start is best for patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from voxgraft.datasets import Structures, Table, read_table, write_structures
from voxgraft.files import atomic_path
from voxgraft.types import Size3
from voxgraft.volumes import Affine, LabelMap, Volume, write_volume


@dataclass(frozen=True)
class _Organ:
    """An ellipsoid: all lengths are shares of the body's half axes (depth, height, width)."""

    center: tuple[float, float, float]
    half: tuple[float, float, float]
    hu: float
    shift: float = 0.06
    """How far the center moves from case to case, as the sd of each axis."""


_ORGANS: dict[str, _Organ] = {
    "lung_right": _Organ((0.62, 0.05, 0.45), (0.40, 0.52, 0.30), -780.0),
    "lung_left": _Organ((0.62, 0.05, -0.45), (0.40, 0.52, 0.28), -780.0),
    "liver": _Organ((0.05, 0.10, 0.42), (0.34, 0.55, 0.42), 105.0),
    "spleen": _Organ((0.10, -0.28, -0.58), (0.22, 0.24, 0.18), 115.0),
    "stomach": _Organ((0.08, 0.38, -0.35), (0.24, 0.26, 0.26), 35.0),
    "kidney_right": _Organ((-0.30, -0.38, 0.40), (0.24, 0.17, 0.15), 175.0),
    "kidney_left": _Organ((-0.24, -0.38, -0.40), (0.24, 0.17, 0.15), 175.0),
    "pancreas": _Organ((-0.12, 0.10, -0.06), (0.10, 0.11, 0.32), 85.0),
    "aorta": _Organ((-0.10, -0.26, -0.06), (0.95, 0.07, 0.06), 220.0, shift=0.02),
    "gallbladder": _Organ((-0.22, 0.36, 0.30), (0.12, 0.12, 0.09), 8.0),
}
ANATOMY: tuple[str, ...] = tuple(_ORGANS)
"""Structures of a made body, by their canonical names."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A made body."""

    scan: Volume
    """HU, int16."""
    labels: LabelMap
    """uint8: k + 1 is structure k of ``ANATOMY``, 0 none."""


def make_anatomy(
    seed: int, *, size_voxels: Size3 = (48, 64, 64), spacing_mm: float = 5.0, noise_hu: float = 15.0
) -> Anatomy:
    """Make a body.

    Args:
        seed: Another seed, another body: build, places, sizes, tilts and densities of the organs,
            contrast and noise.
        size_voxels: (depth, height, width), about; the spacing varies by a tenth around the given
            one, and depth's by a third.
        spacing_mm: Of the voxels.
        noise_hu: Standard deviation of the noise, which is smooth over a voxel.

    Returns:
        Scan and labels on one grid.
    """
    draw = np.random.default_rng((seed, 0x616E61))
    spacing = spacing_mm * np.array(
        [draw.uniform(0.8, 1.3), *([draw.uniform(0.92, 1.08)] * 2)], dtype=float
    )
    axes = [np.linspace(-1.0, 1.0, edge) for edge in size_voxels]
    body = draw.uniform((0.95, 0.72, 0.82), (1.05, 0.86, 0.94))
    grid = [
        axis.reshape([-1 if place == own else 1 for place in range(3)]) / half
        for own, (axis, half) in enumerate(zip(axes, body, strict=True))
    ]
    trunk = grid[1] ** 2 + grid[2] ** 2 + 0.0 * grid[0]
    voxels: Float[np.ndarray, "d h w"] = np.full(size_voxels, -1000.0)
    voxels[trunk < 1.0] = draw.normal(-95.0, 8.0)
    voxels[trunk < draw.uniform(0.72, 0.86)] = draw.normal(48.0, 6.0)
    spine = ((grid[1] + 0.62) / 0.16) ** 2 + (grid[2] / 0.15) ** 2 + 0.0 * grid[0]
    voxels[spine < 1.0] = draw.normal(380.0, 40.0)
    labels: UInt8[np.ndarray, "d h w"] = np.zeros(size_voxels, np.uint8)
    contrast = draw.uniform(0.55, 1.15)
    for number, organ in enumerate(_ORGANS.values(), 1):
        inside = _inside(organ, grid, draw) & (trunk < 0.92) & (spine >= 1.0)
        inside &= labels == 0
        density = 40.0 + (organ.hu - 40.0) * (contrast if organ.hu > 40.0 else 1.0)
        voxels[inside] = density + draw.normal(0.0, 8.0)
        labels[inside] = number
    noise = ndimage.gaussian_filter(draw.standard_normal(size_voxels), 0.6)
    voxels = ndimage.gaussian_filter(voxels, 0.5) + noise * (noise_hu / noise.std())
    affine = Affine.from_spacing(
        (spacing[0], spacing[1], spacing[2]), tuple(draw.uniform(-200.0, 200.0, 3))
    )
    scan = np.clip(np.rint(voxels), -1024, 3071).astype(np.int16)
    return Anatomy(Volume(scan[None], affine), LabelMap(labels, affine))


def _inside(
    organ: _Organ, grid: Sequence[Float[np.ndarray, ...]], draw: np.random.Generator
) -> Bool[np.ndarray, "d h w"]:
    """Return the voxels of an organ: an ellipsoid, moved, scaled, tilted and dented."""
    center = np.array(organ.center) + draw.normal(0.0, organ.shift, 3)
    half = np.array(organ.half) * draw.uniform(0.8, 1.22, 3)
    angle = draw.normal(0.0, 0.2)
    depth, height, width = (axis - own for axis, own in zip(grid, center, strict=True))
    turned = (
        depth,
        np.cos(angle) * height + np.sin(angle) * width,
        np.cos(angle) * width - np.sin(angle) * height,
    )
    radius = sum((axis / own) ** 2 for axis, own in zip(turned, half, strict=True))
    phases = draw.uniform(0.0, 2 * np.pi, 3)
    dents = sum(
        np.sin(6.0 * axis + phase)
        for axis, phase in zip((depth, height, width), phases, strict=True)
    )
    inside: Bool[np.ndarray, "d h w"] = radius + 0.08 * dents < 1.0
    return inside


def write_anatomies(
    folder: Path,
    seeds: Sequence[int],
    *,
    annotated: Sequence[str] = ANATOMY,
    name: str = "body",
    size_voxels: Size3 = (48, 64, 64),
    spacing_mm: float = 5.0,
) -> Table:
    """Write bodies as a data set: scans, label maps, ``structures.json`` and ``cases.csv``.

    Args:
        folder: Made if need be.
        seeds: A case each.
        annotated: Structures that were "drawn" in this data set; of the others its label maps say
            nothing.
        name: What case ids begin with.
        size_voxels: As for :func:`make_anatomy`.
        spacing_mm: Likewise.

    Returns:
        The table, as read back from ``cases.csv``.
    """
    numbers = {each: ANATOMY.index(each) + 1 for each in annotated}
    kept = np.zeros(len(ANATOMY) + 1, np.uint8)
    kept[list(numbers.values())] = list(numbers.values())
    rows = ["case_id,patient_id,image,masks"]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        made = make_anatomy(seed, size_voxels=size_voxels, spacing_mm=spacing_mm)
        case = f"{name}_{seed:04d}"
        image, masks = f"images/{case}.nii.gz", f"labels/{case}.nii.gz"
        write_volume(made.scan, folder / image)
        own = Volume(kept[made.labels.voxels][None], made.labels.affine)
        write_volume(own, folder / masks)
        rows.append(f"{case},{case},{image},{masks}")
    sources = {each: (value,) for each, value in numbers.items()}
    write_structures(Structures(kind="label_map", sources=sources), folder / "structures.json")
    with atomic_path(folder / "cases.csv") as temporary:
        temporary.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return read_table(folder / "cases.csv")
