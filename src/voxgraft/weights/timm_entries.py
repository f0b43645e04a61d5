"""Catalogue entries made of what timm says about its own checkpoints."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from voxgraft.errors import SourceError
from voxgraft.weights.source import UNSTATED, HubFile, InputContract, Source

_PAPERS = (
    ("convnextv2", "arXiv:2301.00808"),
    ("convnext", "arXiv:2201.03545"),
    ("densenet", "arXiv:1608.06993"),
    ("tf_efficientnetv2", "arXiv:2104.00298"),
    ("efficientnetv2", "arXiv:2104.00298"),
    ("efficientnet", "arXiv:1905.11946"),
    ("tf_efficientnet", "arXiv:1905.11946"),
    ("mobilenetv2", "arXiv:1801.04381"),
    ("mobilenetv3", "arXiv:1905.02244"),
    ("tf_mobilenetv3", "arXiv:1905.02244"),
    ("regnet", "arXiv:2003.13678"),
    ("wide_resnet", "arXiv:1605.07146"),
    ("resnext", "arXiv:1611.05431"),
    ("seresne", "arXiv:1709.01507"),
    ("resnet", "arXiv:1512.03385"),
    ("deit3", "arXiv:2204.07118"),
    ("deit", "arXiv:2012.12877"),
    ("eva02", "arXiv:2303.11331"),
    ("swinv2", "arXiv:2111.09883"),
    ("swin", "arXiv:2103.14030"),
    ("vit", "arXiv:2010.11929"),
)
"""Paper of each family's architecture, where timm names none for the weights."""

_PAPERS_OF_TAGS = (
    ("dinov3", "arXiv:2508.10104"),
    ("reg4_dinov2", "arXiv:2309.16588"),
    ("dinov2", "arXiv:2304.07193"),
    (".dino", "arXiv:2104.14294"),
    (".mae", "arXiv:2111.06377"),
    (".v2_webli", "arXiv:2502.14786"),
    ("siglip", "arXiv:2303.15343"),
    (".openai", "arXiv:2103.00020"),
    (".laion2b", "arXiv:2212.07143"),
    (".datacompxl", "arXiv:2304.14108"),
    (".dfn2b", "arXiv:2309.17425"),
    (".merged2b", "arXiv:2303.15389"),
    (".clip_laion2b", "arXiv:2212.07143"),
    (".augreg", "arXiv:2106.10270"),
    ("_swsl_", "arXiv:1905.00546"),
    ("_ssl_", "arXiv:1905.00546"),
    ("_wsl_", "arXiv:1805.00932"),
    (".ns_jft", "arXiv:1911.04252"),
)
"""Paper of the weights themselves, by marks in their names; looked at first."""

_DATA_SETS = (
    ("ig1b", "Instagram-1B"),
    ("yfcc100m", "YFCC-100M"),
    ("jft", "JFT-300M"),
    ("in22k", "ImageNet-22k"),
    ("in21k", "ImageNet-21k"),
    ("in12k", "ImageNet-12k"),
    ("in1k", "ImageNet-1k"),
    ("laion2b", "LAION-2B"),
    ("merged2b", "LAION-2B"),
    ("merged2b", "COYO-700M"),
    ("datacompxl", "DataComp-1B"),
    ("dfn2b", "DFN-2B"),
    ("webli", "WebLI"),
    ("openai", "OpenAI's WIT-400M"),
    ("lvd142m", "LVD-142M"),
    ("lvd1689m", "LVD-1689M"),
    ("dino", "ImageNet-1k"),
    ("mae", "ImageNet-1k"),
)
"""Marks in timm's tags, and the data sets that they stand for."""


