"""Image networks that are not on timm's hub: torchvision, RadImageNet, ..."""

from __future__ import annotations

from voxgraft.weights.source import Source

SOURCES: tuple[Source, ...] = ()
