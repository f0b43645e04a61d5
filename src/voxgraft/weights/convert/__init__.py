"""Conversion: names and shapes of one network to those of another."""

from voxgraft.weights.convert.blocks import block_rules
from voxgraft.weights.convert.channels import STEM_METHODS, StemMethod, fold_channels
from voxgraft.weights.convert.convert import Converted, convert, stage_of
from voxgraft.weights.convert.deflate import DEFLATIONS, Deflate, Deflation, deflate_kernel
from voxgraft.weights.convert.inflate import INFLATIONS, Inflation, inflate_kernel
from voxgraft.weights.convert.patches import ResizePatch, resize_patch
from voxgraft.weights.convert.positions import (
    DeepenCoordinates,
    FlattenPositions,
    ResizePositions,
    ResizeRelativePositions,
)
from voxgraft.weights.convert.rows import TakeRows
from voxgraft.weights.convert.rules import (
    Adapting,
    Cast,
    Drop,
    FoldChannels,
    Fresh,
    Inflate,
    Join,
    Naming,
    ReconcileKernel,
    Rename,
    Rule,
    Shape,
    UnitAxes,
)
from voxgraft.weights.convert.subset import Subset, TakeChannels

__all__ = [
    "DEFLATIONS",
    "INFLATIONS",
    "STEM_METHODS",
    "Adapting",
    "Cast",
    "Converted",
    "DeepenCoordinates",
    "Deflate",
    "Deflation",
    "Drop",
    "FlattenPositions",
    "FoldChannels",
    "Fresh",
    "Inflate",
    "Inflation",
    "Join",
    "Naming",
    "ReconcileKernel",
    "Rename",
    "ResizePatch",
    "ResizePositions",
    "ResizeRelativePositions",
    "Rule",
    "Shape",
    "StemMethod",
    "Subset",
    "TakeChannels",
    "TakeRows",
    "UnitAxes",
    "block_rules",
    "convert",
    "deflate_kernel",
    "fold_channels",
    "inflate_kernel",
    "resize_patch",
    "stage_of",
]
