"""Reading 96³ crops of a 512 × 512 × 300 CT: from the store, and from the .nii.gz with nibabel.

    python benchmarks/store_reads.py [--ct CT.nii.gz] [--crops 40]

The CT is a real one, interpolated to that size, with noise of 15 HU added so that it compresses
as a scan does; without ``--ct`` a body of ellipsoids takes its place. (A real one is
``tests/reference_files/example_ct.nii.gz`` of the source distribution totalsegmentator 2.18.0.)
nibabel reads and crops in the quicker of its two ways. All files are in the page cache. Prints
a Markdown row.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import SimpleITK

from voxgraft.datasets import Table
from voxgraft.store import VolumeStore
from voxgraft.transforms import Preprocessing, Window

SIZE_XYZ = (512, 512, 300)
CROP = (96, 96, 96)


def real_anatomy(path: Path) -> np.ndarray:
    """Interpolate a CT to the size of the benchmark; (x, y, z)."""
    image = SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32)
    spacing = [
        n * mm / m for n, mm, m in zip(image.GetSize(), image.GetSpacing(), SIZE_XYZ, strict=True)
    ]
    resample = SimpleITK.ResampleImageFilter()
    resample.SetReferenceImage(image)
    resample.SetSize(SIZE_XYZ)
    resample.SetOutputSpacing(spacing)
    resample.SetDefaultPixelValue(-1024)
    return SimpleITK.GetArrayFromImage(resample.Execute(image)).transpose(2, 1, 0)


def made_anatomy() -> np.ndarray:
    """Draw a body of ellipsoids: fat, lungs, organs, bones; (x, y, z)."""
    rng = np.random.default_rng(0)
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in SIZE_XYZ]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    body = np.full(SIZE_XYZ, -1000, dtype=np.float32)
    parts = [((0, 0, 0), (0.85, 0.6, 2.0), -90.0), ((0, 0, 0), (0.8, 0.55, 2.0), 45.0)]
    parts += [((side * 0.4, 0, 0.3), (0.3, 0.4, 0.6), -850.0) for side in (-1, 1)]
    for _ in range(300):
        center = tuple(rng.uniform(-0.6, 0.6, 3))
        parts.append((center, tuple(rng.uniform(0.01, 0.12, 3)), float(rng.uniform(-100, 700))))
    for center, radii, value in parts:
        scaled = [((c - m) / r) ** 2 for c, m, r in zip((x, y, z), center, radii, strict=True)]
        body[scaled[0] + scaled[1] + scaled[2] < 1] = value
    return body


def seconds(read: Callable[[tuple[int, ...]], np.ndarray], starts: list[tuple[int, ...]]) -> float:
    """Return the median time of a crop."""
    times = []
    for start in starts:
        begin = time.perf_counter()
        crop = read(start)
        times.append(time.perf_counter() - begin)
        assert crop.size == np.prod(CROP)
    return float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ct", type=Path)
    parser.add_argument("--crops", type=int, default=40)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    voxels = real_anatomy(arguments.ct) if arguments.ct else made_anatomy()
    for plane in voxels.transpose(2, 0, 1):
        plane += rng.normal(0, 15, plane.shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ct.nii.gz"
        affine = np.diag([0.8, 0.8, 1.0, 1.0])
        hu = np.rint(voxels).clip(-1024, 3071).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(hu, affine), path)
        frame = pd.DataFrame({"case_id": ["ct"], "patient_id": ["ct"], "image": [path.name]})
        begin = time.perf_counter()
        settings = Preprocessing(intensity=Window(-1000, 1000))
        prepared = VolumeStore(Path(folder) / "store").prepare(Table(frame, Path(folder)), settings)
        preparation = time.perf_counter() - begin
        stored = prepared.folder / prepared.cases["ct"].file
        starts = [
            tuple(
                int(rng.integers(0, n - c + 1)) for n, c in zip(SIZE_XYZ[::-1], CROP, strict=True)
            )
            for _ in range(arguments.crops)
        ]

        def box(start: tuple[int, ...]) -> tuple[slice, ...]:
            return tuple(slice(s, s + n) for s, n in zip(start, CROP, strict=True))[::-1]

        crop = seconds(lambda start: prepared.read_crop("ct", start, CROP), starts)
        whole = seconds(
            lambda start: prepared.read("ct")[0].transpose(2, 1, 0)[box(start)], starts[:3]
        )
        full = seconds(lambda start: np.asarray(nibabel.load(path).dataobj)[box(start)], starts[:3])
        sliced = seconds(lambda start: nibabel.load(path).dataobj[box(start)], starts[:5])
        for start in starts[:3]:
            expected = np.clip((hu[box(start)].transpose(2, 1, 0) + 1000) / 2000, 0, 1)
            apart = np.abs(prepared.read_crop("ct", start, CROP)[0] - expected).max()
            assert apart < 5e-4, apart
        quicker = min(full, sliced)
        print(
            "| CT | .nii.gz (MB) | stored (MB) | preparation (s) | nibabel crop (ms) | store, "
            "whole then crop (ms) | store crop (ms) | times as fast |"
        )
        print("|---|---|---|---|---|---|---|---|")
        print(
            f"| {'real, interpolated' if arguments.ct else 'ellipsoids'} | "
            f"{path.stat().st_size / 1e6:.0f} | {stored.stat().st_size / 1e6:.0f} | "
            f"{preparation:.1f} | {quicker * 1e3:.0f} | {whole * 1e3:.0f} | {crop * 1e3:.1f} | "
            f"{quicker / crop:.0f} |"
        )
        print(f"\n{platform.processor() or platform.machine()}, one thread")


if __name__ == "__main__":
    main()
