"""Preprocess scans into files of the store, in this process or in several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol, TypeVar

from voxgraft.errors import PreprocessingError, StoreError, VolumeError, raise_faults
from voxgraft.store.encoding import Encoding
from voxgraft.store.entry import write_entry
from voxgraft.transforms.geometry import obliquity_degrees
from voxgraft.transforms.preprocess import Preprocessing, preprocess
from voxgraft.volumes import read_volume


class _Named(Protocol):
    """What an order says of itself in a message."""

    @property
    def case_id(self) -> str: ...
    @property
    def image(self) -> Path: ...


_Ordered = TypeVar("_Ordered", bound=_Named)


@dataclass(frozen=True)
class Order:
    """A volume to make."""

    case_id: str
    image: Path
    target: Path
    preprocessing: Preprocessing


def make_entry(order: Order) -> str:
    """Read, preprocess and store one scan.

    Returns:
        What is wrong with the scan, or an empty text.

    Raises:
        OSError: If the store cannot be written.
    """
    try:
        scan = read_volume(order.image)
        source = {
            "image": str(order.image),
            "orientation": scan.affine.orientation,
            "obliquity_degrees": obliquity_degrees(scan.affine),
            "shape": [int(size) for size in scan.voxels.shape],
            "affine": scan.affine.matrix.tolist(),
            "spacing_mm": list(scan.affine.spacing_mm),
        }
        volume = preprocess(scan, order.preprocessing)
        del scan
        encoding = Encoding.of(volume.voxels, order.preprocessing.storage)
        background = order.preprocessing.background_of(volume.voxels)
    except (VolumeError, PreprocessingError) as error:
        return str(error)
    except StoreError as error:
        return f"{order.image}: {error}"
    except MemoryError:
        return (
            f"{order.image} does not fit into memory. Prepare with fewer jobs, or with a coarser "
            "spacing_mm."
        )
    write_entry(
        order.target,
        volume.voxels,
        encoding,
        background=encoding.rounded(background),
        affine=volume.affine.matrix,
        source=source,
    )
    return ""


def make_all(
    orders: list[_Ordered], jobs: int, make: Callable[[_Ordered], str]
) -> Iterator[tuple[_Ordered, str]]:
    """Carry out orders and yield each with its fault (empty: none) as it is done.

    Args:
        orders: What to make.
        jobs: Processes; 1 works in this one. At most twice as many orders are under way.
        make: Carries out one order and returns what is wrong; a function of a module.

    Raises:
        StoreError: If a process is killed.
        OSError: If the store cannot be written.
    """
    if jobs == 1 or len(orders) <= 1:
        for order in orders:
            yield order, make(order)
        return
    waiting = iter(orders)
    running: dict[Future[str], _Ordered] = {}
    workers = ProcessPoolExecutor(min(jobs, len(orders)), mp_context=get_context("spawn"))
    try:
        while True:
            for order in islice(waiting, 2 * jobs - len(running)):
                running[workers.submit(make, order)] = order
            if not running:
                break
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield running[future], future.result()
                del running[future]
    except BrokenProcessPool:
        raise_faults(
            StoreError,
            f"one of {jobs} preparing processes was killed, perhaps for lack of memory, while "
            "one of these cases was made",
            [f"case {order.case_id!r} ({order.image})" for order in running.values()],
            "Finished volumes are kept. Prepare again with fewer jobs (1 works in this process). "
            'In a script, call it under `if __name__ == "__main__":`.',
        )
    finally:
        workers.shutdown(wait=True, cancel_futures=True)
