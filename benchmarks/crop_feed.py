"""Augmented crops of 96³ with labels, in one thread: Voxgraft against nnU-Net, MONAI and TorchIO.

    python benchmarks/crop_feed.py [--cases 4] [--rounds 3] [--steps 10]

Scans of 200 × 240 × 240 with 13 structures are made as ``.nii.gz`` and prepared by each way as it
does it itself (not timed). Every crop is turned (up to 15, 10 and 10 degrees), scaled (0.85 to
1.15) and mirrored or not, two thirds of the crops lie around a structure, and batches hold 2. Ways:
``CropFeed`` reading from disk and keeping volumes in memory; nnU-Net v2's loader on blosc2 files
with its own larger patch before the turn; MONAI's ``PersistentDataset`` (the crop, then
``RandAffined``: corners stay empty); TorchIO's ``Queue`` with 4 patches a volume, turned whole. One
process and one thread each, all files in the page cache, ways in turn, round by round. Packages
that are not installed are left out. Prints a Markdown table: crops a second.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from voxgraft.datasets import Table
from voxgraft.feeds import CropFeed
from voxgraft.store import VolumeStore, prepare_masks
from voxgraft.transforms import Augmentation, Preprocessing, Window
from voxgraft.volumes import Affine, LabelMap, Volume, write_volume

CROP = (96, 96, 96)
CLASSES = 13
DEGREES, SCALE = (15.0, 10.0, 10.0), (0.85, 1.15)
Crops = Iterator[tuple[Any, Any]]


def write_scans(folder: Path, cases: int) -> list[str]:
    """Write scans of smooth noise, whose levels are the structures."""
    affine = Affine.from_spacing((1.5, 1.5, 1.5))
    for case in range(cases):
        coarse = np.random.default_rng(case).normal(size=(20, 24, 24))
        values = ndimage.zoom(coarse, 10, order=1).astype(np.float32)
        labels = np.zeros(values.shape, dtype=np.uint8)
        for k in range(1, CLASSES + 1):
            labels[(values > 0.25 * k - 2) & (values < 0.25 * k - 1.8)] = k
        write_volume(
            Volume((100 * values).astype(np.int16)[None], affine), folder / f"{case}.nii.gz"
        )
        write_volume(LabelMap(labels, affine), folder / f"{case}_seg.nii.gz")
    structures = {f"s{k}": k for k in range(1, CLASSES + 1)}
    meaning = {"kind": "label_map", "structures": structures}
    (folder / "structures.json").write_text(json.dumps(meaning))
    return [str(case) for case in range(cases)]


def ours(folder: Path, ids: list[str], budget: float) -> Crops:
    """Serve with ``CropFeed``; a batch is made in the thread that asks."""
    frame = pd.DataFrame({"case_id": ids, "patient_id": ids})
    frame = frame.assign(image=[f"{n}.nii.gz" for n in ids], masks=[f"{n}_seg.nii.gz" for n in ids])
    table = Table(frame, folder)
    prepared = VolumeStore(folder / "store").prepare(
        table, Preprocessing(intensity=Window(-300, 300))
    )
    masks = prepare_masks(table, [f"s{k}" for k in range(1, CLASSES + 1)], prepared)
    moves = Augmentation(
        flip_axes=("depth", "height", "width"),
        rotation_degrees=DEGREES,
        rotation_probability=1,
        scale=SCALE,
        scale_probability=1,
    )
    feed = CropFeed(
        prepared, masks, ids, CROP, foreground=2 / 3, augmentation=moves, memory_budget_mib=budget
    )
    for step in range(10**6):
        batch = feed._batch(step, np.array([2 * step, 2 * step + 1]) % len(ids))
        yield batch.images, batch.labels


def nnunet(folder: Path, ids: list[str]) -> Crops:
    """Serve with nnU-Net's loader and its own transforms, on the same normalized values."""
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
    from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    place = folder / "nnunet"
    place.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for case in ids:
        image, labels = normalized(folder, case)
        blocks, chunks = comp_blosc2_params(image.shape, CROP)
        found = {
            k: np.pad(rng.permutation(np.argwhere(labels[0] == k))[:10000], ((0, 0), (1, 0)))
            for k in range(1, CLASSES + 1)
        }
        nnUNetDatasetBlosc2.save_case(
            image, labels.astype(np.int16), {"class_locations": found}, str(place / case),
            chunks=chunks, blocks=blocks, chunks_seg=chunks, blocks_seg=blocks,
        )  # fmt: skip
    angles = [(-np.radians(d), np.radians(d)) for d in DEGREES]
    larger = get_patch_size(CROP, *angles, SCALE)
    names = {"background": 0, **{f"s{k}": k for k in range(1, CLASSES + 1)}}
    turn = SpatialTransform(
        CROP, patch_center_dist_from_border=0, random_crop=False, p_elastic_deform=0, p_rotation=1,
        rotation=angles[0], p_scaling=1, scaling=SCALE, p_synchronize_scaling_across_axes=1,
        bg_style_seg_sampling=False, border_mode_seg="constant", padding_value_seg=-1,
    )  # fmt: skip
    loader = nnUNetDataLoader(
        nnUNetDatasetBlosc2(str(place)), 2, larger, CROP, LabelManager(names, None), 2 / 3,
        probabilistic_oversampling=True,
        transforms=ComposeTransforms([turn, MirrorTransform(allowed_axes=(0, 1, 2))]),
    )  # fmt: skip
    while True:
        batch = next(loader)
        yield batch["data"], batch["target"]


