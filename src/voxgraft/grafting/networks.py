"""Which network of the registry a source's weights belong in."""

from __future__ import annotations

from voxgraft.models import MODELS
from voxgraft.weights.source import Source


def network_of(source: Source) -> str:
    """Return the name of the network that a source's weights go into without a choice.

    For an image source that is the 3D twin of the network that it was trained in; for any other
    that network itself.
    """
    if source.layout != "image" or source.saved:
        return source.architecture
    for entry in MODELS:
        if entry.twin_of == source.architecture:
            return entry.name
    return f"{source.architecture}_3d"
