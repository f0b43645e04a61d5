"""Hold back pydicom's warnings on odd but readable values, in any number of threads."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_LOCK = Lock()
_readers = 0
_filters = warnings.catch_warnings()


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings while at least one thread reads.

    Python's warning filters belong to the whole process: the first reader changes them, the last
    one puts them back, and in between no reader waits for another.
    """
    global _readers, _filters
    with _LOCK:
        if _readers == 0:
            _filters = warnings.catch_warnings()
            _filters.__enter__()
            warnings.simplefilter("ignore")
        _readers += 1
    try:
        yield
    finally:
        with _LOCK:
            _readers -= 1
            if _readers == 0:
                _filters.__exit__(None, None, None)
