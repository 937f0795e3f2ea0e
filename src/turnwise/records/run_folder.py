"""The folder of a run: where everything is, and what may be done to a folder that exists.

config.toml (resolved settings), env.json (versions, commit, seed), metrics.jsonl, log.txt,
report.html, trajectories/, checkpoints/, eval/; credit/ once somebody asked for it.
"""

import json
import os
import platform
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from turnwise.errors import RecordError, RunFolderError
from turnwise.records.atomic import clear_leftovers, refused, write_text_atomically
from turnwise.records.toml import to_toml

# The marks come last, so that a folder whose removal was interrupted is still known as a run.
_FILES = (
    *(f"credit/{name}" for name in ("credit.parquet", "agreement.json", "credit.html")),
    *("report.html", "log.txt", "metrics.jsonl", "standing.json", "env.json", "config.toml"),
)
_FOLDERS = ("trajectories", "checkpoints", "eval")
_OF_ITERATIONS = ("round_*", "policy", "candidate")
_MARKS = ("config.toml", "env.json")
_PACKAGES = ("turnwise", "torch", "transformers", "tokenizers", "peft", "safetensors", "numpy")


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run; nothing here checks that they exist."""

    path: Path
    is_new: bool = False  # nothing of an earlier run is in it

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def env(self) -> Path:
        return self.path / "env.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def trajectories(self) -> Path:
        return self.path / "trajectories"

    @property
    def evaluations(self) -> Path:
        return self.path / "eval"

    @property
    def credit(self) -> Path:
        """What several methods said of its dialogues, if somebody asked."""
        return self.path / "credit"

    @property
    def comparison(self) -> Path:
        """The last evaluation against the start, paired."""
        return self.evaluations / "comparison.json"

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step_{step:06d}"

    def evaluation(self, step: int) -> Path:
        return self.evaluations / f"step_{step:06d}.json"

    def training_dialogues(self, step: int) -> Path:
        return self.trajectories / f"step_{step:06d}.parquet"

    def evaluation_dialogues(self, step: int) -> Path:
        return self.trajectories / f"eval_{step:06d}.parquet"

    def write_config(self, settings: Mapping[str, object]) -> None:
        """The resolved settings as TOML; what is None is left out. Raises as `to_toml`."""
        write_text_atomically(self.config, to_toml(settings))

    def read_config(self) -> dict[str, object]:
        """The settings that `write_config` wrote. Raises RecordError if there are none."""
        return read_config(self.config)

    def write_env(self, seed: int) -> None:
        """Versions, git commit and seed; no environment variables, which may hold secrets."""
        write_text_atomically(self.env, json.dumps(_environment(seed), indent=2) + "\n")


def open_run_folder(
    path: Path | str, *, exists: Literal["error", "overwrite", "resume"] = "error"
) -> RunFolder:
    """The folder of a run, made if there is none.

    exists: what to do if a run is there already. "overwrite" removes the run's own files and
    nothing else; "resume" keeps everything and clears what a killed process left half-written.
    Raises RunFolderError if a run is there and `exists` is "error", if the folder holds files but
    no run (no config.toml and no env.json), or if the system refuses.
    """
    folder = Path(path)
    is_run = any((folder / mark).is_file() for mark in _MARKS)
    if not is_run:
        _check_free(folder)
    elif exists == "error":
        raise RunFolderError(
            f"{folder} already holds a run; choose resume to continue it, overwrite to remove it, "
            "or another folder"
        )
    try:
        if is_run and exists == "overwrite":
            _remove_run(folder)
        for name in _FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refused(folder, error) from error
    for place in (folder, *(folder / name for name in _FOLDERS)):
        clear_leftovers(place)
    return RunFolder(folder, is_new=not (is_run and exists == "resume"))


def find_run_folder(path: Path | str) -> RunFolder:
    """The folder of a run that is there, for reading. Raises RunFolderError if it is not one."""
    folder = Path(path)
    if not any((folder / mark).is_file() for mark in _MARKS):
        raise RunFolderError(
            f"expected the folder of a run (with config.toml or env.json) at {folder}, found "
            f"{'another folder' if folder.is_dir() else 'nothing'}; give the run's output_dir"
        )
    return RunFolder(folder)


def read_config(path: Path) -> dict[str, object]:
    """The settings in a TOML file. Raises RecordError if it is missing or cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecordError(f"expected settings at {path}, found no file") from error
    except ValueError as error:
        raise RecordError(f"{path} is not valid TOML ({error}); correct or restore it") from error


def _check_free(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"expected a folder at {folder}, found a file; choose another path")
    unfinished = {folder / f".{name}.new" for name in _FILES}  # of a run killed as it began
    strange = next(
        (file for file in folder.rglob("*") if not file.is_dir() and file not in unfinished), None
    )
    if strange is not None:
        raise RunFolderError(
            f"{folder} is not the folder of a run (no config.toml, no env.json) but holds "
            f"{strange.relative_to(folder)}; nothing was touched, choose another folder"
        )


def _remove_run(folder: Path) -> None:
    for place in [found for name in (*_FOLDERS, *_OF_ITERATIONS) for found in folder.glob(name)]:
        if place.is_symlink():  # what it points to is not ours
            place.unlink()
        elif place.exists():
            shutil.rmtree(place)
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)


def _environment(seed: int) -> dict[str, object]:
    return {
        "seed": seed,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "git_commit": _git("rev-parse", "HEAD"),
        "git_has_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """What git says of the working directory; None where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