def monai(folder: Path, ids: list[str]) -> Crops:
    """Serve with a persistent cache of what is not random, then MONAI's random transforms."""
    from monai import transforms as mt
    from monai.data import DataLoader, PersistentDataset
    from monai.data.utils import list_data_collate

    both = ["image", "label"]
    steps = [
        mt.LoadImaged(both),
        mt.EnsureChannelFirstd(both),
        mt.ScaleIntensityRanged("image", -300, 300, 0, 1, clip=True),
        mt.EnsureTyped(both),
        mt.RandCropByPosNegLabeld(both, "label", CROP, pos=2, neg=1, num_samples=1),
        mt.RandAffined(
            both, prob=1, rotate_range=tuple(np.radians(DEGREES)), scale_range=(0.15,) * 3,
            mode=("bilinear", "nearest"), padding_mode="zeros",
        ),
        *(mt.RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3)),
    ]  # fmt: skip
    files = [
        {"image": str(folder / f"{n}.nii.gz"), "label": str(folder / f"{n}_seg.nii.gz")}
        for n in ids
    ]
    data = PersistentDataset(files, mt.Compose(steps), cache_dir=folder / "monai")
    while True:
        for batch in DataLoader(data, 2, shuffle=True, collate_fn=list_data_collate):
            yield batch["image"], batch["label"]


def torchio(folder: Path, ids: list[str]) -> Crops:
    """Serve with a queue of patches out of whole volumes that are turned."""
    import torchio as tio

    subjects = [
        tio.Subject(
            image=tio.ScalarImage(folder / f"{n}.nii.gz"),
            label=tio.LabelMap(folder / f"{n}_seg.nii.gz"),
        )
        for n in ids
    ]
    turn = tio.Compose(
        [
            tio.Clamp(-300, 300),
            tio.RescaleIntensity((0, 1), in_min_max=(-300, 300)),
            tio.RandomAffine(scales=SCALE, degrees=DEGREES, isotropic=True),
            tio.RandomFlip((0, 1, 2), flip_probability=0.5),
        ]
    )
    share = {0: 1 / 3, **dict.fromkeys(range(1, CLASSES + 1), 2 / 3 / CLASSES)}
    queue = tio.Queue(
        tio.SubjectsDataset(subjects, transform=turn), max_length=8, samples_per_volume=4,
        sampler=tio.LabelSampler(CROP, label_name="label", label_probabilities=share),
        num_workers=0,
    )  # fmt: skip
    while True:
        for batch in tio.SubjectsLoader(queue, batch_size=2, num_workers=0):
            yield batch["image"][tio.DATA], batch["label"][tio.DATA]


def normalized(folder: Path, case: str) -> tuple[np.ndarray, np.ndarray]:
    """Return image (1, D, H, W) in [0, 1] and labels of a scan."""
    from voxgraft.volumes import read_label_map, read_volume

    image = read_volume(folder / f"{case}.nii.gz").voxels.astype(np.float32)
    labels = read_label_map(folder / f"{case}_seg.nii.gz").voxels
    return np.clip((image + 300) / 600, 0, 1), labels[None]


def crops_a_second(way: Crops, steps: int) -> float:
    """Time batches of two."""
    begin, count = time.perf_counter(), 0
    for _ in range(steps):
        images, labels = next(way)
        count += len(images)
        assert images.shape[-3:] == labels.shape[-3:] == CROP
    return count / (time.perf_counter() - begin)


def main() -> None:
    """Run all ways and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    makers: dict[str, tuple[str, Callable[[Path, list[str]], Crops]]] = {
        "ours, read from disk": ("voxgraft", lambda folder, ids: ours(folder, ids, 0)),
        "ours, kept in memory": ("voxgraft", lambda folder, ids: ours(folder, ids, 8192)),
        "nnU-Net v2 loader": ("nnunetv2", nnunet),
        "MONAI PersistentDataset": ("monai", monai),
        "TorchIO Queue": ("torchio", torchio),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids = write_scans(folder, arguments.cases)
        ways = {
            way: make(folder, ids)
            for way, (package, make) in makers.items()
            if importlib.util.find_spec(package) is not None
        }
        found: dict[str, list[float]] = {way: [] for way in ways}
        for way, crops in ways.items():
            crops_a_second(crops, arguments.cases)  # caches are filled
            print("ready:", way, file=sys.stderr, flush=True)
        for number in range(arguments.rounds):
            for way, crops in list(ways.items())[:: -1 if number % 2 else 1]:
                found[way].append(crops_a_second(crops, arguments.steps))
                print(number, way, round(found[way][-1], 2), file=sys.stderr, flush=True)
    print("| way | crops a second, median (each round) |\n|---|---|")
    for way, rates in found.items():
        shown = ", ".join(f"{rate:.2f}" for rate in rates)
        print(f"| {way} | {statistics.median(rates):.2f} ({shown}) |")


if __name__ == "__main__":
    main()
