"""Start 3D medical models from the best pre-trained weights, and prove whether it helped."""

__version__ = "0.1.0"
