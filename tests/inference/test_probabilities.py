"""Probabilities of whole scans as files: those of MONAI, in place, in bounded memory."""

import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from monai.inferers import sliding_window_inference
from torch import nn

from voxgraft.errors import InferenceError
from voxgraft.inference import Probabilities, SegmentedScan, write_segmented
from voxgraft.inference.probabilities import FULL, segment_with_probabilities
from voxgraft.sliding import PackedMasks, Sliding, labels_on_scan, segment_label_map
from voxgraft.volumes import Affine, Volume, read_volume, write_volume

SIZE = (14, 20, 17)
SLIDING = Sliding(window_size=(8, 12, 12), overlap=0.5)
CLASSES = ("liver", "spleen")


class Convolution(nn.Module):
    """A network of one layer; its outputs are small, so that rounding makes many voxels equal."""

    def __init__(self, outputs: int, size: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(outputs)
        self.layer = nn.Conv3d(1, outputs, 3, padding=1)
        with torch.no_grad():
            self.layer.weight.mul_(size)
            self.layer.bias.mul_(size)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images)


def image_of(size=SIZE) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, *size)).astype(np.float32)


def monai_scores(network: nn.Module, image: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        return sliding_window_inference(
            torch.from_numpy(image)[None], SLIDING.window_size, 1, network, 0.5, "gaussian"
        )[0]


def kept_of(tmp_path: Path, network: nn.Module, image, affine, *, overlapping: bool):
    kept = Probabilities(tmp_path)
    kept.begin(image.shape[1:], affine)
    found = segment_with_probabilities(
        network,
        image,
        SLIDING,
        overlapping=overlapping,
        into=kept,  # type: ignore[arg-type]
    )
    return kept, found


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("size", [1.0, 1e-4])
def test_they_are_monais_and_agree_with_the_labels(tmp_path, overlapping, size) -> None:
    network, image = Convolution(11, size).eval(), image_of()
    kept, found = kept_of(tmp_path, network, image, Affine.from_spacing((1, 1, 1)),
                          overlapping=overlapping)  # fmt: skip
    logits = monai_scores(network, image)
    wanted = torch.sigmoid(logits) if overlapping else torch.softmax(logits, 0)
    with kept:
        assert kept.outputs == 11
        values = np.stack([kept.read(output) for output in range(11)])
    assert list(tmp_path.iterdir()) == []
    # A step for rounding, and one where the winner must stand out.
    assert np.abs(values / FULL - wanted.numpy()).max() < 1.6 / FULL
    if overlapping:
        assert isinstance(found, PackedMasks)
        for index, one in enumerate(values):
            assert np.array_equal(found.mask(index).numpy(), one > FULL // 2)
        return
    assert np.array_equal(
        found.numpy(), segment_label_map(network, torch.from_numpy(image), SLIDING)
    )
    ordered = np.sort(values, axis=0)
    assert (ordered[-1] > ordered[-2]).all()
    assert np.array_equal(values.argmax(axis=0), found.numpy())


def turned(degrees: float, spacing=(2.0, 0.9, 0.8)) -> Affine:
    turn = np.radians(degrees)
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [0, np.sin(turn), np.cos(turn)],
        [0, np.cos(turn), -np.sin(turn)],
        [1, 0, 0],
    ]
    matrix[:3, :3] *= spacing
    matrix[:3, 3] = (-2.0, -3.0, 1.0)
    return Affine(matrix)


@pytest.mark.parametrize("degrees", [0, 12])
def test_files_lie_on_the_scan_and_hold_what_simpleitk_resamples(tmp_path, degrees) -> None:
    network, image = Convolution(3).eval(), image_of()
    affine = Affine.from_spacing((1.5, 1.0, 1.0))
    shape, own = (9, 22, 21), turned(degrees, (1.3, 0.9, 0.8))
    write_volume(Volume(np.zeros((1, *shape), np.int16), own), tmp_path / "scan.nii.gz")
    kept, found = kept_of(tmp_path, network, image, affine, overlapping=False)
    with kept:
        network_values = [kept.read(output) / FULL for output in range(3)]
        labels = labels_on_scan(found, affine, shape, own)
        scan = SegmentedScan(CLASSES, own, labels, tmp_path / "scan.nii.gz")
        written = write_segmented(scan, tmp_path / "out", probabilities=kept)
    names = ("background", *CLASSES)
    files = [tmp_path / "out" / "probabilities" / f"{name}.nii.gz" for name in names]
    assert set(files) <= set(written)
    total = np.zeros(shape)
    for path, values, outside in zip(files, network_values, (1.0, 0.0, 0.0), strict=True):
        source = SimpleITK.GetImageFromArray(values)
        spacing, origin, direction = affine.to_lps()
        source.SetSpacing(spacing)
        source.SetOrigin(origin)
        source.SetDirection(direction.ravel().tolist())
        reference = SimpleITK.ReadImage(str(tmp_path / "scan.nii.gz"))
        resampled = SimpleITK.Resample(
            source, reference, SimpleITK.Transform(), SimpleITK.sitkLinear, outside,
            SimpleITK.sitkFloat64,
        )  # fmt: skip
        image_file = SimpleITK.ReadImage(str(path))
        read = SimpleITK.GetArrayFromImage(image_file)
        assert np.array_equal(read.T, nibabel.load(path).get_fdata())
        assert np.array_equal(read, read_volume(path).voxels[0])
        for get in ("GetOrigin", "GetSpacing", "GetDirection", "GetSize"):
            assert getattr(image_file, get)() == getattr(reference, get)()
        wanted = SimpleITK.GetArrayFromImage(resampled)
        # Where the network saw all around; SimpleITK has its own rule at the border.
        inside = affine.to_index(own.to_world(np.stack(np.indices(shape), axis=-1)))
        seen = ((inside > 0) & (inside < np.array(SIZE) - 1)).all(axis=-1)
        assert seen.mean() > 0.3
        assert np.abs(read - wanted)[seen].max() < 2 / FULL
        total += read
    np.testing.assert_allclose(total, 1.0, atol=3 / FULL)


def test_a_scan_on_the_networks_grid_has_files_whose_largest_is_the_label(tmp_path) -> None:
    network, image = Convolution(3, 1e-4).eval(), image_of()
    # Turned and padded by whole voxels: a copy, with background beyond.
    affine = Affine.from_spacing((2.0, 1.0, 1.0))
    step = np.eye(4)[:, [2, 0, 1, 3]]
    step[:3, 3] = (-2, 3, 0)
    own, shape = Affine(affine.matrix @ step), (17, 18, 20)
    kept, found = kept_of(tmp_path, network, image, affine, overlapping=False)
    with kept:
        labels = labels_on_scan(found, affine, shape, own)
        write_segmented(SegmentedScan(CLASSES, own, labels), tmp_path / "out", probabilities=kept)
    files = [f"out/probabilities/{name}.nii.gz" for name in ("background", *CLASSES)]
    values = np.stack([read_volume(tmp_path / name).voxels[0] for name in files])
    combined = read_volume(tmp_path / "out" / "combined_labels.nii.gz").voxels[0]
    assert np.array_equal(values.argmax(axis=0), combined)
    assert set(np.unique(combined)) == {0, 1, 2}
    assert (values[0] == 1.0).any()


def test_memory_is_that_of_one_class(tmp_path) -> None:
    shape, outputs = (48, 64, 64), 40
    rng = np.random.default_rng(0)
    affine, own = Affine.from_spacing((1, 1, 1)), Affine.from_spacing((1.1, 1, 1))
    values = rng.integers(0, FULL, (outputs, 8, 64, 64)).astype(np.uint16)
    one = 2 * np.prod(shape)
    with Probabilities(tmp_path) as kept:
        kept.begin(shape, affine)
        tracemalloc.start()
        for first in range(0, 48, 8):
            kept.keep(values, (slice(first, first + 8), slice(0, 64), slice(0, 64)))
        scan = SegmentedScan(
            tuple(f"c{k}" for k in range(outputs)), own,
            PackedMasks(torch.zeros((5, *shape), dtype=torch.uint8), outputs),
        )  # fmt: skip
        write_segmented(scan, tmp_path / "out", probabilities=kept)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert np.array_equal(kept.read(7)[8:16], values[7])
    assert outputs * one > 15e6
    assert peak < 8 * one  # the class, and a slab in single precision with its steps


def test_refusals(tmp_path) -> None:
    affine = Affine.from_spacing((1, 1, 1))
    with Probabilities(tmp_path) as kept:
        kept.begin((1, 2, 2), affine)
        kept.keep(np.zeros((2, 1, 2, 2), np.uint16), (slice(0, 1), slice(0, 2), slice(0, 2)))
        scan = SegmentedScan(("Background",), affine, np.zeros((1, 2, 2), np.uint8))
        with pytest.raises(InferenceError, match="'background'"):
            write_segmented(scan, tmp_path / "out", probabilities=kept)
    network = Convolution(2).eval()
    with torch.no_grad():
        network.layer.bias[1] = torch.nan
    image = image_of()
    with Probabilities(tmp_path) as kept:
        kept.begin(SIZE, affine)
        with pytest.raises(InferenceError, match="NaN in the voxels"):
            segment_with_probabilities(network, image, SLIDING, overlapping=False, into=kept)
    assert list(tmp_path.iterdir()) == []
