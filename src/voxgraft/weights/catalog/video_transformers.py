"""Transformers trained on video."""

from __future__ import annotations

from dataclasses import replace

from voxgraft.weights.source import UNSTATED, HubFile, InputContract, Origin, Source, WebFile

_K400 = "Kinetics-400"
_K600 = "Kinetics-600"
_SSV2 = "Something-Something-v2"
_CLASSES = {_K400: 400, _K600: 600, _SSV2: 174}

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_GREY = ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

_CODE_BSD = "the code is BSD-3-Clause; no licence is stated for the weights"
_CODE_APACHE = "the code is Apache-2.0; no licence is stated for the weights"

_PARAMETERS = {
    "mvit_v1_b": 36_303_072,
    "mvit_v2_s": 34_230_144,
    "mvit_base_16x4": 36_303_072,
    "mvit_base_32x3": 36_303_840,
    "swin3d_t": 27_850_470,
    "swin3d_s": 49_509_078,
    "swin3d_b": 87_638_984,
    "swin3d_b_window16": 88_655_688,
    "videomae_base": 86_227_200,
    "videomae_large": 303_860_736,
    "videomae_small_finetuned": 21_879_936,
    "videomae_base_finetuned": 86_227_200,
    "videomae_large_finetuned": 303_860_736,
    "videomae_huge_finetuned": 631_607_040,
    "videomae_giant_finetuned": 1_011_610_752,
    "timesformer_base": 121_258_752,
    "timesformer_hr": 121_716_480,
    "vivit_b_16x2": 88_646_400,
    "vjepa2_vitl": 303_885_312,
    "vjepa2_vith": 631_648_000,
    "vjepa2_vitg": 1_012_173_952,
}
"""Of each network without head, with three channels."""

_WIDTHS = {
    "mvit_": 768,
    "swin3d_b": 1024,
    "swin3d_": 768,
    "videomae_small": 384,
    "videomae_base": 768,
    "videomae_large": 1024,
    "videomae_huge": 1280,
    "timesformer_": 768,
    "vivit_": 768,
}
"""Features that the classifier takes, by the beginning of the network's name."""


def _source(
    architecture: str,
    tag: str,
    file: Origin,
    key_layout: str,
    *,
    paper: str,
    size: tuple[int, int, int],
    trained_on: tuple[str, ...],
    colors: tuple[tuple[float, ...], tuple[float, ...]] = _IMAGENET,
    classes: int = 0,
    head: tuple[str, ...] = ("head",),
    head_parameters: int | None = None,
    decoder: tuple[str, ...] = (),
    decoder_parameters: int = 0,
    licence: str = UNSTATED,
    sha256_begins: str | None = None,
    note: str = "",
) -> Source:
    if head_parameters is None:
        width = next((w for start, w in _WIDTHS.items() if architecture.startswith(start)), 0)
        head_parameters = (width + 1) * classes if classes else 0
    stem = "conv_proj" if architecture.startswith("mvit_") else "patch_embed.proj"
    return Source(
        id=f"{architecture}.{tag}",
        file=file,
        sha256=None,
        sha256_begins=sha256_begins,
        layout="video",
        input=InputContract(channels=3, mean=colors[0], sd=colors[1], size=size),
        architecture=architecture,
        stem=(stem,),
        head=head if head_parameters else (),
        decoder=decoder,
        parameters=_PARAMETERS[architecture] + head_parameters + decoder_parameters,
        head_parameters=head_parameters,
        licence=licence,
        paper=paper,
        trained_on=trained_on,
        key_layout=key_layout,
        note=note,
    )


def _torchvision(
    name: str, file: str, size: tuple[int, int, int], tag: str, *images: str
) -> Source:
    swin = name.startswith("swin3d_")
    mvit = "arXiv:2112.01526" if name == "mvit_v2_s" else "arXiv:2104.11227"
    return _source(
        name,
        tag,
        WebFile(url=f"https://download.pytorch.org/models/{file}.pth"),
        "torchvision-swin3d" if swin else "torchvision-mvit",
        paper="arXiv:2106.13230" if swin else mvit,
        size=size,
        trained_on=(*images, _K400),
        colors=_IMAGENET if swin else _GREY,
        classes=400,
        sha256_begins=file.rpartition("-")[2],
        note=_CODE_BSD,
    )


def _pytorchvideo(name: str, file: str, slices: int) -> Source:
    return _source(
        name,
        "k400",
        WebFile(url=f"https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/{file}.pyth"),
        "pytorchvideo-mvit",
        paper="arXiv:2104.11227",
        size=(slices, 224, 224),
        trained_on=(_K400,),
        colors=_GREY,
        classes=400,
        note=_CODE_APACHE,
    )


def _video_swin(name: str, tag: str, file: str, data: str, *before: str) -> Source:
    releases = "https://github.com/SwinTransformer/storage/releases/download/v1.0.4"
    return _source(
        name,
        tag,
        WebFile(url=f"{releases}/{file}.pth"),
        "video-swin",
        paper="arXiv:2106.13230",
        size=(32, 224, 224),
        trained_on=(*before, data),
        classes=_CLASSES[data],
        note=_CODE_APACHE,
    )


