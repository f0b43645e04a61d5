import dataclasses
import json

import pydantic
import pytest

from voxgraft.errors import PreprocessingError
from voxgraft.transforms import Augmentation


def test_settings_come_back_from_json_also_through_pydantic() -> None:
    settings = dataclasses.replace(
        Augmentation.standard(), rotation_degrees=(9, 0, 0), in_plane=True
    )
    text = json.dumps(settings.to_dict())
    assert Augmentation.from_dict(json.loads(text)) == settings
    assert pydantic.TypeAdapter(Augmentation).validate_json(text, strict=True) == settings
    assert Augmentation.from_dict({}) == Augmentation()
    assert Augmentation(shear=0) == Augmentation.from_dict({"shear": 0.0})


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(PreprocessingError) as error:
        Augmentation.from_dict(
            {
                "flip": True,
                "flip_axes": ["left"],
                "rotation_degrees": [200, 0, 0],
                "scale": [1.2, 0.8],
                "gamma": [0, 1],
                "noise_sd": [-1, 0],
                "shear": 0.7,
                "intensity_shift": float("nan"),
                "blur_probability": 2,
            }
        )
    message = str(error.value)
    assert "(9 faults)" in message
    for part in (
        "unknown setting 'flip'",
        "flip_axes is ['left']. Expected a list out of depth, height, width.",
        "rotation_degrees is [200, 0, 0]. Expected three numbers (depth, height, width), each "
        "from 0 to 180.",
        "scale is [1.2, 0.8]. Expected [low, high] from 0.01 to 100.",
        "gamma is [0, 1]",
        "noise_sd is [-1, 0]",
        "shear is 0.7. Expected a number from 0 to 0.4.",
        "intensity_shift is nan",
        "blur_probability is 2. Expected a number from 0 to 1.",
    ):
        assert part in message
    with pytest.raises(PreprocessingError, match="each axis once"):
        Augmentation(flip_axes=("width", "width"))
    with pytest.raises(PreprocessingError, match=r"in_plane is 1\. Expected true or false"):
        Augmentation(in_plane=1)  # type: ignore[arg-type]
    with pytest.raises(PreprocessingError) as error:
        Augmentation(in_plane=True, rotation_degrees=(20, 0, 5), translation_mm=(1, 2, 2))
    assert "(2 faults)" in str(error.value)
    assert "Expected 0 for height and width" in str(error.value)
    assert "translation_mm is (1, 2, 2) with in_plane. Expected 0 for depth." in str(error.value)
    with pytest.raises(PreprocessingError, match="not a mapping"):
        Augmentation.from_dict([])  # type: ignore[arg-type]
