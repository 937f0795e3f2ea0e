"""What the tests of the readers share: files of a few lines, and what is read from them."""

import json
from collections.abc import Sequence
from pathlib import Path

from turnwise.conversation import LoggedConversation, Step
from turnwise.logs.options import ReaderOptions
from turnwise.logs.readers import read_records
from turnwise.logs.refusal import Refusal

DEFAULT = ReaderOptions()


def jsonl(folder: Path, *rows: object, name: str = "chat.jsonl") -> Path:
    """A file with one row a line."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def read(file: Path, options: ReaderOptions = DEFAULT) -> list[LoggedConversation]:
    """The conversations of a file in which every record is good."""
    out = []
    for item in read_records(file, options):
        assert isinstance(item, LoggedConversation), item
        out.append(item)
    return out


def read_one(file: Path, options: ReaderOptions = DEFAULT) -> LoggedConversation:
    (conversation,) = read(file, options)
    return conversation


def refused(file: Path, options: ReaderOptions = DEFAULT) -> Refusal:
    """The refusal of a file with one bad record and no good one."""
    (item,) = read_records(file, options)
    assert isinstance(item, Refusal), item
    return item


def said(steps: Sequence[Step]) -> list[tuple[str, str]]:
    """Role and words of each step."""
    return [(step.role, step.content) for step in steps]


def user(content: str) -> dict[str, object]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, object]:
    return {"role": "assistant", "content": content}
