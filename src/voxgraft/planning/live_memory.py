"""How many bytes of tensors are alive while code runs, whether the tensors are real or not."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages of all tensors that operations make, until they are freed.

    Storages are counted once, however many tensors share them, and leave the count when Python and
    autograd let go of them: what autograd keeps for the backward pass is in, and so is what the
    backward pass makes. What a kernel takes for itself while it runs is not.

    Attributes:
        now_bytes: Alive now.
        peak_bytes: Most that was ever alive.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._sizes: dict[int, int] = {}
        self.now_bytes: int = 0
        self.peak_bytes: int = 0

    def count(self, tensor: Tensor) -> None:
        """Count a tensor that was made before."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self.now_bytes += self._sizes[key]
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now_bytes -= self._sizes.pop(key, 0)

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and count what it made."""
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor):
                self.count(leaf)
        return made
