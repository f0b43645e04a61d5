"""Write the catalogue's entries of timm checkpoints anew, from what the installed timm says.

Run after an upgrade of timm, from the repository's root: ``python benchmarks/make_timm_catalog.py``
"""

from __future__ import annotations

from pathlib import Path

from voxgraft.files import write_json
from voxgraft.weights.timm_entries import timm_source

NAMES = (
    "resnet18.a1_in1k",
    "resnet18.fb_swsl_ig1b_ft_in1k",
    "resnet34.a1_in1k",
    "resnet50.a1_in1k",
    "resnet50.tv2_in1k",
    "resnet50.fb_swsl_ig1b_ft_in1k",
    "resnet101.a1_in1k",
    "resnet10t.c3_in1k",
    "resnet14t.c3_in1k",
    "resnet26d.bt_in1k",
    "resnet50d.ra2_in1k",
    "wide_resnet50_2.racm_in1k",
    "resnext50_32x4d.a1_in1k",
    "resnext101_32x8d.fb_wsl_ig1b_ft_in1k",
    "seresnet50.a1_in1k",
    "seresnext50_32x4d.racm_in1k",
    "regnetx_004.pycls_in1k",
    "regnety_004.tv2_in1k",
    "densenet121.ra_in1k",
    "densenet121.tv_in1k",
    "densenet169.tv_in1k",
    "densenet201.tv_in1k",
    "efficientnet_b0.ra_in1k",
    "efficientnet_b1.ft_in1k",
    "efficientnet_b2.ra_in1k",
    "efficientnet_b3.ra2_in1k",
    "tf_efficientnet_b0.ns_jft_in1k",
    "efficientnet_lite0.ra_in1k",
    "tf_efficientnet_lite0.in1k",
    "mobilenetv2_100.ra_in1k",
    "mobilenetv3_small_050.lamb_in1k",
    "mobilenetv3_small_100.lamb_in1k",
    "mobilenetv3_large_100.ra_in1k",
    "convnext_atto.d2_in1k",
    "convnext_tiny.fb_in1k",
    "convnext_tiny.fb_in22k_ft_in1k",
    "convnext_small.fb_in1k",
    "convnext_base.fb_in22k_ft_in1k",
    "convnextv2_atto.fcmae_ft_in1k",
    "convnextv2_tiny.fcmae_ft_in22k_in1k",
)


def main() -> None:
    path = Path(__file__).parent.parent / "src/voxgraft/weights/data/timm_sources.json"
    write_json(path, [timm_source(name).to_dict() for name in NAMES])
    print(f"{len(NAMES)} entries in {path}")


if __name__ == "__main__":
    main()
