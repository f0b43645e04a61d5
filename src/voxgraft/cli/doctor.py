"""``voxgraft doctor``: what this machine has, and what would not work on it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys

import typer

from voxgraft.cli.output import JSON_OPTION, emit_json, emit_table, say
from voxgraft.files import cache_folder
from voxgraft.types import Json

_NEEDED = {"torch": (2, 11), "torchvision": (0, 26), "timm": (1, 0), "numpy": (1, 26)}
_NEEDED |= {"SimpleITK": (2, 3), "nibabel": (5, 2), "pydicom": (3, 0), "blosc2": (3, 0)}
_LEAST_MEMORY_GIB = 4.0
_LEAST_DISK_GIB = 5.0


def doctor(as_json: bool = JSON_OPTION) -> None:
    """Say what this machine has, and what would not work on it (exit 1 if anything)."""
    findings, problems = examine()
    if as_json:
        emit_json({"findings": findings, "problems": problems})
    else:
        emit_table(["what", "found"], list(findings.items()))
        for problem in problems:
            say(f"problem: {problem}")
        say("no problem found" if not problems else f"{len(problems)} problem(s)")
    if problems:
        raise typer.Exit(1)


def examine() -> tuple[Json, list[str]]:
    """Return what was found, and a sentence a problem."""
    import psutil

    problems: list[str] = []
    findings: Json = {
        "voxgraft": importlib.metadata.version("voxgraft"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory (GiB)": round(psutil.virtual_memory().total / 2**30, 1),
    }
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        problems.append(f"Python {platform.python_version()}: 3.11 to 3.13 is supported")
    if findings["memory (GiB)"] < _LEAST_MEMORY_GIB:
        problems.append(f"{findings['memory (GiB)']} GiB of memory: 4 GiB is the least that works")
    _examine_packages(findings, problems)
    _examine_cache(findings, problems)
    _examine_devices(findings, problems)
    return findings, problems


def _examine_packages(findings: Json, problems: list[str]) -> None:
    for name, least in _NEEDED.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            findings[name] = "missing"
            problems.append(f"{name} is not installed: `pip install voxgraft` brings it")
            continue
        findings[name] = version
        numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
        if numbers < least:
            wanted = ".".join(map(str, least))
            problems.append(f"{name} {version} is older than {wanted}: `pip install -U {name}`")


def _examine_cache(findings: Json, problems: list[str]) -> None:
    folder = cache_folder()
    existing = next(path for path in (folder, *folder.parents) if path.is_dir())
    free_gib = round(shutil.disk_usage(existing).free / 2**30, 1)
    findings["cache"] = str(folder)
    findings["cache, free disk (GiB)"] = free_gib
    if not os.access(existing, os.W_OK):
        problems.append(f"{existing} cannot be written: set VOXGRAFT_CACHE to a folder that can")
    if free_gib < _LEAST_DISK_GIB:
        problems.append(f"{free_gib} GiB free for the cache in {existing}: set VOXGRAFT_CACHE")


def _examine_devices(findings: Json, problems: list[str]) -> None:
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            memory = round(properties.total_memory / 2**30, 1)
            findings[f"GPU {index}"] = f"{properties.name}, {memory} GiB"
    else:
        findings["GPU"] = "none: runs train on the CPU"
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:
        problems.append(f"torchvision does not import with this torch ({error}): install the pair")
