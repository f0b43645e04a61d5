"""Tables that papers have printed, to hold a comparison against; with what is wrong in them."""

from voxgraft.comparison.published.cells import Cell, published_cells
from voxgraft.comparison.published.means import PublishedMean, published_means

__all__ = ["Cell", "PublishedMean", "published_cells", "published_means"]
