"""Who asks for deletion learns where the conversation is and which models have seen it."""

from pathlib import Path

import pytest

from tests.logs.lines import chat, write_lines
from turnwise.errors import RecordError
from turnwise.logs import (
    ImportOptions,
    Training,
    import_logs,
    note_training,
    read_key,
    trained_on,
)
from turnwise.logs.privacy import pseudonym
from turnwise.records import read_logged

KEY = b"a key of the test"


def folder_of(tmp_path: Path) -> Path:
    rows = [chat(i, customer_id=str(i % 2)) for i in range(4)]
    options = ImportOptions(key=KEY, per_shard=2)
    import_logs([write_lines(tmp_path / "chat.jsonl", rows)], tmp_path / "out", options)
    return tmp_path / "out"


def test_a_conversation_is_found_in_the_shard_that_holds_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    assert read_key() is None
    for i in range(4):
        (kept,) = trained_on(folder, conversation_id=f"c{i}")
        in_shard = [one.conversation_id for one in read_logged(folder / kept.shard)]
        assert f"c{i}" in in_shard and kept.trained == ()
    assert trained_on(folder, conversation_id="c9") == []


def test_versions_are_named_for_the_shards_they_learned_from(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    note_training(folder, "q", "q-0-A", ["part-00000.parquet"])
    for _ in range(2):  # once more changes nothing
        note_training(folder, "policy", "pi_1")
    (first,) = trained_on(folder, conversation_id="c0")
    (last,) = trained_on(folder, conversation_id="c3")
    assert first.trained == (Training("q", "q-0-A"), Training("policy", "pi_1"))
    assert last.trained == (Training("policy", "pi_1"),)


def test_all_conversations_of_a_customer_are_found(tmp_path: Path) -> None:
    found = trained_on(folder_of(tmp_path), customer_key=pseudonym("1", KEY))
    assert [kept.conversation_id for kept in found] == ["c1", "c3"]


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="expected a deletion index"):
        trained_on(tmp_path, conversation_id="c0")
