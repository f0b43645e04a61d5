"""The ways that ``window_feed.py`` compares: Voxgraft's and MONAI's, each in its own process.

    python benchmarks/window_feed_ways.py ORDER

An order is JSON: scans, a folder to work in, epochs, and the options of a way. Prints JSON: seconds
of preparing, and (windows, seconds) of each epoch.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIZE = (32, 224, 224)
BATCH = 4


def our_way(images: list[Path], work: Path, epochs: int, options: dict[str, Any]) -> dict[str, Any]:
    """Prepare and serve with Voxgraft; return times in seconds."""
    import pandas as pd
    import torch

    from voxgraft.datasets import Table
    from voxgraft.datasets.windows import Windows
    from voxgraft.feeds.windows import WindowFeed
    from voxgraft.store import VolumeStore
    from voxgraft.transforms import Augmentation, Preprocessing, Window, augment

    torch.set_num_threads(1)  # as MONAI's workers do: two feeding threads have the cores already
    ids = [image.name for image in images]
    frame = pd.DataFrame({"case_id": ids, "patient_id": ids, "image": [str(i) for i in images]})
    settings = Preprocessing(
        resize_voxels=(None, 256, 256),
        intensity=Window(-100, 900),
        storage=options.get("storage", "float16"),
    )
    prepared = VolumeStore(work / "store").prepare(Table(frame, images[0].parent), settings, jobs=2)
    preparing = time.time() - options["started"]
    turned = Augmentation(rotation_degrees=(20, 0, 0), rotation_probability=1.0, in_plane=True)
    feed = (
        WindowFeed(
            prepared,
            ids,
            np.zeros((len(ids), 1)),
            Windows(size_voxels=SIZE),
            training=True,
            memory_budget_mib=options["budget"],
            threads=2,
        )
        if epochs
        else None
    )

    def serve(augmented: bool, epoch: int) -> int:
        order = np.random.default_rng(epoch).permutation(len(feed))
        schedule = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        served = 0
        for step, batch in enumerate(feed.batches(schedule, first_step=1000 * epoch)):
            windows = batch.images
            if augmented:
                windows = augment(windows, turned, 1000 * epoch + step)
            served += len(windows)
        return served

    return {"preparing": preparing, **timed(serve, epochs)}


def monai_way(
    images: list[Path], work: Path, epochs: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Prepare and serve with MONAI; return times in seconds."""
    import torch
    from monai import data as monai_data
    from monai import transforms as t

    flat, half = options.get("flat", False), options.get("half", False)
    samples = options.get("samples", 1)
    names = ["image"]
    reader = options.get("reader")
    fixed = [
        t.LoadImaged(names, reader=reader, image_only=True),
        t.EnsureChannelFirstd(names),
        t.Orientationd(names, axcodes="RAS"),
        t.Resized(names, spatial_size=(256, 256, -1)),
        t.ScaleIntensityRanged(names, a_min=-100, a_max=900, b_min=0, b_max=1, clip=True),
        t.EnsureTyped(names, track_meta=False, dtype=torch.float16 if half else torch.float32),
    ]
    size = (SIZE[2], SIZE[1], SIZE[0])
    crop: Any = t.RandSpatialCropd(names, roi_size=size, random_size=False)
    if samples > 1:
        crop = t.RandSpatialCropSamplesd(
            names, roi_size=size, random_size=False, num_samples=samples
        )
    cut = [crop]
    if half:
        cut.append(t.CastToTyped(names, dtype=torch.float32))
    turn: dict[str, Any] = {"range_z": float(np.deg2rad(20))}
    if flat:  # the rotation is a bilinear one of 32 channels, not a trilinear one
        cut += [t.SqueezeDimd(names, dim=0), t.Transposed(names, (2, 0, 1))]
        turn = {"range_x": turn["range_z"]}
    turned = [t.RandRotated(names, prob=1.0, padding_mode="zeros", **turn)]

    studies = [{"image": str(image)} for image in images]
    windows = [len(range(0, depth, SIZE[0])) for depth in depths(images)]
    each = [study for study, count in zip(studies, windows, strict=True) for _ in range(count)]
    if samples > 1:
        each = studies * max(1, len(each) // (samples * len(studies)))
    made: dict[bool, Any] = {}
    for augmented in (True, False):
        steps = t.Compose([*fixed, *cut, *(turned if augmented else [])])
        if options["cache"] == "persistent":
            if augmented:
                first = monai_data.PersistentDataset(studies, steps, work / "cache")
                for _ in monai_data.DataLoader(first, batch_size=1, num_workers=2, collate_fn=len):
                    pass
            made[augmented] = monai_data.PersistentDataset(each, steps, work / "cache")
        elif options["cache"] == "lmdb":
            made[augmented] = monai_data.LMDBDataset(
                each, steps, work / "lmdb", progress=False, lmdb_kwargs={"map_size": 2**32}
            )
        elif augmented:
            made[augmented] = monai_data.CacheDataset(
                each, steps, num_workers=2, progress=False, copy_cache=False, hash_as_key=True
            )
        else:
            made[augmented] = made[True]
        if augmented:
            preparing = time.time() - options["started"]
    if not epochs:
        return {"preparing": preparing}

    loaders: dict[bool, Any] = {}

    def serve(augmented: bool, epoch: int) -> int:
        if augmented not in loaders:
            if options["cache"] == "memory":
                made[True].transform = t.Compose([*fixed, *cut, *(turned if augmented else [])])
            loaders.clear()
            loaders[augmented] = monai_data.DataLoader(
                made[augmented],
                batch_size=max(1, BATCH // samples),
                shuffle=True,
                num_workers=2,
                persistent_workers=True,
            )
        return sum(len(batch["image"]) for batch in loaders[augmented])

    return {"preparing": preparing, **timed(serve, epochs)}


def timed(serve: Callable[[bool, int], int], epochs: int) -> dict[str, Any]:
    """Serve epochs with augmentation, then epochs without; (windows, seconds) of each."""
    result: dict[str, Any] = {"turned": [], "plain": []}
    for epoch in range(epochs + max(2, epochs // 2) if epochs else 0):
        augmented = epoch < epochs
        begin = time.perf_counter()
        served = serve(augmented, epoch)
        result["turned" if augmented else "plain"].append((served, time.perf_counter() - begin))
    return result


def depths(images: list[Path]) -> list[int]:
    import nibabel

    return [
        len(list(image.iterdir())) if image.is_dir() else nibabel.load(image).shape[2]
        for image in images
    ]


def check_voxels(folder: Path) -> None:
    """See that both give the same voxels at the same places, before anything is timed."""
    import pandas as pd
    import torch
    from monai import transforms as t

    from voxgraft.datasets import Table
    from voxgraft.store import VolumeStore
    from voxgraft.transforms import Preprocessing, Window
    from window_feed_scans import made_ct, write_nifti

    write_nifti(made_ct(99, 40), folder / "check.nii.gz")
    frame = pd.DataFrame({"case_id": ["0"], "patient_id": ["0"], "image": ["check.nii.gz"]})
    apart = []
    for edge in (512, 256):
        steps = [
            t.LoadImage(image_only=True),
            t.EnsureChannelFirst(),
            t.Orientation(axcodes="RAS"),
            t.Resize((edge, edge, -1)),
            t.ScaleIntensityRange(-100, 900, 0, 1, clip=True),
        ]
        theirs = torch.as_tensor(t.Compose(steps)(folder / "check.nii.gz")).permute(0, 3, 2, 1)
        settings = Preprocessing(resize_voxels=(None, edge, edge), intensity=Window(-100, 900))
        stored = VolumeStore(folder / "check").prepare(Table(frame, folder), settings)
        difference = np.abs(stored.read("0") - theirs.numpy())
        apart += [float(difference.max()), float(difference.mean())]
    print(
        f"largest difference of a voxel at full size {apart[0]:.1e}; mean, resized {apart[3]:.4f}"
    )
    assert apart[0] < 5e-4, apart
    assert apart[3] < 0.01, apart


def child(order: dict[str, Any]) -> None:
    images = [Path(image) for image in order["images"]]
    way = monai_way if "cache" in order["options"] else our_way
    warnings.simplefilter("ignore")
    found = way(
        images,
        Path(order["work"]),
        order["epochs"],
        {**order["options"], "started": order["started"]},
    )
    print(json.dumps(found))


if __name__ == "__main__":
    child(json.loads(sys.argv[1]))
