"""Stages of a round: each leaves a folder, whole or not at all, and is not run twice."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from turnwise.errors import RecordError
from turnwise.records import replace_folder_atomically

Facts = Mapping[str, object]


def stage(folder: Path, write: Callable[[Path], object]) -> bool:
    """The folder holds what `write` wrote, now or in an earlier process. Returns whether it ran.

    write: is given an empty folder. Killed in the middle, nothing of it stays.
    """
    if folder.is_dir():
        return False
    replace_folder_atomically(folder, write)
    return True


def write_facts(path: Path, facts: Facts) -> None:
    """Facts as JSON, in the order given; a number that is not finite is written as null.

    To be called inside a stage, which makes it atomic.
    """
    path.write_text(json.dumps(_known(facts), indent=1) + "\n", encoding="utf-8")


def _known(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _known(inner) for name, inner in value.items()}
    return [_known(inner) for inner in value] if isinstance(value, list | tuple) else value


def read_facts(path: Path) -> dict[str, object]:
    """What `write_facts` wrote. Raises RecordError for a missing or broken file."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(
            f"expected the facts of a finished stage at {path}, found {error}; remove the folder "
            f"{path.parent.name} and go on with --resume"
        ) from error
    assert isinstance(facts, dict)
    return facts


def fingerprint(folder: Path) -> str:
    """Eight hex digits that name the weights in a folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        if not file.name.startswith("optimizer"):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:8]