_SMALL_HEADS = (
    "; the configuration beside the file says 16 heads, with which transformers computes "
    "something else: the authors trained, and this network has, 6"
)


def _videomae(name: str, tag: str, repository: str, data: str) -> Source:
    finetuned = name.endswith("_finetuned")
    decoders = {"videomae_base": 7_983_744, "videomae_large": 39_136_256}
    return _source(
        name,
        tag,
        HubFile(repository=f"MCG-NJU/{repository}", filename="pytorch_model.bin"),
        "transformers-videomae",
        paper="arXiv:2203.12602",
        size=(16, 224, 224),
        trained_on=(data,),
        classes=_CLASSES[data] if finetuned else 0,
        decoder=() if finetuned else ("decoder", "encoder_to_decoder"),
        decoder_parameters=0 if finetuned else decoders[name],
        licence="cc-by-nc-4.0",
        note=(
            ("pre-trained and fine-tuned" if finetuned else "pre-trained without labels")
            + (_SMALL_HEADS if name.startswith("videomae_small") else "")
        ),
    )


def _videomae2(name: str, tag: str, repository: str, filename: str) -> Source:
    distilled = filename.startswith("distill/")
    return _source(
        name,
        tag,
        HubFile(repository=f"OpenGVLab/{repository}", filename=filename),
        "videomae",
        paper="arXiv:2303.16727",
        size=(16, 224, 224),
        trained_on=("Kinetics-710",) if distilled else ("UnlabeledHybrid",),
        classes=710 if distilled else 0,
        note=(
            "distilled from the giant network, which was pre-trained on UnlabeledHybrid"
            if distilled
            else "the file has a normalization of the pooled vector; whether it was trained, "
            "nobody says"
        ),
    )


def _timesformer(name: str, repository: str, data: str) -> Source:
    size = (16, 448, 448) if name == "timesformer_hr" else (8, 224, 224)
    tag = repository.rpartition("-")[2]
    return _source(
        name,
        tag,
        HubFile(repository=f"facebook/{repository}", filename="pytorch_model.bin"),
        "transformers-timesformer",
        paper="arXiv:2102.05095",
        size=size,
        trained_on=("ImageNet-21k", data),
        colors=_GREY,
        classes=_CLASSES[data],
        licence="cc-by-nc-4.0",
    )


_VIDEOMIX = (_SSV2, "Kinetics-700", "HowTo100M", "YT-Temporal-1B", "ImageNet-1k")


def _vjepa2(
    name: str, size: tuple[int, int, int], predictor: int, *, head: int = 0, data: str = ""
) -> Source:
    """Make an entry; ``head`` counts the attentive pooling and the classifier."""
    letters = f"{name.replace('_', '-')}-fpc{size[0]}-{size[1]}"
    tuned = data != ""
    return _source(
        name,
        f"fpc{size[0]}_{size[1]}" + ("_ssv2" if tuned else ""),
        HubFile(
            repository=f"facebook/{letters}" + ("-ssv2" if tuned else ""),
            filename="model.safetensors",
        ),
        "transformers-vjepa2",
        paper="arXiv:2506.09985",
        size=size,
        trained_on=_VIDEOMIX,
        head=("pooler", "classifier"),
        head_parameters=head,
        decoder=("predictor",),
        decoder_parameters=predictor,
        licence="mit",
        note="the pooled vector is the mean of the tokens"
        + ("; the original's classifier pools them by attention" if tuned else ""),
    )


def _own_vjepa2(name: str, file: str, size: tuple[int, int, int]) -> Source:
    """Make an entry of a file of the authors' own; their evaluations take the averaged network."""
    source = _source(
        name,
        f"own_{size[0]}_{size[1]}",
        WebFile(url=f"https://dl.fbaipublicfiles.com/vjepa2/{file}.pt"),
        "vjepa2",
        paper="arXiv:2506.09985",
        size=size,
        trained_on=_VIDEOMIX,
        licence="mit",
        note="the averaged network (target_encoder), as the authors evaluate it; the file has the "
        "trained one (encoder), the predictor and the optimizer too. The pooled vector is the mean "
        "of the tokens",
    )
    return replace(source, key="target_encoder")


