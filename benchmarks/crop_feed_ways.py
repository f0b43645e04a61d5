"""The ways that ``crop_feed.py`` compares, each in its own process.

    python benchmarks/crop_feed_ways.py ORDER

An order is JSON: a way, the folder of the scans (``crop_feed_scans.py``), and whether to prepare
(once, not timed) or to serve, for how many seconds. Serving prints JSON: crops and seconds.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from crop_feed_scans import CLASSES, HIGH, LOW, case_ids

CROP = (96, 96, 96)
DEGREES, SCALE = (15.0, 10.0, 10.0), (0.85, 1.15)
NOISE_SD, NOISE_PROBABILITY = (0.0, 0.1), 0.1
BRIGHTNESS, BRIGHTNESS_PROBABILITY = (0.75, 1.25), 0.15
WORKERS = 2
BATCH = 2
Batches = Iterator[tuple[Any, Any]]


def ours(folder: Path, budget_mib: float) -> Batches:
    """Serve with ``CropFeed`` and two threads."""
    import torch

    from voxgraft.datasets import read_table
    from voxgraft.feeds import CropFeed
    from voxgraft.store import VolumeStore, prepare_masks
    from voxgraft.transforms import Augmentation, Preprocessing, Window

    torch.set_num_threads(1)  # the two feeding threads have the cores already
    table = read_table(folder / "table.csv")
    window = Preprocessing(intensity=Window(LOW, HIGH))
    prepared = VolumeStore(folder / "store").prepare(table, window, jobs=WORKERS)
    masks = prepare_masks(table, CLASSES, prepared, jobs=WORKERS)
    ids = list(prepared.case_ids)
    moves = Augmentation(
        flip_axes=("depth", "height", "width"),
        rotation_degrees=DEGREES,
        rotation_probability=1,
        scale=SCALE,
        scale_probability=1,
        noise_sd=NOISE_SD,
        noise_probability=NOISE_PROBABILITY,
        intensity_scale=BRIGHTNESS,
        intensity_scale_probability=BRIGHTNESS_PROBABILITY,
    )
    feed = CropFeed(
        prepared,
        masks,
        ids,
        CROP,
        foreground=2 / 3,
        augmentation=moves,
        threads=WORKERS,
        memory_budget_mib=budget_mib,
    )
    rng = np.random.default_rng(0)
    schedule = [rng.integers(len(ids), size=BATCH) for _ in range(100_000)]
    for batch in feed.batches(schedule):
        yield batch.images, batch.labels


def nnunet(folder: Path) -> Batches:
    """Serve with nnU-Net's loader, its own transforms and two of its worker processes."""
    import torch
    from batchgenerators.dataloading.nondet_multi_threaded_augmenter import (
        NonDetMultiThreadedAugmenter,
    )
    from batchgeneratorsv2.transforms.intensity.brightness import (
        MultiplicativeBrightnessTransform,
    )
    from batchgeneratorsv2.transforms.intensity.contrast import BGContrast
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
    from batchgeneratorsv2.transforms.utils.random import RandomTransform
    from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    torch.set_num_threads(1)
    place = folder / "nnunet"
    if not place.exists():
        part = folder / "nnunet.part"
        part.mkdir()
        for case in case_ids(folder):
            image, labels = read(folder, case)
            rng = np.random.default_rng(0)
            blocks, chunks = comp_blosc2_params(image.shape, CROP)
            found = {
                k: np.pad(rng.permutation(np.argwhere(labels[0] == k))[:10000], ((0, 0), (1, 0)))
                for k in range(1, len(CLASSES) + 1)
            }
            nnUNetDatasetBlosc2.save_case(
                image, labels.astype(np.int16), {"class_locations": found}, str(part / case),
                chunks=chunks, blocks=blocks, chunks_seg=chunks, blocks_seg=blocks,
            )  # fmt: skip
        part.rename(place)
    angles = [(-np.radians(degrees), np.radians(degrees)) for degrees in DEGREES]
    larger = get_patch_size(CROP, *angles, SCALE)
    names = {"background": 0, **{name: k for k, name in enumerate(CLASSES, start=1)}}
    turn = SpatialTransform(
        CROP, patch_center_dist_from_border=0, random_crop=False, p_elastic_deform=0, p_rotation=1,
        rotation=angles[0], p_scaling=1, scaling=SCALE, p_synchronize_scaling_across_axes=1,
        bg_style_seg_sampling=False, border_mode_seg="constant", padding_value_seg=-1,
    )  # fmt: skip
    noise = GaussianNoiseTransform(noise_variance=NOISE_SD, p_per_channel=1)
    brightness = MultiplicativeBrightnessTransform(
        multiplier_range=BGContrast(BRIGHTNESS), synchronize_channels=False, p_per_channel=1
    )
    steps = [
        turn,
        RandomTransform(noise, apply_probability=NOISE_PROBABILITY),
        RandomTransform(brightness, apply_probability=BRIGHTNESS_PROBABILITY),
        MirrorTransform(allowed_axes=(0, 1, 2)),
    ]
    loader = nnUNetDataLoader(
        nnUNetDatasetBlosc2(str(place)), BATCH, larger, CROP, LabelManager(names, None), 2 / 3,
        probabilistic_oversampling=True, transforms=ComposeTransforms(steps),
    )  # fmt: skip
    served = NonDetMultiThreadedAugmenter(loader, None, WORKERS, max(6, WORKERS // 2))
    while True:
        batch = next(served)
        yield batch["data"], batch["target"]


def monai(folder: Path, samples: int) -> Batches:
    """Serve with a persistent cache of what is not random, then MONAI's random transforms."""
    from monai import transforms as mt
    from monai.data import DataLoader, PersistentDataset

    both = ["image", "label"]
    steps = [
        mt.LoadImaged(both),
        mt.EnsureChannelFirstd(both),
        mt.Orientationd(both, axcodes="RAS"),
        mt.ScaleIntensityRanged("image", LOW, HIGH, 0, 1, clip=True),
        mt.EnsureTyped(both, track_meta=False),
        mt.RandCropByPosNegLabeld(both, "label", CROP, pos=2, neg=1, num_samples=samples),
        mt.RandAffined(
            both, prob=1, rotate_range=tuple(np.radians(DEGREES)[::-1]), scale_range=(0.15,) * 3,
            mode=("bilinear", "nearest"), padding_mode="zeros",
        ),
        *(mt.RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3)),
        mt.RandGaussianNoised("image", prob=NOISE_PROBABILITY, std=NOISE_SD[1]),
        mt.RandScaleIntensityd("image", factors=0.25, prob=BRIGHTNESS_PROBABILITY),
    ]  # fmt: skip
    files = [
        {"image": str(folder / f"{n}.nii.gz"), "label": str(folder / f"{n}_seg.nii.gz")}
        for n in case_ids(folder)
    ]
    data = PersistentDataset(files, mt.Compose(steps), cache_dir=folder / "monai")
    loader = DataLoader(
        data,
        batch_size=max(1, BATCH // samples),
        shuffle=True,
        num_workers=WORKERS,
        persistent_workers=True,
    )
    while True:
        for batch in loader:
            yield batch["image"], batch["label"]


def torchio(folder: Path) -> Batches:
    """Serve with a queue of patches out of whole volumes that are turned."""
    import torch
    import torchio as tio

    torch.set_num_threads(1)
    subjects = [
        tio.Subject(
            image=tio.ScalarImage(folder / f"{n}.nii.gz"),
            label=tio.LabelMap(folder / f"{n}_seg.nii.gz"),
        )
        for n in case_ids(folder)
    ]
    turn = tio.Compose(
        [
            tio.Clamp(LOW, HIGH),
            tio.RescaleIntensity((0, 1), in_min_max=(LOW, HIGH)),
            tio.RandomAffine(scales=SCALE, degrees=DEGREES[::-1], isotropic=True),
            tio.RandomFlip((0, 1, 2), flip_probability=0.5),
            tio.RandomNoise(std=NOISE_SD, p=NOISE_PROBABILITY),
        ]
    )
    share = {0: 1 / 3, **dict.fromkeys(range(1, len(CLASSES) + 1), 2 / 3 / len(CLASSES))}
    queue = tio.Queue(
        tio.SubjectsDataset(subjects, transform=turn), max_length=40, samples_per_volume=10,
        sampler=tio.LabelSampler(CROP, label_name="label", label_probabilities=share),
        num_workers=WORKERS,
    )  # fmt: skip
    while True:
        for batch in tio.SubjectsLoader(queue, batch_size=BATCH, num_workers=0):
            yield batch["image"][tio.DATA], batch["label"][tio.DATA]


def read(folder: Path, case: str) -> tuple[np.ndarray, np.ndarray]:
    """Return image (1, D, H, W) in [0, 1] and labels of a scan."""
    from voxgraft.volumes import read_label_map, read_volume

    image = read_volume(folder / f"{case}.nii.gz").voxels.astype(np.float32)
    labels = read_label_map(folder / f"{case}_seg.nii.gz").voxels
    return np.clip((image - LOW) / (HIGH - LOW), 0, 1), labels[None]


WAYS: dict[str, tuple[str, Callable[[Path], Batches]]] = {
    "ours, read from disk": ("voxgraft", lambda folder: ours(folder, 0)),
    "ours, kept in memory": ("voxgraft", lambda folder: ours(folder, 2048)),
    "nnU-Net v2, blosc2 and batchgeneratorsv2": ("nnunetv2", nnunet),
    "MONAI PersistentDataset": ("monai", lambda folder: monai(folder, 1)),
    "MONAI PersistentDataset, 4 crops of a volume at a time": (
        "monai",
        lambda folder: monai(folder, 4),
    ),
    "TorchIO Queue, 10 crops of a volume": ("torchio", torchio),
}


def serve(batches: Batches, seconds: float, round_of: int) -> dict[str, float]:
    """Count crops for a while, by whole rounds of a way's own making."""
    served, begin = 0, time.perf_counter()
    while True:
        images, labels = next(batches)
        assert tuple(images.shape[-3:]) == tuple(labels.shape[-3:]) == CROP
        served += len(images)
        passed = time.perf_counter() - begin
        if passed >= seconds and served % round_of == 0:
            return {"crops": served, "seconds": passed}


def child(order: dict[str, Any]) -> None:
    warnings.simplefilter("ignore")
    folder = Path(order["folder"])
    batches = WAYS[order["way"]][1](folder)
    # TorchIO's queue is filled and emptied in turn: its round begins with the filling.
    queued = order["way"].startswith("TorchIO")
    if order["prepare"] or not queued:
        serve(batches, 0, 1 if queued else 2 * len(case_ids(folder)))
    found = {} if order["prepare"] else serve(batches, order["seconds"], 40 if queued else 1)
    print(json.dumps(found), flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's objects to workers that are killed
    for worker in multiprocessing.active_children():
        worker.kill()
    os._exit(0)


if __name__ == "__main__":
    child(json.loads(sys.argv[1]))
