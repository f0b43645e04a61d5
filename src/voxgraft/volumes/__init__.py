"""What a scan is: voxels with their place in the patient, and how files become one.

Arrays are (channels, depth, height, width); an :class:`Affine` maps (depth, height, width) indices
to (x, y, z) in mm, RAS+.
"""

from voxgraft.volumes.affine import MAX_SPACING_MM, MIN_SPACING_MM, Affine
from voxgraft.volumes.damage import (
    DimensionsError,
    GeometryError,
    MissingScanError,
    VoxelValuesError,
)
from voxgraft.volumes.dicom_series import (
    Series,
    SliceInfo,
    dicom_slice_uids,
    read_series,
    series_uid,
)
from voxgraft.volumes.dicom_tilt import TILT_NOTE
from voxgraft.volumes.read import (
    SCAN_SUFFIXES,
    read_header,
    read_label_map,
    read_volume,
    write_volume,
)
from voxgraft.volumes.volume import Header, LabelMap, Volume

__all__ = [
    "MAX_SPACING_MM",
    "MIN_SPACING_MM",
    "SCAN_SUFFIXES",
    "TILT_NOTE",
    "Affine",
    "DimensionsError",
    "GeometryError",
    "Header",
    "LabelMap",
    "MissingScanError",
    "Series",
    "SliceInfo",
    "Volume",
    "VoxelValuesError",
    "dicom_slice_uids",
    "read_header",
    "read_label_map",
    "read_series",
    "read_volume",
    "series_uid",
    "write_volume",
]
