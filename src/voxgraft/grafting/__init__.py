"""Where starting weights meet models."""

from voxgraft.grafting.graft import Graft, graft, save_graft
from voxgraft.grafting.plan import Norm

__all__ = ["Graft", "Norm", "graft", "save_graft"]
