"""Start 3D medical models from the best pre-trained weights, and prove whether it helped.

``import voxgraft as vg`` has the verbs of the command line: ``vg.compare``, ``vg.graft``,
``vg.finetune``, ``vg.predict``, ``vg.evaluate``, … (see :mod:`voxgraft.api`). They are imported on
first use, so that the import itself is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from voxgraft.api import *  # noqa: F403


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module 'voxgraft' has no attribute {name!r}")
    api = importlib.import_module("voxgraft.api")
    if name in api.__all__:
        return getattr(api, name)
    raise AttributeError(f"module 'voxgraft' has no attribute {name!r}")
