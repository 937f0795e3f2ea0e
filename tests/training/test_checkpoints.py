"""A checkpoint is whole or not there, and what is broken is named before anything is loaded."""

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.rollouts.toy import backend
from tests.training.small import dialogues, learners, settings, stepped
from turnwise.backends import AdapterSpec, storage
from turnwise.errors import CheckpointError, RunFolderError
from turnwise.records import RunFolder, open_run_folder
from turnwise.tokens import turn_batch
from turnwise.training.checkpoints import (
    load_checkpoint,
    load_policy,
    save_checkpoint,
    saved_steps,
    verify_checkpoint,
)
from turnwise.training.learners import Learners

CONFIG = settings()


def trained(steps: int = 1) -> Learners:
    of = learners(CONFIG)
    for step in range(1, steps + 1):
        stepped(CONFIG, of, step)
    return of


def policy_logp(of: Learners) -> Tensor:
    return of.policy.logp(turn_batch(dialogues(CONFIG)))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return open_run_folder(tmp_path / "run")


def test_what_is_loaded_is_what_was_saved(folder: RunFolder) -> None:
    of, again = trained(2), learners(CONFIG)
    save_checkpoint(folder, 2, of)
    load_checkpoint(folder, 2, again)
    assert torch.equal(policy_logp(again), policy_logp(of))
    assert of.prm is not None and again.prm is not None
    assert (again.prm.bias, again.prm.trust) == (of.prm.bias, of.prm.trust)
    assert again.prm.is_started
    assert len(again.prm.replay) == len(of.prm.replay) == 2
    for one, other in zip(of.prm.replay, again.prm.replay, strict=True):
        assert torch.equal(one.logp_reference_BT, other.logp_reference_BT)
        assert torch.equal(one.batch.token_BT, other.batch.token_BT)
    assert torch.equal(of.prm.history.before_NK, again.prm.history.before_NK)
    first, second = stepped(CONFIG, of, 3), stepped(CONFIG, again, 3)
    assert first.metrics["loss/policy"] == second.metrics["loss/policy"]
    assert first.metrics["prm/bce_before"] == second.metrics["prm/bce_before"]


def test_a_run_without_a_reward_model_saves_none(folder: RunFolder) -> None:
    plain = learners(settings({"method.credit": "trajectory"}))
    save_checkpoint(folder, 1, plain)
    names = {path.name for path in folder.checkpoint(1).iterdir()}
    assert names == {"policy", "state.json", "manifest.json"}
    load_checkpoint(folder, 1, plain)
    with pytest.raises(CheckpointError, match="no implicit PRM"):
        load_checkpoint(folder, 1, learners(CONFIG))


def test_the_newest_two_are_kept(folder: RunFolder) -> None:
    of = learners(CONFIG)
    for step in (0, 1, 2, 10):
        save_checkpoint(folder, step, of)
    assert saved_steps(folder) == [2, 10]
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == [
        "step_000002",
        "step_000010",
    ]


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-8])


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [_cut, _flip, Path.unlink])
@pytest.mark.parametrize(
    "name",
    [
        "policy/model.safetensors",
        "policy/optimizer.safetensors",
        "prm/model.safetensors",
        "prm_state.safetensors",
        "state.json",
    ],
)
def test_a_damaged_file_is_named_and_nothing_is_loaded(
    folder: RunFolder, name: str, damage: Callable[[Path], None]
) -> None:
    save_checkpoint(folder, 1, trained())
    fresh = learners(CONFIG)
    before = policy_logp(fresh)
    damage(folder.checkpoint(1) / name)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder, 1, fresh)
    assert name in str(caught.value)
    assert "earlier checkpoint" in str(caught.value)
    assert torch.equal(policy_logp(fresh), before)
    assert fresh.prm is not None and not fresh.prm.is_started


def test_a_checkpoint_without_its_list_is_no_checkpoint(folder: RunFolder) -> None:
    save_checkpoint(folder, 1, learners(CONFIG))
    save_checkpoint(folder, 2, learners(CONFIG))
    (folder.checkpoint(2) / "manifest.json").unlink()
    assert saved_steps(folder) == [1]
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        verify_checkpoint(folder.checkpoint(2))
    (folder.checkpoint(1) / "manifest.json").write_text("{")
    with pytest.raises(CheckpointError, match="no readable manifest"):
        verify_checkpoint(folder.checkpoint(1))


def test_the_list_names_every_file(folder: RunFolder) -> None:
    save_checkpoint(folder, 1, learners(CONFIG))
    path = folder.checkpoint(1)
    manifest = json.loads((path / "manifest.json").read_text())
    files = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    assert set(manifest) == files - {"manifest.json"}


def _full(*args: object, **keys: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _full_after_a_part(tensors: object, path: Path, **keys: object) -> None:
    Path(path).write_bytes(b"half")
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("place", "function"),
    [("write", Path), ("tensors", storage), ("rename", None)],
)
def test_a_full_disk_loses_nothing_saved_before(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, place: str, function: object
) -> None:
    of = trained()
    save_checkpoint(folder, 1, of)
    expected = policy_logp(of)
    stepped(CONFIG, of, 2)
    with monkeypatch.context() as patch:
        if place == "write":
            patch.setattr(Path, "write_text", _full)
        elif place == "tensors":
            patch.setattr(storage, "save_file", _full_after_a_part)
        else:
            patch.setattr("os.replace", _full)
        with pytest.raises((CheckpointError, RunFolderError), match=r"[Nn]o space left"):
            save_checkpoint(folder, 2, of)
    assert saved_steps(folder) == [1]
    assert [path.name for path in folder.checkpoints.iterdir()] == ["step_000001"]
    again = learners(CONFIG)
    load_checkpoint(folder, 1, again)
    assert torch.equal(policy_logp(again), expected)
    save_checkpoint(folder, 2, of)  # with space again
    assert saved_steps(folder) == [1, 2]


def test_a_policy_alone_can_be_loaded(folder: RunFolder) -> None:
    of = trained()
    with pytest.raises(CheckpointError, match="found none; train the run first"):
        load_policy(folder, of.policy)
    save_checkpoint(folder, 1, of)
    stepped(CONFIG, of, 2)
    save_checkpoint(folder, 2, of)
    fresh = learners(CONFIG)
    assert load_policy(folder, fresh.policy) == 2
    assert torch.equal(policy_logp(fresh), policy_logp(of))
    assert load_policy(folder, fresh.policy, 1) == 1
    assert not torch.equal(policy_logp(fresh), policy_logp(of))


def test_another_models_checkpoint_does_not_fit(folder: RunFolder) -> None:
    save_checkpoint(folder, 1, trained())
    other = type(backend())(backend().tokenizer, 5)
    with pytest.raises(CheckpointError, match="does not fit"):
        load_policy(folder, other.create("policy", AdapterSpec()))
