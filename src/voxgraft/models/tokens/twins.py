"""Which 3D twin belongs to one of timm's transformers, by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from voxgraft.models.encoder import Encoder
from voxgraft.models.tokens.build_plain import PLAIN_OPTIONS, build_vit
from voxgraft.models.tokens.build_windowed import WINDOWED_OPTIONS, build_swin
from voxgraft.models.tokens.timm_network import is_plain, is_windowed


@dataclass(frozen=True)
class TokenTwin:
    """How the 3D twin of a transformer of timm is built."""

    build: Callable[..., Encoder]
    options: frozenset[str]


def token_twin(architecture: str) -> TokenTwin | None:
    """Return how the twin of timm's ``architecture`` is built; None if that is no transformer."""
    if is_plain(architecture):
        return TokenTwin(partial(build_vit, architecture), PLAIN_OPTIONS)
    if is_windowed(architecture):
        return TokenTwin(partial(build_swin, architecture), WINDOWED_OPTIONS)
    return None
