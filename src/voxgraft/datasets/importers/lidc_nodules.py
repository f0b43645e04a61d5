"""LIDC-IDRI's annotations as they are drawn, and grouped into nodules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform

READERS = 4
"""Radiologists who read each scan."""
SAME_NODULE_MM = 8.0
"""Annotations whose centroids are this close are of one nodule."""
RATINGS = (
    "subtlety",
    "internal_structure",
    "calcification",
    "sphericity",
    "margin",
    "lobulation",
    "spiculation",
    "texture",
    "malignancy",
)
_TIGHTEN = 0.9


@dataclass(frozen=True)
class Contour:
    """An outline in one slice.

    Attributes:
        points: (n, 2), (row, column) in pixels; the first pixels outside the nodule.
        z_mm: Position of the slice.
        inclusion: False if the outline is that of a hole.
        sop_uid: SOPInstanceUID of the slice, where the file names it.
    """

    points: Float[np.ndarray, "n 2"]
    z_mm: float
    inclusion: bool
    sop_uid: str = ""


@dataclass(frozen=True)
class Scan:
    """A CT scan: who, which series, and its grid."""

    id: int
    patient_id: str
    series_instance_uid: str
    pixel_spacing_mm: float
    slice_z_mm: Float[np.ndarray, " n"]

    @property
    def slice_spacing_mm(self) -> float:
        """Median distance of neighboring slices: the stated slice thickness is often another."""
        return float(np.median(np.diff(self.slice_z_mm))) if len(self.slice_z_mm) > 1 else 1.0


@dataclass(frozen=True)
class Annotation:
    """One reader's outlines and ratings of one nodule.

    Attributes:
        id: Number of the annotation.
        scan: The CT scan.
        ratings: In the order of ``RATINGS``.
        contours: One or more.
        reader: Number of the reading session within its scan.
    """

    id: int
    scan: Scan
    ratings: tuple[int, ...]
    contours: tuple[Contour, ...]
    reader: int = 0

    @cached_property
    def centroid_mm(self) -> Float[np.ndarray, " 3"]:
        """(z, row, column) in mm: mean of the slices' outlines, weighted by their area."""
        spacing = self.scan.pixel_spacing_mm
        outer = [contour for contour in self.contours if contour.inclusion] or self.contours
        places = [(c.z_mm, *(c.points.mean(axis=0) * spacing)) for c in outer]
        weights = [max(_area(contour.points), 1.0) for contour in outer]
        center: Float[np.ndarray, " 3"] = np.average(np.array(places), axis=0, weights=weights)
        return center

    @cached_property
    def diameter_mm(self) -> float:
        """Largest distance of two points of one outline, as pylidc defines it."""
        outer = [c.points for c in self.contours if c.inclusion and len(c.points) > 1]
        return max((float(pdist(p).max()) for p in map(_extremes, outer)), default=0.0) * (
            self.scan.pixel_spacing_mm
        )


@dataclass(frozen=True)
class Nodule:
    """Annotations of one nodule.

    Attributes:
        case_id: ``LIDC-IDRI-0078_02``: the patient's second nodule, in the database's order.
        scan: The CT scan.
        annotations: One or more, at most four.
    """

    case_id: str
    scan: Scan
    annotations: tuple[Annotation, ...]

    def median_rating(self, name: str) -> float:
        """Return the median of the readers' ratings (1 to 5, texture and others alike)."""
        place = RATINGS.index(name)
        return float(np.median([annotation.ratings[place] for annotation in self.annotations]))

    @property
    def diameter_mm(self) -> float:
        """Mean over readers of the largest in-plane extent."""
        return float(np.mean([annotation.diameter_mm for annotation in self.annotations]))


def group_nodules(annotations: Iterable[Annotation]) -> list[Nodule]:
    """Group annotations of any scans into nodules.

    Annotations of a scan are joined by average linkage while their centroids are within 8 mm, or
    within the radius of the smaller one if that is more (readers of a large mass put its center
    further apart). Four readers mark a nodule once each, so a group of more than four annotations
    is cut at a tighter distance until none has more. A smaller group may hold two annotations of
    one reader; ``Annotation.reader`` tells, as far as it can be known.

    Returns:
        Nodules in the order of patient, scan and first annotation, numbered within a patient.

    Source:
        Armato et al., Med Phys 2011, doi 10.1118/1.3528204 (data and reading process); the idea of
        joining by distance and tightening is pylidc's ``Scan.cluster_annotations``, which joins by
        the smallest distance of contour points instead.
    """
    by_scan: dict[int, list[Annotation]] = defaultdict(list)
    for annotation in annotations:
        by_scan[annotation.scan.id].append(annotation)
    groups = [group for members in by_scan.values() for group in group_annotations(members)]
    groups.sort(key=lambda group: (group[0].scan.patient_id, group[0].scan.id, group[0].id))
    nodules: list[Nodule] = []
    count: dict[str, int] = defaultdict(int)
    for group in groups:
        patient = group[0].scan.patient_id
        count[patient] += 1
        nodules.append(Nodule(f"{patient}_{count[patient]:02d}", group[0].scan, tuple(group)))
    return nodules


def group_annotations(annotations: list[Annotation]) -> list[list[Annotation]]:
    """Group one scan's annotations into nodules; see :func:`group_nodules` for the rule."""
    if len(annotations) == 1:
        return [annotations]
    centers = np.array([annotation.centroid_mm for annotation in annotations])
    radii = np.array([annotation.diameter_mm / 2 for annotation in annotations])
    reach = np.maximum(SAME_NODULE_MM, np.minimum(radii[:, None], radii[None]))
    distances = squareform(pdist(centers)) / reach
    groups: list[list[Annotation]] = []
    todo = [(list(range(len(annotations))), 1.0)]
    while todo:
        members, limit = todo.pop()
        for part in _joined(distances, members, limit):
            if len(part) > READERS:
                todo.append((part, limit * _TIGHTEN if limit > 1e-6 else 0.0))
            else:
                groups.append([annotations[k] for k in part])
    return sorted(groups, key=lambda group: group[0].id)


def _joined(
    distances: Float[np.ndarray, "n n"], members: list[int], limit: float
) -> list[list[int]]:
    if len(members) == 1:
        return [members]
    if limit == 0.0:
        return [members[k : k + READERS] for k in range(0, len(members), READERS)]
    square = distances[np.ix_(members, members)]
    labels = fcluster(linkage(squareform(square, checks=False), "average"), limit, "distance")
    return [
        [members[k] for k in np.flatnonzero(labels == label)] for label in dict.fromkeys(labels)
    ]


def _area(points: Float[np.ndarray, "n 2"]) -> float:
    row, column = points.T
    return 0.5 * abs(float(row @ np.roll(column, -1) - column @ np.roll(row, -1)))


def _extremes(points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "k 2"]:
    """Keep the first and last point of each row: the two farthest points are among them."""
    order = np.lexsort((points[:, 1], points[:, 0]))
    ordered = points[order]
    change = np.flatnonzero(np.diff(ordered[:, 0])) + 1
    keep = np.unique(np.concatenate([[0], change - 1, change, [len(ordered) - 1]]))
    kept: Float[np.ndarray, "k 2"] = ordered[keep]
    return kept
