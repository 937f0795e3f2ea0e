"""Dialogues to be credited may lie in any file that logs are read from."""

import gzip
import json
from pathlib import Path

import pytest

from tests.logs.lines import chat, write_lines
from turnwise.cli.conversation_files import Logged
from turnwise.cli.saved_dialogues import read_saved
from turnwise.errors import RecordError
from turnwise.logs import import_logs


def told(file: Path) -> list[tuple[str, float | None, list[str]]]:
    """Id, outcome and words of each conversation of a file."""
    out = []
    for saved in read_saved(file):
        assert isinstance(saved.dialogue, Logged)
        words = [message.content for message in saved.dialogue.conversation]
        out.append((saved.group_id, saved.dialogue.outcome.score, words))
    return out


EXPECTED = [("c1", 1.0, ["hello", "answer 1"]), ("c2", None, ["hello", "answer 2"])]


def test_exports_and_imported_logs_can_be_credited(tmp_path: Path) -> None:
    rows = [chat(1, outcome=1), chat(2)]
    lines = write_lines(tmp_path / "chat.jsonl", rows)
    packed = tmp_path / "chat.jsonl.gz"
    packed.write_bytes(gzip.compress(lines.read_bytes()))
    turns = [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "answer 1"}]
    share = write_lines(
        tmp_path / "share.jsonl",
        [
            {"id": "c1", "conversations": turns, "outcome": 1},
            {"id": "c2", "conversations": [turns[0], {"from": "gpt", "value": "answer 2"}]},
        ],
    )
    import_logs([lines], tmp_path / "out")
    assert told(packed) == told(share) == EXPECTED
    assert told(tmp_path / "out" / "part-00000.parquet") == EXPECTED


def test_lines_with_messages_keep_what_a_task_knows_of_them(tmp_path: Path) -> None:
    row = chat(1, score=0.5, group_id="g", scenario_id="easy:1", seed=7)
    (saved,) = read_saved(write_lines(tmp_path / "chat.jsonl", [row]))
    assert (saved.group_id, saved.dialogue.scenario_id, saved.dialogue.seed) == ("g", "easy:1", 7)


def test_the_first_record_that_cannot_be_used_is_named_with_its_code(tmp_path: Path) -> None:
    good = {"conversations": [{"from": "gpt", "value": "hello"}]}
    bad = {"conversations": [{"from": "robot", "value": "hello"}]}
    file = tmp_path / "share.jsonl"
    file.write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n", encoding="utf-8")
    with pytest.raises(RecordError, match=r"share.jsonl:2: unknown_role: .*logs import"):
        read_saved(file)
