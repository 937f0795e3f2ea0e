"""Is everything here that turnwise needs? Looks only; installs and changes nothing."""

import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

MIN_MEMORY_GIB = 2.0  # the tiny model's training peaks below one
MIN_DISK_GIB = 1.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    found: str
    is_good: bool
    advice: str = ""  # what to do if it is not good


def findings(folder: Path) -> list[Finding]:
    """What was found on this machine. folder: where runs would be written."""
    return [*_versions(), *_machine(folder), _accelerator(), _browser()]


def _versions() -> Iterator[Finding]:
    yield Finding("python", platform.python_version(), True)
    yield Finding("turnwise", metadata.version("turnwise"), True)
    for requirement in metadata.requires("turnwise") or ():
        if "extra ==" not in requirement:
            yield requirement_finding(requirement)


def requirement_finding(requirement: str) -> Finding:
    """Whether a requirement such as "torch>=2.6" is met."""
    matched = re.match(r"([\w.-]+)(?:>=([\d.]+))?", requirement)
    assert matched is not None, requirement
    name, least = matched.group(1), matched.group(2) or "0"
    advice = f"python -m pip install '{requirement}'"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, "missing", False, advice)
    if _numbers(version) < _numbers(least):
        return Finding(name, f"{version}, needs {least} or later", False, advice)
    return Finding(name, version, True)


def _numbers(version: str) -> tuple[int, ...]:
    """(2, 13, 0) of "2.13.0+cpu"."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def _machine(folder: Path) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("cores", str(cores), True)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    yield Finding(
        "memory", f"{memory:.1f} GiB", memory >= MIN_MEMORY_GIB, "use a machine with more memory"
    )
    existing = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    free = shutil.disk_usage(existing).free / 2**30
    is_writable = os.access(existing, os.W_OK)
    yield Finding(
        "disk",
        f"{free:.1f} GiB free at {existing}" + ("" if is_writable else ", not writable"),
        free >= MIN_DISK_GIB and is_writable,
        "free some space, or give another --output-dir",
    )


def _accelerator() -> Finding:
    try:
        import torch
    except ImportError as error:
        return Finding("cuda", f"torch cannot be imported: {error}", False, "reinstall torch")
    if not torch.cuda.is_available():
        build = "this torch has CUDA" if torch.version.cuda else "this torch is a CPU build"
        return Finding("cuda", f"none ({build}); the CPU is used", True)
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Finding("cuda", f"{torch.version.cuda}: {', '.join(names)} (one is used)", True)


def _browser() -> Finding:
    path = shutil.which("chromium")
    found = path or "none (needed by the browser tests alone: apt-get install chromium)"
    return Finding("chromium", found, True)
