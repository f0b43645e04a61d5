"""Where starting weights meet models."""

from voxgraft.grafting.graft import Graft, graft, save_graft
from voxgraft.grafting.networks import network_of
from voxgraft.grafting.plan import Norm

__all__ = ["Graft", "Norm", "graft", "network_of", "save_graft"]
