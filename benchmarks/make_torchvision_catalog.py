"""Write the catalogue's entries of torchvision's weights anew, from what torchvision says of them.

Run after an upgrade of torchvision, from the repository's root:
``python benchmarks/make_torchvision_catalog.py``
"""

from __future__ import annotations

import re
from pathlib import Path

from torchvision.models import get_model_weights

from voxgraft.files import write_json
from voxgraft.weights.source import InputContract, Source, WebFile
from voxgraft.weights.timm_entries import architecture_facts

NETWORKS = {
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50",
    "resnet101": "resnet101",
    "resnet152": "resnet152",
    "resnext50_32x4d": "resnext50_32x4d",
    "resnext101_32x8d": "resnext101_32x8d",
    "wide_resnet50_2": "wide_resnet50_2",
    "wide_resnet101_2": "wide_resnet101_2",
    "densenet121": "densenet121",
    "densenet169": "densenet169",
    "densenet201": "densenet201",
    "efficientnet_b0": "efficientnet_b0",
    "efficientnet_b1": "efficientnet_b1",
    "efficientnet_b2": "efficientnet_b2",
    "efficientnet_b3": "efficientnet_b3",
    "efficientnet_b4": "efficientnet_b4",
    "efficientnet_v2_s": "efficientnetv2_s",
    "convnext_tiny": "convnext_tiny",
    "convnext_small": "convnext_small",
    "convnext_base": "convnext_base",
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v3_small": "mobilenetv3_small_100",
    "mobilenet_v3_large": "mobilenetv3_large_100",
    "regnet_x_400mf": "regnetx_004_tv",
    "regnet_x_800mf": "regnetx_008",
    "regnet_y_400mf": "regnety_004",
    "regnet_y_800mf": "regnety_008_tv",
    "regnet_y_1_6gf": "regnety_016",
    "vit_b_16": "vit_base_patch16_224",
    "vit_b_32": "vit_base_patch32_224",
    "vit_l_16": "vit_large_patch16_224",
    "swin_t": "swin_tiny_patch4_window7_224",
    "swin_s": "swin_small_patch4_window7_224",
    "swin_b": "swin_base_patch4_window7_224",
}
"""From torchvision's name of a network to timm's name of the same one."""


def main() -> None:
    path = Path(__file__).parent.parent / "src/voxgraft/weights/data/torchvision_sources.json"
    sources = [source for name, timm in NETWORKS.items() for source in entries(name, timm)]
    write_json(path, [source.to_dict() for source in sources])
    print(f"{len(sources)} entries in {path}")


def entries(name: str, timm: str) -> list[Source]:
    """Return the entries of a network's weights that were trained on ImageNet-1k alone."""
    facts = architecture_facts(timm)
    found = []
    for weights in get_model_weights(name):
        version = re.fullmatch(r"IMAGENET1K_V(\d)", weights.name)
        if version is None:
            continue
        if weights.meta["num_params"] != facts["parameters"]:
            raise SystemExit(f"{name} has not as many values as timm's {timm}")
        transform = weights.transforms()
        size = int(transform.crop_size[0])
        contract = InputContract(
            channels=3, mean=tuple(transform.mean), sd=tuple(transform.std), size=(size, size)
        )
        found.append(
            Source(
                id=f"torchvision_{name}.imagenet1k_v{version[1]}",
                file=WebFile(url=weights.url),
                sha256=None,
                # The file is named after the first digits of its hash.
                sha256_begins=weights.url.removesuffix(".pth").rpartition("-")[2],
                key_layout="torchvision",
                trained_on=("ImageNet-1k",),
                note=(
                    f"torchvision's {name}; torchvision is BSD-3-Clause, for the weights it states "
                    "no licence"
                ),
                **{**facts, "input": contract},
            )
        )
    return found


if __name__ == "__main__":
    main()
