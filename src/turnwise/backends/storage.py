"""A learner's folder: safetensors, facts as JSON, a checksum of every file; never pickle."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from turnwise.errors import CheckpointError

MANIFEST = "learner.json"


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError if the file cannot be written (a full disk, for one)."""
    # Contiguous clones: tied or sliced weights would share storage, which the format refuses.
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        save_file(own, path, metadata={"format": "pt"})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"cannot write {path}: {error}; free some space") from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Raises CheckpointError if the file is missing, cut or not safetensors."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"expected tensors in {path}, found {error}; go back to an earlier checkpoint"
        ) from error


def write_manifest(folder: Path, facts: Mapping[str, object]) -> None:
    """Write the facts and the SHA-256 of every other file in the folder. Comes last in a save."""
    files = {path.name: _sha256(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    text = json.dumps({**facts, "files": files}, indent=2)
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, object]:
    """The facts, after every file was checked.

    Raises CheckpointError naming the first file that is missing or differs from its checksum.
    """
    path = folder / MANIFEST
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"expected a saved learner in {folder}, found {error}; choose another checkpoint"
        ) from error
    if not isinstance(facts, dict) or not isinstance(facts.get("files"), dict):
        raise CheckpointError(f"{path} lists no files; choose another checkpoint")
    for name, checksum in facts["files"].items():
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing; choose another checkpoint")
        if _sha256(folder / name) != checksum:
            raise CheckpointError(
                f"{folder / name} differs from its checksum (cut or changed after saving); "
                "choose another checkpoint"
            )
    return facts


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
