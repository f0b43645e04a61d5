"""Whether pre-trained weights carry over: organs of one CT from features learned on another.

Each voxel of a scan gets a vector: the maps of a frozen network's stages at its place. On 600
voxels a class of CT A, ridge regression learns to tell seven organs and the background apart; the
balanced accuracy on CT B, of another patient and another scanner, is what counts. The same network
with random weights is the measure of what the architecture gives by itself.

Both scans come with the source archive of a public package. One training and one test patient: a
check that weights carry over, not a clinical claim. Run from the repository's root:
``python benchmarks/organ_probe.py``
"""

from __future__ import annotations

import argparse
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from voxgraft.grafting import graft
from voxgraft.models import Encoder, build_encoder
from voxgraft.packages import PackageArchive, package_archive
from voxgraft.transforms.geometry import orient
from voxgraft.transforms.resampling import Interpolation, resample
from voxgraft.volumes import Volume, read_label_map, read_volume
from voxgraft.weights import SOURCES

SCANS = PackageArchive(
    package="totalsegmentator",
    version="2.18.0",
    sha256="5d4223ef93973bc36d710869d11e7742ead2c154c72f7f9edcaaadd5b6c4bd03",
)
FOLDER = "totalsegmentator-2.18.0/tests/reference_files"
SPACING_MM = (3.0, 3.0, 3.0)
WINDOW_HU = (-160.0, 240.0)
CLASSES = {
    "spleen": (1,),
    "liver": (5,),
    "stomach": (6,),
    "colon": (20,),
    "vertebra T12": (32,),
    "aorta": (52,),
    "back muscles": (86, 87),
}
VOXELS = 600
DEEPEST = 16  # stages that reduce the plane further see mostly what is not at the voxel
RIDGE = 1.0


Voxelwise = Callable[[np.ndarray], np.ndarray]
"""Gives voxels at (depth, height, width), ``(n, 3)``, their vectors, ``(n, f)``."""


@dataclass(frozen=True)
class Scan:
    """A CT in [0, 1] and the class of each voxel: 0 the background, then the organs."""

    image: Float[Tensor, "1 1 d h w"]
    classes: Int[np.ndarray, "d h w"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seeds = range(options.seeds)
    scans = read_scans()
    plain = [intensities(scan) for scan in scans]
    alone = np.mean([probe(plain[0], plain[1], *scans, seed) for seed in seeds])
    print(f"intensity alone: {alone:.3f}\n")
    print("| start | network | pre-trained | random | s |\n|---|---|---:|---:|---:|")
    for source, model, model_options in PAIRS:
        started = time.perf_counter()
        learned, random = compare(source, model, model_options, scans, seeds)
        seconds = time.perf_counter() - started
        print(f"| {source} | {model} | {learned:.3f} | {random:.3f} | {seconds:.0f} |", flush=True)


_DEEP: Mapping[str, Any] = {"depth_padding": "replicate", "depth_stride": 2}
PAIRS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("efficientnet_lite0.tf_in1k", "tf_efficientnet_lite0_3d", _DEEP),
    ("efficientnet_lite0.tf_in1k", "slicewise:tf_efficientnet_lite0", {}),
    ("mobilenetv2_100.deep_sort_in1k", "mobilenetv2_3d", _DEEP),
    ("mobilenetv2_100.deep_sort_in1k", "slicewise:mobilenetv2_100", {}),
    ("linknet_deepbet.brain_mask", "linknet_deepbet", {}),
    ("transnetv2.film_cuts", "transnetv2", {"depth_padding": "replicate"}),
)
"""Source, network, and options of the network."""


def compare(
    source: str,
    model: str,
    options: Mapping[str, Any],
    scans: tuple[Scan, Scan],
    seeds: Sequence[int],
) -> tuple[float, float]:
    """Return the balanced accuracy with pre-trained weights, and with random ones.

    A random network has no statistics for batch normalization: it is given those of CT A.
    """
    contract = SOURCES.get(source).input
    mean, sd = (values[0] for values in contract.carried_to(1))
    images = [(scan.image - mean) / sd for scan in scans]
    random = build_encoder(model, seed=0, **options)
    _settle(random, images[0])
    learned = graft(source, model, model_options=options, check_parity=False).encoder
    scores = []
    for encoder in (learned, random):
        first, second = (stage_vectors(encoder, image) for image in images)
        scores.append(float(np.mean([probe(first, second, *scans, seed) for seed in seeds])))
    return scores[0], scores[1]


@torch.no_grad()
def _settle(encoder: Encoder, image: Float[Tensor, "1 1 d h w"]) -> None:
    for module in encoder.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None
    encoder.train().forward_features(_large_enough(encoder, image))


