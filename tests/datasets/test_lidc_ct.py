import numpy as np
import pytest

from voxgraft.datasets.importers.lidc_ct import ct_cube
from voxgraft.errors import VolumeError
from voxgraft.volumes import TILT_NOTE, Affine, Volume


def test_a_tilted_gantry_moves_the_outlines_pixels():
    affine = Affine(np.array([[0, 0, -1, 9], [0, -1, 0, 9], [1, 0, 0, 0], [0, 0, 0, 1.0]]))
    voxels = np.zeros((1, 20, 20, 20), np.int16)
    cube, _ = ct_cube(Volume(voxels, affine), (9.0, 9.0, 9.0), 1.0, (8, 8, 8))
    assert cube.shape == (8, 8, 8)
    tilted = Volume(voxels, affine, notes=(f"{TILT_NOTE}3.0 degrees",))
    with pytest.raises(VolumeError, match="its gantry was tilted"):
        ct_cube(tilted, (9.0, 9.0, 9.0), 1.0, (8, 8, 8))
