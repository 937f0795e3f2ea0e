"""Logs as OpenAI JSON lines, for tests."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

Row = dict[str, object]


def chat(number: int, text: str | None = None, **facts: object) -> Row:
    """One question and one answer; `facts` stand beside the messages."""
    said = f"answer {number}" if text is None else text
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": said}]
    return {"id": f"c{number}", "messages": messages, **facts}


def write_lines(path: Path, rows: Iterable[Mapping[str, object] | str]) -> Path:
    """Each row as JSON; text as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read_lines(path: Path) -> list[Row]:
    """The JSON objects of a file of lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
