"""Everything a run needs to go on with identical numbers, saved whole or not at all.

A checkpoint is a folder: `policy/` and, of a method that has them, `prm/` and `critic/` (weights
and optimizer), `prm_state.safetensors` (replay and calibration), `state.json`, and `manifest.json`
with the SHA-256 of every file, written last. All randomness is keyed by (seed, step, …), so there
is no generator state to keep.
"""

import hashlib
import json
import shutil
from pathlib import Path

from torch import Tensor

from turnwise.advantages import JudgedTurns
from turnwise.backends.protocol import Learner
from turnwise.backends.storage import load_tensors, save_tensors
from turnwise.credit import Trust
from turnwise.errors import CheckpointError
from turnwise.records import RunFolder, replace_folder_atomically
from turnwise.tokens import TurnBatch
from turnwise.training.learners import Learners
from turnwise.training.prm import Bias, ImplicitPrm, Judged

_CALLED = {"prm": "implicit PRM", "critic": "critic"}
_KEEP = 2  # the newest may turn out corrupt on a failing disk


def save_checkpoint(folder: RunFolder, step: int, learners: Learners) -> None:
    """Saves step `step` and removes all but the newest two checkpoints.

    Raises CheckpointError or RunFolderError if the system refuses (full disk): earlier checkpoints
    stay as they are.
    """

    def write(path: Path) -> None:
        learners.policy.save(path / "policy")
        state: dict[str, object] = {"step": step}
        if learners.prm is not None:
            learners.prm.learner.save(path / "prm")
            save_tensors(path / "prm_state.safetensors", _prm_tensors(learners.prm))
            state["prm"] = _prm_state(learners.prm)
        if learners.critic is not None:
            learners.critic.learner.save(path / "critic")
        (path / "state.json").write_text(json.dumps(state), encoding="utf-8")
        manifest = {str(file.relative_to(path)): _sha256(file) for file in _files(path)}
        (path / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")

    replace_folder_atomically(folder.checkpoint(step), write)
    for old in saved_steps(folder)[:-_KEEP]:
        shutil.rmtree(folder.checkpoint(old), ignore_errors=True)


def saved_steps(folder: RunFolder) -> list[int]:
    """Steps with a checkpoint, ascending."""
    names = [p.name for p in folder.checkpoints.glob("step_*") if (p / "manifest.json").is_file()]
    return sorted(int(name.removeprefix("step_")) for name in names)


def newest_step(folder: RunFolder) -> int:
    """The last step with a checkpoint. Raises CheckpointError if there is none."""
    steps = saved_steps(folder)
    if not steps:
        raise CheckpointError(
            f"expected a checkpoint in {folder.checkpoints}, found none; train the run first"
        )
    return steps[-1]


def load_checkpoint(folder: RunFolder, step: int, learners: Learners) -> None:
    """Brings every learner to where it was after `step`, and publishes the policy.

    Raises CheckpointError naming the file that is missing, cut or changed; nothing is loaded then.
    """
    path = folder.checkpoint(step)
    verify_checkpoint(path)
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    for name, learner in (("prm", learners.prm), ("critic", learners.critic)):
        if learner is not None and not (path / name).is_dir():
            raise CheckpointError(
                f"{path} has no {_CALLED[name]} but this run's method needs one; resume with the "
                "settings the run was started with"
            )
    learners.policy.load(path / "policy")
    if learners.prm is not None:
        learners.prm.learner.load(path / "prm")
        _restore_prm(learners.prm, state["prm"], path / "prm_state.safetensors")
    if learners.critic is not None:
        learners.critic.learner.load(path / "critic")
    learners.sampler = learners.policy.publish()


def load_policy(folder: RunFolder, learner: Learner, step: int | None = None) -> int:
    """Brings a policy to where it was after `step` (the newest checkpoint by default).

    Returns the step. Raises CheckpointError if there is none, or it is corrupt.
    """
    step = newest_step(folder) if step is None else step
    verify_checkpoint(folder.checkpoint(step))
    learner.load(folder.checkpoint(step) / "policy")
    return step


def verify_checkpoint(path: Path) -> None:
    """Raises CheckpointError unless every file of the manifest is there and unchanged."""
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} has no readable manifest.json ({error}); remove this folder to resume from an "
            "earlier checkpoint"
        ) from error
    for name, expected in manifest.items():
        file = path / name
        found = _sha256(file) if file.is_file() else "missing"
        if found != expected:
            raise CheckpointError(
                f"{file} is corrupt: expected SHA-256 {expected[:12]}…, found {found[:12]}; remove "
                f"{path} to resume from an earlier checkpoint"
            )


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _prm_state(prm: ImplicitPrm) -> dict[str, object]:
    return {
        "bias": vars(prm.bias),
        "trust": prm.trust.accuracy,
        "is_started": prm.is_started,
        "num_replay": len(prm.replay),
    }


def _prm_tensors(prm: ImplicitPrm) -> dict[str, Tensor]:
    out = {
        "history.before": prm.history.before_NK,
        "history.is_turn": prm.history.is_turn_NK,
        "history.outcome": prm.history.outcome_N,
    }
    for i, judged in enumerate(prm.replay):
        parts = {
            "token": judged.batch.token_BT,
            "turn": judged.batch.turn_of_token_BT,
            "behaviour": judged.batch.logp_behaviour_BT,
            "length": judged.batch.length_B,
            "reference": judged.logp_reference_BT,
            "outcome": judged.outcome_B,
            "group": judged.group_B,
        }
        out |= {f"replay.{i}.{name}": part for name, part in parts.items()}
    return out


def _restore_prm(prm: ImplicitPrm, state: dict[str, object], path: Path) -> None:
    tensors = load_tensors(path)
    bias, accuracy = state["bias"], state["trust"]
    assert isinstance(bias, dict) and (accuracy is None or isinstance(accuracy, float))
    prm.bias = Bias(**bias)
    prm.trust = Trust(accuracy)
    prm.is_started = bool(state["is_started"])
    prm.replay = [
        Judged(
            TurnBatch(
                tensors[f"replay.{i}.token"],
                tensors[f"replay.{i}.turn"],
                tensors[f"replay.{i}.behaviour"],
                tensors[f"replay.{i}.length"],
            ),
            tensors[f"replay.{i}.reference"],
            tensors[f"replay.{i}.outcome"],
            tensors[f"replay.{i}.group"],
        )
        for i in range(int(str(state["num_replay"])))
    ]
    prm.history = JudgedTurns(
        tensors["history.before"], tensors["history.is_turn"], tensors["history.outcome"]
    )
