"""Where starting weights meet models."""

from voxgraft.grafting.graft import Graft, graft, save_graft
from voxgraft.grafting.networks import network_of
from voxgraft.grafting.plan import Norm
from voxgraft.grafting.recognition import find_source, inspect_file

__all__ = ["Graft", "Norm", "find_source", "graft", "inspect_file", "network_of", "save_graft"]
