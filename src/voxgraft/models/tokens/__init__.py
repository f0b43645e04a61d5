"""Networks of tokens: ViT and Swin made 3D, video transformers, Primus."""

from voxgraft.models.tokens.entries import ENTRIES
from voxgraft.models.tokens.timm_network import build_image_reference
from voxgraft.models.tokens.twins import token_twin

__all__ = ["ENTRIES", "build_image_reference", "token_twin"]
