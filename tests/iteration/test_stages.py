"""Stages leave all or nothing, and never run twice."""

from pathlib import Path

import pytest

from turnwise.errors import RecordError
from turnwise.iteration.stages import fingerprint, read_facts, stage, write_facts


def test_a_finished_stage_is_not_run_again(tmp_path: Path) -> None:
    def write(x: int) -> bool:
        return stage(tmp_path / "fit", lambda out: write_facts(out / "a.json", {"x": x}))

    assert [write(1), write(2)] == [True, False]
    assert read_facts(tmp_path / "fit" / "a.json") == {"x": 1}


def test_a_stage_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken(out: Path) -> None:
        write_facts(out / "a.json", {"x": 1})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage(tmp_path / "fit", broken)
    assert list(tmp_path.iterdir()) == []


def test_facts_that_cannot_be_read_name_the_folder_to_remove(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(RecordError, match=f"remove the folder {tmp_path.name}"):
        read_facts(tmp_path / "a.json")


def test_a_number_that_nobody_knows_is_null(tmp_path: Path) -> None:
    write_facts(tmp_path / "a.json", {"x": float("nan"), "in": {"y": (1.0, float("inf"))}})
    assert read_facts(tmp_path / "a.json") == {"x": None, "in": {"y": [1.0, None]}}


def test_weights_are_named_by_their_bytes_and_not_by_the_optimizers(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"one")
    before = fingerprint(tmp_path)
    (tmp_path / "optimizer.safetensors").write_bytes(b"state")
    assert fingerprint(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert fingerprint(tmp_path) != before
    assert len(before) == 8
