"""Volume to volume, and batches augmented on the training device.

What needs torch is imported on first use, so that the processes that prepare volumes do not pay
for it.
"""

from typing import TYPE_CHECKING, Any

from voxgraft.transforms.geometry import crop_or_pad, obliquity_degrees, orient
from voxgraft.transforms.hu_windows import WINDOWS_HU, Window, WindowChannels
from voxgraft.transforms.intensity import (
    Intensity,
    Keep,
    MinMax,
    Scale,
    ZScore,
    parse_intensity,
)
from voxgraft.transforms.preprocess import Preprocessing, preprocess
from voxgraft.transforms.resampling import resample

if TYPE_CHECKING:
    from voxgraft.transforms.augmentation import Augmentation
    from voxgraft.transforms.batch import augment

__all__ = [
    "WINDOWS_HU",
    "Augmentation",
    "Intensity",
    "Keep",
    "MinMax",
    "Preprocessing",
    "Scale",
    "Window",
    "WindowChannels",
    "ZScore",
    "augment",
    "crop_or_pad",
    "obliquity_degrees",
    "orient",
    "parse_intensity",
    "preprocess",
    "resample",
]


def __getattr__(name: str) -> Any:
    if name == "augment":
        from voxgraft.transforms.batch import augment

        return augment
    if name == "Augmentation":
        from voxgraft.transforms.augmentation import Augmentation

        return Augmentation
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
