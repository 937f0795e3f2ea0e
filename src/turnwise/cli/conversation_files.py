"""Files of conversations: one a line as JSON with what a task knows of it, or any export."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from turnwise.conversation import Conversation, Ending, Outcome
from turnwise.conversation.messages import from_trl
from turnwise.errors import ConfigError, RecordError
from turnwise.logs import ReaderOptions, Refusal
from turnwise.logs.readers import read_records

T = TypeVar("T")
Row = Mapping[str, object]

_ENDINGS = tuple(str(ending) for ending in Ending)


@dataclass(frozen=True)
class Logged:
    """A conversation that somebody else had, and what its line says of it; it has no tokens yet."""

    line: int  # of its file, from 1
    scenario_id: str
    group_id: str
    seed: int
    conversation: Conversation
    outcome: Outcome
    ending: Ending


def read_conversations(file: Path) -> list[Conversation]:
    """Every line of a JSONL file as a conversation.

    Raises RecordError naming file and line of the first that is not one.
    """
    return read_jsonl(file, lambda line, row: from_trl(row))


def read_logged(file: Path) -> list[Logged]:
    """Every line of a JSONL file as a conversation with its outcome.

    `messages` (or `prompt` and `completion`, or a list alone) is needed; `outcome` or `score` (a
    number in [0, 1], null for not judged), `group_id`, `scenario_id`, `seed` and `ending` may be
    there and then have to be what they should be. Other columns are not read.
    Raises RecordError naming file and line of the first that cannot be read.
    """

    def logged(line: int, row: Row) -> Logged:
        return Logged(
            line,
            _text(row, "scenario_id") or f"{file.stem}:{line}",
            _text(row, "group_id") or f"{file.stem}:{line}",
            _whole_number(row, "seed", line),
            from_trl(row),
            Outcome(_score(row)),
            _ending(row),
        )

    return read_jsonl(file, logged)


def read_exported(file: Path) -> list[Logged]:
    """Every conversation of a file of any format that `turnwise logs` reads, with its outcome.

    Raises RecordError naming the first that cannot be read, or an empty file.
    """
    out = []
    for number, item in enumerate(read_records(file, ReaderOptions()), start=1):
        if isinstance(item, Refusal):
            raise RecordError(
                f"{item.message(str(file))}. `turnwise logs import` goes on and leaves it out"
            )
        name = item.conversation_id
        line = item.origin.line if item.origin else number
        outcome = Outcome(item.outcome.value if item.outcome else None)
        out.append(Logged(line, name, name, number, item.conversation, outcome, Ending.FAREWELL))
    if not out:
        raise RecordError(f"{file} holds no conversation; expected an export that has one")
    return out


def read_jsonl(file: Path, parse: Callable[[int, Row], T]) -> list[T]:
    """What `parse` makes of each line (its number from 1, its object); empty lines are left out.

    Raises RecordError naming file and line of the first that `parse` refuses, or an empty file.
    """
    out = []
    try:
        # Not splitlines: a text may hold line separators of Unicode as they are.
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{file} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            out.append(parse(number, {"messages": row} if isinstance(row, list) else row))
        except (ValueError, AttributeError, TypeError, ConfigError) as error:
            raise RecordError(
                f"{file}, line {number}: expected a conversation as JSON, found {error}; correct "
                "or remove the line"
            ) from error
    if not out:
        raise RecordError(f"{file} holds no conversation; expected one JSON object a line")
    return out


def _score(row: Row) -> float | None:
    given = {key: row[key] for key in ("outcome", "score") if row.get(key) is not None}
    for key, value in given.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= float(str(value)) <= 1:
            raise ConfigError(f"{value!r} as {key}, which is a number in [0, 1] or null")
    if len(set(given.values())) > 1:
        raise ConfigError(f"two outcomes, {given}; keep one")
    return next((float(str(value)) for value in given.values()), None)


def _text(row: Row, key: str) -> str:
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{value!r} as {key}, which is text")
    return value or ""


def _whole_number(row: Row, key: str, default: int) -> int:
    value = row.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{value!r} as {key}, which is a whole number")
    return value


def _ending(row: Row) -> Ending:
    name = _text(row, "ending") or Ending.FAREWELL
    if name not in _ENDINGS:
        raise ConfigError(f"{name!r} as ending, which is one of {', '.join(_ENDINGS)}")
    return Ending(name)
