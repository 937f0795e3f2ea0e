"""A saved file or folder is the old one or the new one, whatever happens in between."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from turnwise.errors import RunFolderError
from turnwise.records import (
    clear_leftovers,
    replace_folder_atomically,
    write_atomically,
    write_text_atomically,
)


def full_disk(path: Path) -> None:
    path.write_text("half of it")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_disk_in_folder(folder: Path) -> None:
    full_disk(folder / "weights")


def test_what_was_written_is_there_and_nothing_else(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "new" / "a.txt", "first\n")
    write_text_atomically(tmp_path / "new" / "a.txt", "second\n")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.txt"]
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"second\n"


def test_a_full_disk_leaves_the_old_file_and_no_half_one(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RunFolderError, match=r"a\.txt: No space left on device.*intact"):
        write_atomically(target, full_disk)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_mistake_of_the_writer_passes_through_and_leaves_the_old_file(tmp_path: Path) -> None:
    def interrupted(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_atomically(target, interrupted)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="could not write"):
        write_text_atomically(tmp_path / "file" / "a.txt", "x")


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "step_1"
    replace_folder_atomically(target, lambda folder: (folder / "old").touch())
    replace_folder_atomically(target, lambda folder: (folder / "new").touch())
    assert [file.name for file in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_leaves_the_old_folder_and_no_half_one(tmp_path: Path) -> None:
    target = tmp_path / "step_1"
    replace_folder_atomically(target, lambda folder: (folder / "weights").write_text("old"))
    with pytest.raises(RunFolderError, match="No space left"):
        replace_folder_atomically(target, full_disk_in_folder)
    assert (target / "weights").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_stepped_aside_comes_back(tmp_path: Path) -> None:
    # Killed between the two renames: the old folder is aside, the new one not yet in place.
    (tmp_path / ".step_1.old").mkdir()
    (tmp_path / ".step_1.old" / "weights").touch()
    (tmp_path / ".step_1.new").mkdir()
    (tmp_path / ".metrics.jsonl.new").touch()
    clear_leftovers(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["step_1"]
    assert (tmp_path / "step_1" / "weights").exists()


def test_a_folder_aside_goes_once_the_new_one_is_in_place(tmp_path: Path) -> None:
    (tmp_path / ".step_1.old").mkdir()
    (tmp_path / "step_1").mkdir()
    clear_leftovers(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["step_1"]


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from turnwise.records.atomic import write_atomically

def write(path):
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

write_atomically(Path(sys.argv[1]), write)
"""


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(target)])
    assert done.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    clear_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [target]