def _large_enough(encoder: Encoder, image: Float[Tensor, "1 1 d h w"]) -> Tensor:
    """Repeat the last slice, row and column until the network runs."""
    sizes = zip(image.shape[2:], encoder.declaration.min_size, strict=True)
    missing = [max(0, least - size) for size, least in sizes]
    pads = [pad for count in reversed(missing) for pad in (0, count)]
    return functional.pad(image, pads, mode="replicate") if any(missing) else image


def read_scans() -> tuple[Scan, Scan]:
    """Return CT A (3 mm throughout) and CT B (20 slices of 2 mm)."""
    archive = package_archive(SCANS)
    folder = archive.with_name("unpacked")
    if not folder.is_dir():
        with tarfile.open(archive) as packed:
            wanted = ("example_ct.nii.gz", "example_ct_dicom/", "example_seg_")
            members = [m for m in packed if m.name.removeprefix(f"{FOLDER}/").startswith(wanted)]
            packed.extractall(folder, members, filter="data")
    files = folder / FOLDER
    return (
        _scan(files / "example_ct.nii.gz", files / "example_seg_fast_force_split.nii.gz"),
        _scan(files / "example_ct_dicom", files / "example_seg_dicom.nii.gz"),
    )


def _scan(image: Path, labels: Path) -> Scan:
    volume = _at_3_mm(read_volume(image), "linear")
    low, high = WINDOW_HU
    scaled = (volume.voxels.clip(low, high) - low) / (high - low)
    drawn = read_label_map(labels)
    as_volume = Volume(voxels=drawn.voxels[None].astype(np.float32), affine=drawn.affine)
    found = _at_3_mm(as_volume, "nearest").voxels[0].astype(int)
    if found.shape != scaled.shape[1:]:
        raise SystemExit(f"{labels.name} has another grid than its scan")
    classes = np.full(found.shape, -1)
    classes[(found == 0) & (scaled[0] > 0)] = 0  # background within the body
    for index, values in enumerate(CLASSES.values(), start=1):
        classes[np.isin(found, values)] = index
    return Scan(torch.from_numpy(np.ascontiguousarray(scaled, dtype=np.float32))[None], classes)


def _at_3_mm(volume: Volume, interpolation: Interpolation) -> Volume:
    return resample(orient(volume), SPACING_MM, interpolation)


@torch.no_grad()
def stage_vectors(encoder: Encoder, image: Float[Tensor, "1 1 d h w"]) -> Voxelwise:
    """Return what gives each voxel the maps of the stages at its place, interpolated."""
    image = _large_enough(encoder.eval(), image)
    maps = encoder.forward_stages(image)
    strides = encoder.declaration.strides
    kept = [map_ for map_, stride in zip(maps, strides, strict=True) if stride[1] <= DEEPEST]
    size = torch.tensor(image.shape[2:], dtype=torch.float32)

    def at(places: Int[np.ndarray, "n 3"]) -> Float[np.ndarray, "n f"]:
        centers = (torch.from_numpy(places).float() + 0.5) / size * 2 - 1
        grid = centers.flip(1).view(1, -1, 1, 1, 3)
        sampled = [
            functional.grid_sample(map_, grid, padding_mode="border", align_corners=False)
            for map_ in kept
        ]
        return torch.cat([m[0, :, :, 0, 0] for m in sampled]).T.numpy()

    return at


def intensities(scan: Scan) -> Voxelwise:
    """Return what gives each voxel its intensity alone."""
    return lambda places: scan.image[0, 0].numpy()[tuple(places.T)][:, None]


def probe(first: Voxelwise, second: Voxelwise, learn: Scan, test: Scan, seed: int) -> float:
    """Return the balanced accuracy on one scan of a ridge regression learned on another."""
    random = np.random.default_rng(seed)
    x, y = _sample(first, learn, random)
    mean, sd = x.mean(0), x.std(0) + 1e-6
    x = (x - mean) / sd
    goal = np.eye(len(CLASSES) + 1)[y] - 1 / (len(CLASSES) + 1)
    gram = x.T @ x + RIDGE * len(x) * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x.T @ goal)
    x, y = _sample(second, test, random)
    guessed = (((x - mean) / sd) @ weights).argmax(1)
    return float(np.mean([(guessed[y == c] == c).mean() for c in np.unique(y)]))


def _sample(
    vectors: Voxelwise, scan: Scan, random: np.random.Generator
) -> tuple[Float[np.ndarray, "n f"], Int[np.ndarray, " n"]]:
    places, labels = [], []
    for index in range(len(CLASSES) + 1):
        found = np.argwhere(scan.classes == index)
        places.append(found[random.choice(len(found), min(VOXELS, len(found)), replace=False)])
        labels.append(np.full(len(places[-1]), index))
    return vectors(np.concatenate(places)).astype(np.float64), np.concatenate(labels)


if __name__ == "__main__":
    main()
