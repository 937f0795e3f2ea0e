"""A learner's folder: safetensors, facts as JSON, a checksum of every file; never pickle."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from turnwise.backends.optimizer import WeightOptimizer
from turnwise.errors import CheckpointError

MANIFEST = "learner.json"
OPTIMIZER_FILE = "optimizer.safetensors"


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


def save_learner(
    path: Path,
    role: str,
    weights_file: str,
    weights: Mapping[str, Tensor],
    optimizer: WeightOptimizer,
) -> None:
    """Weights, optimizer state and, last, the manifest into the folder `path`."""
    path.mkdir(parents=True, exist_ok=True)
    save_tensors(path / weights_file, weights)
    save_tensors(path / OPTIMIZER_FILE, optimizer.state_tensors())
    write_manifest(path, {"role": role})


def load_learner(
    path: Path,
    role: str,
    weights_file: str,
    weights: Mapping[str, Tensor],
    optimizer: WeightOptimizer,
    *,
    is_fresh: bool = False,
) -> None:
    """What `save_learner` wrote, in place. is_fresh: the optimizer's moments are left out.

    Raises CheckpointError for a missing or cut file, or weights of another shape; nothing has
    changed then.
    """
    read_manifest(path)
    saved, state = load_tensors(path / weights_file), load_tensors(path / OPTIMIZER_FILE)
    if is_fresh:  # what half-precision weights are rounded from belongs to the weights
        state = {name: tensor for name, tensor in state.items() if name.endswith("|master")}
    problem = misfit(weights, saved) or optimizer.misfit(state)
    if problem is not None:
        raise CheckpointError(
            f"{path} does not fit the {role}: {problem}; use the settings it was saved with"
        )
    copy_into(weights, saved)
    optimizer.load_state_tensors(state)


def misfit(target: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> str | None:
    """What keeps `source` from being copied into `target` by name; None if nothing does."""
    if differing := sorted(target.keys() ^ source.keys()):
        return f"different weights, e.g. {differing[0]}"
    for name, tensor in target.items():
        if tensor.shape != source[name].shape:
            return f"{name} has shape {tuple(source[name].shape)}, not {tuple(tensor.shape)}"
    return None


@torch.no_grad()
def copy_into(target: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    """Copy tensors by name, in place."""
    for name, tensor in target.items():
        tensor.copy_(source[name])


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
