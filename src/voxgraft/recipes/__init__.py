"""The typed description of one training."""

from voxgraft.recipes.pretraining import segmentation_recipe, table_recipe, video_recipe
from voxgraft.recipes.recipe import (
    ModelSettings,
    Recipe,
    StartSettings,
    read_model,
    read_preprocessing,
    read_recipe,
    read_start,
    recipe_from_dict,
    write_recipe,
)
from voxgraft.recipes.sections import (
    Faults,
    check_keys,
    read_section,
    read_value,
    read_yaml,
    set_path,
    write_yaml,
)
from voxgraft.recipes.segmentation import SegmentationSettings
from voxgraft.recipes.task import TaskSettings

__all__ = [
    "Faults",
    "ModelSettings",
    "Recipe",
    "SegmentationSettings",
    "StartSettings",
    "TaskSettings",
    "check_keys",
    "read_model",
    "read_preprocessing",
    "read_recipe",
    "read_section",
    "read_start",
    "read_value",
    "read_yaml",
    "recipe_from_dict",
    "segmentation_recipe",
    "set_path",
    "table_recipe",
    "video_recipe",
    "write_recipe",
    "write_yaml",
]
