"""What may happen to a training sample, how strongly and how often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from voxgraft.errors import PreprocessingError, raise_faults
from voxgraft.transforms.checks import is_number
from voxgraft.types import Json, Spacing3

Axis = Literal["depth", "height", "width"]
Range = tuple[float, float]

AXES: tuple[Axis, ...] = ("depth", "height", "width")


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Ranges and probabilities; each step is drawn for each sample by itself.

    A step whose range does nothing (as all do by default) is off, whatever its probability.

    Attributes:
        flip_axes: Axes that may be mirrored, each with ``flip_probability``. After orientation,
            ``"width"`` exchanges left and right: leave it out where sides matter.
        rotation_degrees: Largest angle about the (depth, height, width) axis, both ways; in mm,
            so that anisotropic voxels do not shear.
        scale: Range of the magnification (above 1, things get larger), log-uniform.
        shear: Largest tangent of each of the six shears, both ways, in mm.
        translation_mm: Largest shift along (depth, height, width), both ways.
        in_plane: Whether scale and shear leave depth alone, as a rotation about depth does:
            slices stay what they are, and resampling is several times as fast. Rotations about
            the other axes and shifts along depth must then be 0.
        intensity_shift: Largest amount that is added to all values, both ways.
        intensity_scale: Range of the factor of all values.
        gamma: Range of the exponent, applied between the sample's minimum and maximum;
            log-uniform.
        noise_sd: Range of the standard deviation of Gaussian noise.
        blur_sigma_mm: Range of the standard deviation of a Gaussian blur.
        flip_probability: And so on: how often the step happens to a sample.

    Raises:
        PreprocessingError: If a setting is impossible; all such settings are named.
    """

    flip_axes: tuple[Axis, ...] = ()
    flip_probability: float = 0.5
    rotation_degrees: Spacing3 = (0.0, 0.0, 0.0)
    rotation_probability: float = 0.5
    scale: Range = (1.0, 1.0)
    scale_probability: float = 0.5
    shear: float = 0.0
    shear_probability: float = 0.5
    translation_mm: Spacing3 = (0.0, 0.0, 0.0)
    translation_probability: float = 0.5
    in_plane: bool = False
    intensity_shift: float = 0.0
    intensity_shift_probability: float = 0.5
    intensity_scale: Range = (1.0, 1.0)
    intensity_scale_probability: float = 0.5
    gamma: Range = (1.0, 1.0)
    gamma_probability: float = 0.3
    noise_sd: Range = (0.0, 0.0)
    noise_probability: float = 0.3
    blur_sigma_mm: Range = (0.0, 0.0)
    blur_probability: float = 0.2

    def __post_init__(self) -> None:
        _raise_faults(_setting_faults(vars(self)))
        for name, value in vars(self).items():
            if name == "flip_axes":
                clean: object = tuple(value)
            elif name == "in_plane":
                clean = value
            elif isinstance(value, tuple | list):
                clean = tuple(float(number) for number in value)
            else:
                clean = float(value)
            object.__setattr__(self, name, clean)

    @classmethod
    def standard(cls) -> Augmentation:
        """Return moderate settings for volumes in [0, 1], on which left and right look alike."""
        return cls(
            flip_axes=("width",),
            rotation_degrees=(15.0, 10.0, 10.0),
            scale=(0.85, 1.15),
            intensity_shift=0.05,
            intensity_scale=(0.9, 1.1),
            gamma=(0.8, 1.25),
            noise_sd=(0.0, 0.05),
            blur_sigma_mm=(0.3, 1.0),
        )

    def to_dict(self) -> Json:
        """Return the complete settings as JSON; :meth:`from_dict` reads them again."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
        }

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Augmentation:
        """Read settings as they stand in a YAML file; what is left out has its default.

        Raises:
            PreprocessingError: Naming all unknown, mistyped and impossible settings at once.
        """
        if not isinstance(settings, Mapping):
            raise PreprocessingError(
                f"augmentation is {settings!r}, not a mapping. Expected settings such as "
                "{flip_axes: [width], rotation_degrees: [15, 0, 0]}."
            )
        known = {key: value for key, value in settings.items() if key in _names()}
        unknown = [f"unknown setting {key!r}" for key in settings if key not in _names()]
        _raise_faults(unknown + _setting_faults(known))
        return cls(**known)


def _names() -> list[str]:
    return [field.name for field in fields(Augmentation)]


def _is_numbers(value: object, count: int) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == count
        and all(is_number(number, 1e6) for number in value)
    )


def _setting_faults(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the settings that are given."""
    faults = []
    axes = values.get("flip_axes", ())
    if not isinstance(axes, tuple | list) or any(axis not in AXES for axis in axes):
        faults.append(f"flip_axes is {axes!r}. Expected a list out of {', '.join(AXES)}.")
    elif len(set(axes)) != len(axes):
        faults.append(f"flip_axes is {axes!r}. Expected each axis once.")
    for name, value in values.items():
        if name.endswith("_probability"):
            if not (is_number(value, 1e6) and 0 <= value <= 1):
                faults.append(f"{name} is {value!r}. Expected a number from 0 to 1.")
        elif name in ("rotation_degrees", "translation_mm"):
            most = 180 if name == "rotation_degrees" else 1e6
            if not (_is_numbers(value, 3) and all(0 <= number <= most for number in value)):
                faults.append(
                    f"{name} is {value!r}. Expected three numbers (depth, height, width), each "
                    f"from 0 to {most:g}."
                )
        elif name in ("scale", "gamma"):
            if not (_is_numbers(value, 2) and 0.01 <= value[0] <= value[1] <= 100):
                faults.append(f"{name} is {value!r}. Expected [low, high] from 0.01 to 100.")
        elif name in ("intensity_scale", "noise_sd", "blur_sigma_mm"):
            if not (_is_numbers(value, 2) and 0 <= value[0] <= value[1]):
                faults.append(f"{name} is {value!r}. Expected [low, high], 0 <= low <= high.")
        elif name == "shear":
            if not (is_number(value, 1e6) and 0 <= value <= 0.4):
                faults.append(f"shear is {value!r}. Expected a number from 0 to 0.4.")
        elif name == "intensity_shift" and not (is_number(value, 1e6) and value >= 0):
            faults.append(f"{name} is {value!r}. Expected a number, 0 or more.")
    in_plane = values.get("in_plane", False)
    if not isinstance(in_plane, bool):
        faults.append(f"in_plane is {in_plane!r}. Expected true or false.")
    elif in_plane:
        angles, shifts = values.get("rotation_degrees", ()), values.get("translation_mm", ())
        if _is_numbers(angles, 3) and any(angles[1:]):
            faults.append(
                f"rotation_degrees is {angles!r} with in_plane. Expected 0 for height and width: "
                "only a rotation about depth leaves slices what they are."
            )
        if _is_numbers(shifts, 3) and shifts[0]:
            faults.append(f"translation_mm is {shifts!r} with in_plane. Expected 0 for depth.")
    return faults


def _raise_faults(faults: list[str]) -> None:
    if faults:
        raise_faults(
            PreprocessingError,
            "the augmentation is impossible",
            faults,
            f"The settings are {', '.join(_names())}.",
        )
