"""Files and folders that are either the old one or the new one, never half of one.

A new file is written beside its place, forced to disk and renamed over it. What a killed process
leaves behind starts with a dot and is removed by `clear_leftovers`.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from turnwise.errors import RunFolderError

NEW = ".new"  # being written
OLD = ".old"  # a folder that is about to be replaced


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """`path` holds what `write` wrote, or what it held before.

    write: is given a path in the same folder and must leave one file there; what it returns is
    not looked at.
    Raises RunFolderError if the system refuses (full disk, no permission); whatever `write` itself
    raises passes through. In both cases the new file is gone and the old one is as it was.
    """
    beside = _beside(path, NEW)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(beside)
        _force_to_disk(beside)
        os.replace(beside, path)
        _force_to_disk(path.parent)
    except OSError as error:
        raise refused(path, error) from error
    finally:
        if beside.exists():
            beside.unlink()


def write_text_atomically(path: Path, text: str) -> None:
    """`path` holds `text` in UTF-8, or what it held before. Raises as `write_atomically`."""
    write_atomically(path, lambda beside: _write_text(beside, text))


def replace_folder_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """The folder `path` holds what `write` wrote, or what it held before.

    write: is given an empty folder beside `path` and fills it. A folder cannot be renamed over
    another, so an old one steps aside first; killed between the two renames, it is put back by
    `clear_leftovers`.
    Raises RunFolderError if the system refuses; whatever `write` itself raises passes through. In
    both cases the new folder is gone and the old one is as it was.
    """
    beside, aside = _beside(path, NEW), _beside(path, OLD)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _settle(path)
        beside.mkdir()
        write(beside)
        for file in sorted(beside.rglob("*")):
            _force_to_disk(file)
        _swap(beside, path, aside)
        _force_to_disk(path.parent)
    except OSError as error:
        raise refused(path, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Undo in `folder` what a killed process left: half-written parts go, a folder comes back.

    Call it only while nobody else writes there. Raises RunFolderError if the system refuses.
    """
    try:
        for suffix in (NEW, OLD):
            for leftover in folder.glob(f".*{suffix}"):
                _settle(folder / leftover.name[1 : -len(suffix)])
    except OSError as error:
        raise refused(folder, error) from error


def refused(path: Path, error: OSError) -> RunFolderError:
    """The error to raise when the system does not let us write at `path`."""
    return RunFolderError(
        f"could not write {path}: {error.strerror or error}; what was saved there before is "
        "intact. Free space or fix the permissions, then run again with resume"
    )


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}{suffix}")


def _settle(path: Path) -> None:
    beside, aside = _beside(path, NEW), _beside(path, OLD)
    if beside.exists():
        _remove(beside)
    if aside.exists() and path.exists():
        _remove(aside)
    elif aside.exists():
        os.replace(aside, path)


def _swap(beside: Path, path: Path, aside: Path) -> None:
    if not path.exists():
        os.replace(beside, path)
        return
    os.replace(path, aside)
    try:
        os.replace(beside, path)
    except OSError:
        os.replace(aside, path)
        raise
    shutil.rmtree(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _force_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
