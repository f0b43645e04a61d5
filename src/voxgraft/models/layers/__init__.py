"""The 3D counterparts of 2D layers."""
