"""What a DICOM folder says of its series: identifiers, and each slice's UID and position."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from voxgraft.errors import VolumeError
from voxgraft.volumes.damage import MissingScanError, no_bare_os_error
from voxgraft.volumes.dicom_kinds import kind_beside
from voxgraft.volumes.dicom_slices import files_of


@dataclass(frozen=True, kw_only=True)
class SliceInfo:
    """A slice of a volume that was read from DICOM.

    Attributes:
        uid: SOPInstanceUID; the frames of a multi-frame file share one.
        position_mm: (x, y, z) of the center of the first pixel as the file says, in mm, LPS+
            (DICOM's axes; an :class:`~voxgraft.volumes.Affine` is RAS+).
        instance_number: InstanceNumber; it need not follow the order of the slices.
        path: The file.
        frame: Number of the frame in the file, from 1; None if the file has no frames.
    """

    uid: str
    position_mm: tuple[float, float, float]
    instance_number: int | None
    path: Path
    frame: int | None


@dataclass(frozen=True, kw_only=True)
class Series:
    """The one volume series of a folder.

    Attributes:
        series_uid: SeriesInstanceUID.
        study_uid: StudyInstanceUID.
        patient_id: PatientID, without spaces around it.
        description: SeriesDescription.
        modality: As DICOM names it, such as ``"CT"``.
        manufacturer: Of the scanner.
        slices: In the order of axis 0 of the volume that
            :func:`~voxgraft.volumes.read_volume` gives; what it leaves out is not here either.
        tilt_degrees: Gantry tilt that ``read_volume`` corrects, 0 for none. Where it does, rows and
            columns of the volume are not those of the files; slices still are.

    Texts are empty where the files do not have them.
    """

    series_uid: str
    study_uid: str
    patient_id: str
    description: str
    modality: str
    manufacturer: str
    slices: tuple[SliceInfo, ...]
    tilt_degrees: float


def read_series(folder: Path | str) -> Series:
    """Read the identifiers and slice positions of a DICOM folder, without its pixels.

    Raises:
        VolumeError: If there is no such folder, or :func:`~voxgraft.volumes.read_header` would
            refuse it.
    """
    from voxgraft.volumes.dicom import read_stack  # takes long to import

    folder = Path(folder)
    if not folder.is_dir():
        raise MissingScanError(
            f"{folder}: no such folder. Expected the folder with the slices of a series."
        )
    with no_bare_os_error(folder):
        stack = read_stack(folder)
    slices = stack.slices
    first = slices[0]
    return Series(
        series_uid=first.series,
        study_uid=first.study,
        patient_id=first.patient,
        description=first.description,
        modality=first.modality,
        manufacturer=first.manufacturer,
        slices=tuple(
            SliceInfo(
                uid=item.uid,
                position_mm=_triple(item.place.tolist()),
                instance_number=item.number,
                path=item.path,
                frame=None if item.frame is None else item.frame + 1,
            )
            for item in slices
        ),
        tilt_degrees=0.0 if stack.tilt is None else stack.tilt.degrees,
    )


def dicom_slice_uids(folder: Path | str) -> tuple[str, ...]:
    """Return the SOPInstanceUID of each slice, in the order of axis 0 of the volume.

    Raises:
        VolumeError: As :func:`read_series`.
    """
    return tuple(item.uid for item in read_series(folder).slices)


def series_uid(folder: Path) -> str | None:
    """Return the SeriesInstanceUID of the first slice in a folder, or None without an image.

    Localizers, screenshots and derived objects are passed over if there is anything else.
    """
    from voxgraft.volumes.dicom_files import look  # takes long to import

    found: str | None = None
    for path in files_of(folder):
        try:
            images = look(path)
        except (VolumeError, OSError):
            continue
        if isinstance(images, list):
            if not kind_beside(images[0]):
                return images[0].series
            found = images[0].series if found is None else found
    return found


def _triple(values: list[float]) -> tuple[float, float, float]:
    x, y, z = values
    return x, y, z