def timm_source(name: str) -> Source:
    """Return the catalogue entry of a timm checkpoint.

    Args:
        name: ``architecture.tag``, or an architecture for its default weights.

    Returns:
        An entry that is not verified: its facts are timm's, its file was not seen.

    Raises:
        SourceError: If timm has no such architecture or no such weights.
    """
    import timm
    from timm.models import get_pretrained_cfg

    architecture, _, tag = name.partition(".")
    _known(architecture)
    tags = [other.partition(".")[2] for other in timm.list_pretrained(f"{architecture}.*")]
    # timm falls back on other weights where it does not know a tag: ask only for what it lists.
    if (tag and tag not in tags) or not tags:
        raise SourceError(
            f"timm has no weights {name!r}. Of {architecture!r} it has: "
            f"{', '.join(tags) if tags else 'none'}. With a file of your own: "
            f"`timm:{architecture}@/path/to/file`."
        )
    cfg: Any = get_pretrained_cfg(name)
    if not cfg.hf_hub_id:
        raise SourceError(
            f"the weights {name!r} are not on the hub. Fetch {cfg.url or 'their file'} yourself "
            f"and give `timm:{name}@/path/to/file`."
        )
    facts = _facts(architecture, cfg, cfg.num_classes)
    of_weights = (paper for mark, paper in _PAPERS_OF_TAGS if mark in f"{architecture}.{cfg.tag}")
    facts["paper"] = cfg.paper_ids or next(of_weights, facts["paper"])
    return Source(
        id=f"{architecture}.{cfg.tag}",
        file=HubFile(repository=cfg.hf_hub_id, filename=cfg.hf_hub_filename or "model.safetensors"),
        sha256=None,
        licence=cfg.license or UNSTATED,
        trained_on=_trained_on(cfg.tag),
        **facts,
    )


def _trained_on(tag: str) -> tuple[str, ...]:
    found = [data for mark, data in _DATA_SETS if mark in tag]
    if "lvd" in tag:  # DINOv2 and DINOv3 say what they were trained on after their own name
        found = [data for data in found if data.startswith("LVD")]
    return tuple(dict.fromkeys(found))


def architecture_facts(architecture: str) -> dict[str, Any]:
    """Return the fields of a Source that follow from a timm architecture alone.

    Raises:
        SourceError: If timm has no such architecture.
    """
    from timm.models import get_pretrained_cfg

    _known(architecture)
    cfg: Any = get_pretrained_cfg(architecture)
    return _facts(architecture, cfg, cfg.num_classes)


def _known(architecture: str) -> None:
    import timm

    if timm.is_model(architecture):
        return
    near = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.5)
    hint = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
    raise SourceError(f"timm has no architecture {architecture!r}.{hint}")


def _facts(architecture: str, cfg: Any, classes: int) -> dict[str, Any]:
    import timm

    shapes = architecture_shapes(architecture, classes)
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    sizes = {
        name: torch.Size(shape).numel()
        for name, shape in shapes.items()
        if name.rpartition(".")[2] not in buffers
    }
    heads = tuple(f"{head}." for head in _names(cfg.classifier))
    twin = architecture.removeprefix("tf_") if architecture.startswith("tf_") else ""
    mean, sd = tuple(map(float, cfg.mean)), tuple(map(float, cfg.std))
    return {
        "layout": "image",
        "input": InputContract(
            channels=len(mean), mean=mean, sd=sd, size=tuple(map(int, cfg.input_size[1:]))
        ),
        "architecture": architecture,
        "also_fits": (twin,) if twin and timm.is_model(twin) else (),
        "stem": _names(cfg.first_conv),
        "head": _names(cfg.classifier) if classes else (),
        "parameters": sum(sizes.values()),
        "head_parameters": sum(
            size for name, size in sizes.items() if classes and name.startswith(heads)
        ),
        "paper": next((p for m, p in _PAPERS if architecture.startswith(m)), UNSTATED),
    }


def _names(value: Any) -> tuple[str, ...]:
    return () if not value else (value,) if isinstance(value, str) else tuple(map(str, value))


@cache
def architecture_shapes(architecture: str, classes: int = 1000) -> Mapping[str, tuple[int, ...]]:
    """Return name and shape of each tensor of a timm network, without making its weights.

    Raises:
        SourceError: If timm has no such architecture.
    """
    import timm

    _known(architecture)
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore", UserWarning)
        network = timm.create_model(architecture, num_classes=classes)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
