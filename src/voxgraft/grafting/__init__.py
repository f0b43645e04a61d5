"""Where starting weights meet models."""

from voxgraft.grafting.deflation import Deflated, deflate
from voxgraft.grafting.graft import Graft, graft, save_graft
from voxgraft.grafting.networks import network_of
from voxgraft.grafting.plan import Norm
from voxgraft.grafting.recognition import find_source, inspect_file
from voxgraft.grafting.segmentation import SegmentationGraft, graft_segmentation

__all__ = [
    "Deflated",
    "Graft",
    "Norm",
    "SegmentationGraft",
    "deflate",
    "find_source",
    "graft",
    "graft_segmentation",
    "inspect_file",
    "network_of",
    "save_graft",
]
