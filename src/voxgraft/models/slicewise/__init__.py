"""2D networks on the slices of a volume, and what joins the slices."""

from voxgraft.models.slicewise.encoder import SLICEWISE_OPTIONS, SlicewiseEncoder, build_slicewise
from voxgraft.models.slicewise.entries import ENTRIES

__all__ = ["ENTRIES", "SLICEWISE_OPTIONS", "SlicewiseEncoder", "build_slicewise"]
