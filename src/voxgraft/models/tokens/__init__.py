"""Networks of tokens: ViT and Swin made 3D, video transformers, Primus."""

from voxgraft.models.tokens.entries import ENTRIES

__all__ = ["ENTRIES"]
