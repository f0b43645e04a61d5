"""The masks of a case: which voxels are of which structure, and which structures are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Integer

from voxgraft.datasets.mask_classes import CaseMasks, case_masks
from voxgraft.datasets.mask_files import (
    Grid,
    count_values,
    grid_fault,
    read_inside,
    read_values,
    shown_counts,
)
from voxgraft.datasets.table import Table
from voxgraft.errors import TableError
from voxgraft.volumes import Affine, LabelMap, read_header

_Layers = Integer[np.ndarray, "layers d h w"]


@dataclass(frozen=True, eq=False)
class Masks:
    """The structures of one case, on the grid of its scan.

    Structures that overlap lie in different layers: a layer is a label map, and as many are needed
    as structures overlap at one place.

    Attributes:
        case_id: The case.
        annotated: Structures that were annotated (and asked for); of all others nothing is known.
        layers: (layers, depth, height, width), unsigned integers; 0 is none of a layer's
            structures.
        places: Structure to its layer and its value there.
        ignored: Where nothing is known of any structure; None if there is no such place.
        affine: From (depth, height, width) indices to mm, RAS+.
    """

    case_id: str
    annotated: tuple[str, ...]
    layers: _Layers = field(repr=False)
    places: Mapping[str, tuple[int, int]] = field(repr=False)
    ignored: Bool[np.ndarray, "d h w"] | None = field(repr=False)
    affine: Affine

    @property
    def overlapping(self) -> bool:
        """Whether voxels belong to several structures, so that one label map cannot hold them."""
        return len(self.layers) > 1

    def mask(self, name: str) -> Bool[np.ndarray, "d h w"]:
        """Return the voxels of a structure.

        Raises:
            TableError: If the structure is not annotated in this case: it is unknown, not absent.
        """
        if name not in self.places:
            raise TableError(
                f"case {self.case_id!r}: {name!r} is not annotated, so its voxels are unknown; "
                f"annotated are {', '.join(self.annotated)}. Leave it out of the loss."
            )
        layer, value = self.places[name]
        found: Bool[np.ndarray, "d h w"] = self.layers[layer] == value
        return found

    def masks(self) -> Iterator[tuple[str, Bool[np.ndarray, "d h w"]]]:
        """Yield each annotated structure with its voxels, one at a time."""
        for name in self.annotated:
            yield name, self.mask(name)

    def label_map(self) -> LabelMap:
        """Return one label map; a structure's value is its place in ``annotated``, from 1.

        Raises:
            TableError: If structures overlap.
        """
        if self.overlapping:
            raise TableError(
                f"case {self.case_id!r}: structures overlap ({len(self.layers)} layers), so one "
                "label map cannot hold them. Take them one by one."
            )
        return LabelMap(self.layers[0], self.affine)


def read_masks(table: Table, case_id: str, names: Sequence[str] | None = None) -> Masks:
    """Read the masks of a case and hold them against the grid of its scan.

    Args:
        table: Scans with masks.
        case_id: A case.
        names: Structures to read, of those that the case annotates; None reads all of them.

    Returns:
        Masks of the structures that are annotated. At most one binary mask is in memory at a time
        beside the layers.

    Raises:
        TableError: If the table has no such masks, a mask lies on another grid than the scan, a
            file of an annotated structure is missing, or a label map has values that
            ``structures.json`` does not name.
        VolumeError: If a file cannot be read.
    """
    image = table.image_path(case_id)
    found = case_masks(table.where(table.frame["case_id"] == case_id))[case_id]
    chosen = found.annotated if names is None else _chosen(found, names)
    header = read_header(image)
    scan = Grid(header.shape, header.affine)
    ignored = None
    if found.structures.kind == "label_map":
        values, grid = read_values(found.path)
        _check_grid(found, str(found.path), scan, grid)
        _check_values(found, values)
        layers, places = _stack(_regions(found, chosen, values), len(chosen), scan)
        if found.structures.ignored_values:
            ignored = np.isin(values, found.structures.ignored_values)
            ignored = ignored if ignored.any() else None
    else:
        layers, places = _stack(_files(found, chosen, scan), len(chosen), scan)
    return Masks(case_id, chosen, layers, places, ignored, scan.affine)


def _chosen(found: CaseMasks, names: Iterable[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(names))
    absent = [name for name in names if name not in found.annotated]
    if absent or not names:
        raise TableError(
            f"case {found.case_id!r}: {', '.join(absent) or 'no structure'} is asked for; "
            f"annotated are {', '.join(found.annotated)}."
        )
    return names


def _regions(
    found: CaseMasks, names: Sequence[str], values: Integer[np.ndarray, "d h w"]
) -> Iterator[tuple[str, Bool[np.ndarray, "d h w"]]]:
    for name in names:
        wanted = found.structures.values(name)
        yield name, values == wanted[0] if len(wanted) == 1 else np.isin(values, wanted)


def _files(
    found: CaseMasks, names: Sequence[str], scan: Grid
) -> Iterator[tuple[str, Bool[np.ndarray, "d h w"]]]:
    for name in names:
        whole: Bool[np.ndarray, "d h w"] | None = None
        for file in found.structures.files(name):
            inside, grid = read_inside(found.path / file)
            _check_grid(found, str(found.path / file), scan, grid)
            whole = inside if whole is None else whole | inside
        if whole is not None:
            yield name, whole


def _stack(
    masks: Iterator[tuple[str, Bool[np.ndarray, "d h w"]]], count: int, scan: Grid
) -> tuple[_Layers, dict[str, tuple[int, int]]]:
    """Put each mask into the first layer in which nothing is in its way."""
    dtype = np.uint8 if count <= np.iinfo(np.uint8).max else np.uint16
    layers: list[Integer[np.ndarray, "d h w"]] = [np.zeros(scan.shape, dtype=dtype)]
    places: dict[str, tuple[int, int]] = {}
    for value, (name, mask) in enumerate(masks, 1):
        free = (k for k, layer in enumerate(layers) if not layer[mask].any())
        place = next(free, len(layers))
        if place == len(layers):
            layers.append(np.zeros(scan.shape, dtype=dtype))
        layers[place][mask] = value
        places[name] = (place, value)
    return layers[0][None] if len(layers) == 1 else np.stack(layers), places


def _check_grid(found: CaseMasks, path: str, scan: Grid, grid: Grid) -> None:
    fault = grid_fault(scan, grid)
    if fault:
        raise TableError(
            f"case {found.case_id!r}: {path}: {fault}. Resample the mask onto the scan's grid "
            "(nearest neighbor), or correct its header."
        )


def _check_values(found: CaseMasks, values: Integer[np.ndarray, "d h w"]) -> None:
    known = {0, *found.structures.ignored_values}
    known |= {value for name in found.structures.names for value in found.structures.values(name)}
    odd = {value: n for value, n in count_values(values).items() if value not in known}
    if odd:
        raise TableError(
            f"case {found.case_id!r}: {found.path}: holds {shown_counts(odd)}, which its "
            "structures.json does not name. Add the structure, or list the value in "
            "ignored_values."
        )