SOURCES: tuple[Source, ...] = (
    _torchvision("mvit_v1_b", "mvit_v1_b-dbeb1030", (16, 224, 224), "kinetics400_v1"),
    _torchvision("mvit_v2_s", "mvit_v2_s-ae3be167", (16, 224, 224), "kinetics400_v1"),
    _torchvision("swin3d_t", "swin3d_t-7615ae03", (32, 224, 224), "kinetics400_v1", "ImageNet-1k"),
    _torchvision("swin3d_s", "swin3d_s-da41c237", (32, 224, 224), "kinetics400_v1", "ImageNet-1k"),
    _torchvision(
        "swin3d_b", "swin3d_b_1k-24f7c7c6", (32, 224, 224), "kinetics400_v1", "ImageNet-1k"
    ),
    _torchvision(
        "swin3d_b",
        "swin3d_b_22k-7c6ae6fa",
        (32, 224, 224),
        "kinetics400_imagenet22k_v1",
        "ImageNet-22k",
    ),
    _pytorchvideo("mvit_base_16x4", "MVIT_B_16x4", 16),
    _pytorchvideo("mvit_base_32x3", "MVIT_B_32x3_f294077834", 32),
    _video_swin(
        "swin3d_t",
        "authors_k400_1k",
        "swin_tiny_patch244_window877_kinetics400_1k",
        _K400,
        "ImageNet-1k",
    ),
    _video_swin(
        "swin3d_s",
        "authors_k400_1k",
        "swin_small_patch244_window877_kinetics400_1k",
        _K400,
        "ImageNet-1k",
    ),
    _video_swin(
        "swin3d_b",
        "authors_k400_1k",
        "swin_base_patch244_window877_kinetics400_1k",
        _K400,
        "ImageNet-1k",
    ),
    _video_swin(
        "swin3d_b",
        "authors_k400_22k",
        "swin_base_patch244_window877_kinetics400_22k",
        _K400,
        "ImageNet-22k",
    ),
    _video_swin(
        "swin3d_b",
        "authors_k600_22k",
        "swin_base_patch244_window877_kinetics600_22k",
        _K600,
        "ImageNet-22k",
    ),
    _video_swin(
        "swin3d_b_window16",
        "authors_ssv2",
        "swin_base_patch244_window1677_sthv2",
        _SSV2,
        _K400,
    ),
    _videomae("videomae_base", "k400", "videomae-base", _K400),
    _videomae("videomae_base", "k400_short", "videomae-base-short", _K400),
    _videomae("videomae_base", "ssv2", "videomae-base-ssv2", _SSV2),
    _videomae("videomae_base", "ssv2_short", "videomae-base-short-ssv2", _SSV2),
    _videomae("videomae_large", "k400", "videomae-large", _K400),
    *(
        _videomae(f"videomae_{size}_finetuned", tag, f"videomae-{size}-finetuned-{data}", known)
        for size, tag, data, known in (
            ("small", "k400", "kinetics", _K400),
            ("small", "ssv2", "ssv2", _SSV2),
            ("base", "k400", "kinetics", _K400),
            ("base", "ssv2", "ssv2", _SSV2),
            ("large", "k400", "kinetics", _K400),
            ("huge", "k400", "kinetics", _K400),
        )
    ),
    _videomae2(
        "videomae_small_finetuned",
        "v2_k710_distilled",
        "VideoMAE2",
        "distill/vit_s_k710_dl_from_giant.pth",
    ),
    _videomae2(
        "videomae_base_finetuned",
        "v2_k710_distilled",
        "VideoMAE2",
        "distill/vit_b_k710_dl_from_giant.pth",
    ),
    _videomae2("videomae_base_finetuned", "v2", "VideoMAEv2-Base", "model.safetensors"),
    _videomae2("videomae_large_finetuned", "v2", "VideoMAEv2-Large", "model.safetensors"),
    _videomae2("videomae_giant_finetuned", "v2", "VideoMAEv2-giant", "model.safetensors"),
    *(
        _timesformer(name, f"timesformer-{kind}-finetuned-{data}", known)
        for name, kind in (("timesformer_base", "base"), ("timesformer_hr", "hr"))
        for data, known in (("k400", _K400), ("k600", _K600), ("ssv2", _SSV2))
    ),
    _source(
        "vivit_b_16x2",
        "k400",
        HubFile(repository="google/vivit-b-16x2-kinetics400", filename="pytorch_model.bin"),
        "transformers-vivit",
        paper="arXiv:2103.15691",
        size=(32, 224, 224),
        trained_on=("ImageNet-21k", _K400),
        colors=_HALF,
        classes=400,
    ),
    _vjepa2("vjepa2_vitl", (64, 256, 256), 22_086_016),
    _vjepa2("vjepa2_vith", (64, 256, 256), 22_282_880),
    _vjepa2("vjepa2_vitg", (64, 256, 256), 22_381_312),
    _vjepa2("vjepa2_vitg", (64, 384, 384), 22_381_312),
    _own_vjepa2("vjepa2_vitl", "vitl", (64, 256, 256)),
    _own_vjepa2("vjepa2_vith", "vith", (64, 256, 256)),
    _own_vjepa2("vjepa2_vitg", "vitg", (64, 256, 256)),
    _own_vjepa2("vjepa2_vitg", "vitg-384", (64, 384, 384)),
    _vjepa2("vjepa2_vitl", (16, 256, 256), 22_086_016, head=49_514_670, data=_SSV2),
    _vjepa2("vjepa2_vitg", (64, 384, 384), 22_381_312, head=93_494_190, data=_SSV2),
)
