"""Made images: anatomy with masks, for trying things out where no data may be shown."""

from voxgraft.synthesis.anatomy import ANATOMY, Anatomy, make_anatomy, write_anatomies

__all__ = ["ANATOMY", "Anatomy", "make_anatomy", "write_anatomies"]
