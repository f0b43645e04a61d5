"""From which side networks saw the body, by the steps of the original programs on made scans."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch

from voxgraft.grafting import graft
from voxgraft.models import build_encoder
from voxgraft.models.orientation import AXES, Oriented
from voxgraft.models.volumetric.nnunet import build_nnunet
from voxgraft.models.volumetric.nnunet_plan import PLAIN_5
from voxgraft.transforms import orient
from voxgraft.volumes import read_volume
from voxgraft.weights import SOURCES

ORIENTATIONS = ("RAS", "LPS", "LAI", "PSR", "SAR")


def _scan(folder: Path, orientation: str) -> Path:
    """Write a scan whose voxels are all different, as a file of some orientation."""
    upright = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)  # right, anterior, superior
    image = nib.Nifti1Image(upright, np.diag([1.5, 1.5, 1.5, 1.0]))
    wanted = nib.orientations.axcodes2ornt(tuple(orientation))
    path = folder / f"{orientation}.nii.gz"
    nib.save(image.as_reoriented(nib.orientations.io_orientation(image.affine)), path)
    ours = nib.orientations.io_orientation(image.affine)
    turned = image.as_reoriented(nib.orientations.ornt_transform(ours, wanted))
    nib.save(turned, path)
    assert "".join(nib.aff2axcodes(nib.load(path).affine)) == orientation
    return path


def _totalsegmentator(path: Path) -> np.ndarray:
    """nnU-Net's reader that turns to RAS, and then reads from the last axis."""
    image = nib.load(path)
    turned = image.as_reoriented(nib.orientations.io_orientation(image.affine))
    return turned.get_fdata().transpose(2, 1, 0)


def _stunet(path: Path) -> np.ndarray:
    """Files in RAS (as TotalSegmentator's program makes them), then nnU-Net 1's reader."""
    upright = path.with_name("upright.nii.gz")
    nib.save(nib.as_closest_canonical(nib.load(path)), upright)
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(upright)))


def _merlin(path: Path) -> np.ndarray:
    """RAS, then the last axis first."""
    volume = torch.from_numpy(nib.as_closest_canonical(nib.load(path)).get_fdata())
    return volume[None, None].permute(0, 1, 4, 2, 3)[0, 0].numpy()


ORIGINALS = {
    "nnunet.totalsegmentator_291": _totalsegmentator,
    "nnunet.totalsegmentator_850": _totalsegmentator,
    "stunet_b.totalsegmentator": _stunet,
    "merlin_resnet152.abdominal_ct": _merlin,
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("source_id", ORIGINALS)
def test_a_network_gets_a_scan_as_its_original_got_it(
    tmp_path: Path, source_id: str, orientation: str
) -> None:
    path = _scan(tmp_path, orientation)
    source = SOURCES.get(source_id)
    with torch.device("meta"):
        network = build_encoder(source.architecture, axes=source.input.axes)
    assert isinstance(network, Oriented)
    upright = torch.from_numpy(orient(read_volume(path)).voxels.astype(np.float32))[None]
    seen = network.turned(upright)
    np.testing.assert_array_equal(seen[0, 0].numpy(), ORIGINALS[source_id](path))
    assert torch.equal(network.turned_back(seen), upright)


def test_every_contract_says_whence_its_axes_are_known_or_why_not() -> None:
    families = ("nnunet", "stunet", "medicalnet", "merlin")
    found = [source for source in SOURCES if source.architecture.startswith(families)]
    assert len(found) > 20
    for source in found:
        contract = source.input
        assert contract.axes_evidence.startswith("not known") == (contract.axes is None), source.id
        assert contract.axes_evidence, source.id


def test_anisotropic_strides_are_declared_as_they_run_here(tmp_path: Path) -> None:
    strides = [[1, 1, 1], [2, 2, 1], [2, 2, 1], [2, 2, 2], [2, 1, 2]]
    options = {"features": [4] * 5, "strides": strides, "kernels": [[3, 3, 1], *[[3, 3, 3]] * 4]}
    straight = build_nnunet("plain", PLAIN_5, seed=3, **options)
    turned = build_nnunet("plain", PLAIN_5, seed=3, axes="LPS", **options)
    # Right and anterior were the first two axes: here they are width and height.
    assert turned.declaration.strides[-1] == (4, 8, 16)
    assert straight.declaration.strides[-1] == (16, 8, 4)
    volume = torch.randn(1, 1, 20, 24, 32, generator=torch.Generator().manual_seed(1))
    seen = volume.permute(0, 1, 4, 3, 2).flip(2, 3)
    with torch.no_grad():
        for ours, theirs in zip(
            turned.eval().forward_stages(volume),
            straight.eval().forward_stages(seen),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs.flip(2, 3).permute(0, 1, 4, 3, 2))
    turned.set_axes(AXES)
    assert turned.declaration == straight.declaration


@pytest.mark.parametrize("axes", ["SAR", "RAS"])
def test_a_plan_along_its_own_axes_is_followed(tmp_path: Path, axes: str) -> None:
    """The strides of a checkpoint are along the axes of its training, whichever these were."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    strides = [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
    with torch.random.fork_rng():
        torch.manual_seed(4)
        original = PlainConvUNet(
            *(1, 3, [4, 6, 8], torch.nn.Conv3d, [[1, 3, 3], [3, 3, 3], [3, 3, 3]], strides),
            n_conv_per_stage=2,
            num_classes=2,
            n_conv_per_stage_decoder=2,
            conv_bias=True,
            norm_op=torch.nn.InstanceNorm3d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=torch.nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
        ).eval()
    path = tmp_path / "checkpoint_final.pth"
    torch.save({"network_weights": original.state_dict()}, path)
    result = graft(f"nnunet_3d@{path}", "nnunet_3d", model_options={"axes": axes})
    assert result.report.coverage == 1.0
    volume = torch.randn(1, 1, 16, 24, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        seen = volume if axes == "SAR" else volume.permute(0, 1, 4, 3, 2)
        expected = original.encoder(seen)[-1]
        expected = expected if axes == "SAR" else expected.permute(0, 1, 4, 3, 2)
        torch.testing.assert_close(result.encoder.eval().forward_features(volume), expected)
