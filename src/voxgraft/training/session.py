"""The state of the process that a training needs, set for its time and put back after it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch.utils import deterministic

from voxgraft.errors import RecipeError, TrainingError


@contextmanager
def training_session(
    device: str | torch.device | None, precision: str, accumulate: int, threads: int | None
) -> Iterator[Accelerator]:
    """Give an accelerator; threads, generators and determinism are as before afterwards.

    On a CPU torch's deterministic algorithms are on: the same seed and the same threads give the
    same bits. On a GPU they are not (several 3D backward kernels of CUDA have no deterministic
    form): data order, augmentation and dropout are the same, sums of floats may differ.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``; None takes the best there is.
        precision: ``"no"``, ``"bf16"`` or ``"fp16"``.
        accumulate: Forward passes in one update.
        threads: Threads of the CPU's kernels; None leaves them.

    Raises:
        TrainingError: If the device does not exist, or runs out of memory meanwhile.
        RecipeError: If the device cannot do the precision.
    """
    place = find_device(device)
    _check_precision(place, precision)
    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        os.environ.get("ACCELERATE_TORCH_DEVICE"),
    )
    _forget_accelerator()
    devices = [place] if place.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            if threads is not None:
                torch.set_num_threads(threads)
            if place.type == "cpu":
                torch.use_deterministic_algorithms(True)
                deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
            os.environ["ACCELERATE_TORCH_DEVICE"] = str(place)
            yield Accelerator(
                cpu=place.type == "cpu",
                mixed_precision=precision,
                gradient_accumulation_steps=accumulate,
                step_scheduler_with_optimizer=False,
            )
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"{place} has not enough memory for this training: {str(error).splitlines()[0]} "
                "Lower optimization.batch_size (and raise optimization.accumulate as much), or "
                "make the volumes smaller."
            ) from error
        finally:
            _forget_accelerator()
            torch.set_num_threads(before[0])
            torch.use_deterministic_algorithms(before[1], warn_only=before[2])
            deterministic.fill_uninitialized_memory = before[3]  # type: ignore[attr-defined]
            if before[4] is None:
                os.environ.pop("ACCELERATE_TORCH_DEVICE", None)
            else:
                os.environ["ACCELERATE_TORCH_DEVICE"] = before[4]


def find_device(device: str | torch.device | None) -> torch.device:
    """Return the device of that name, or the best there is.

    Raises:
        TrainingError: If the name is none, or this machine has no such device.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise TrainingError(
            f"{device!r} is no device. Expected 'cpu', 'cuda', 'cuda:N' or 'mps'."
        ) from error
    counts = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    count = counts.get(place.type, 0)
    if (place.index or 0) >= count:
        raise TrainingError(
            f"this machine has no device {str(place)!r} (it has {count} of type {place.type!r}). "
            "Choose another device; `voxgraft doctor` lists them."
        )
    if str(place) == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return place


class MemoryPeak:
    """The largest memory seen: the device's own count on CUDA, resident memory elsewhere."""

    def __init__(self, device: torch.device) -> None:
        """Start counting."""
        self._cuda = device if device.type == "cuda" else None
        self._process = psutil.Process()
        self._peak_bytes = 0
        if self._cuda is not None:
            torch.cuda.reset_peak_memory_stats(self._cuda)
        self.look()

    def look(self) -> None:
        """Look at the memory of the process now."""
        if self._cuda is None:
            self._peak_bytes = max(self._peak_bytes, self._process.memory_info().rss)

    @property
    def mib(self) -> float:
        """The peak so far, in MiB."""
        if self._cuda is not None:
            return torch.cuda.max_memory_allocated(self._cuda) / 2**20
        return self._peak_bytes / 2**20


def _check_precision(place: torch.device, precision: str) -> None:
    if precision == "fp16" and place.type != "cuda":
        raise RecipeError(
            f"precision 'fp16' needs a CUDA device, found {place.type!r}. "
            "Expected 'no' or 'bf16' there; set optimization.precision."
        )
    if precision == "bf16" and place.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise RecipeError(
            f"{torch.cuda.get_device_name(place)} cannot compute in 'bf16'. "
            "Set optimization.precision to 'fp16' or 'no'."
        )


def _forget_accelerator() -> None:
    # accelerate keeps device and precision for the life of the process; a worker trains several
    # networks one after another, so each training starts without what the last one left
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
