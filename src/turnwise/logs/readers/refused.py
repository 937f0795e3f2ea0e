"""The exception that carries one record out of its reader, and its way to a `Refusal`."""

import re
from dataclasses import dataclass

from turnwise.errors import LogsError
from turnwise.logs.refusal import Code, Refusal

_NO_TRAINING = re.compile(r"\btraining\b\W{1,9}false\b", re.IGNORECASE)
_LONGEST_SHOWN = 60


class RefusedError(LogsError):
    """This record cannot be used as it is; the next one can."""

    def __init__(
        self, code: Code, expected: str, found: str, advice: str, field: str | None = None
    ) -> None:
        super().__init__(f"expected {expected}, found {found}; {advice}")
        self.code: Code = code
        self.found = found
        self.field = field


@dataclass(frozen=True, slots=True)
class Row:
    """One record as the file has it."""

    value: object  # a mapping, or a list of messages
    line: int  # from 1; the row's number in Parquet and in a JSON array
    offset: int | None = None  # bytes of the uncompressed file
    length: int | None = None
    raw: str | None = None


def refusal(error: RefusedError, row: Row, conversation_id: str | None = None) -> Refusal:
    """The refusal of a row. Its text stays out where learning from it is not allowed."""
    may_show = row.raw is not None and not _NO_TRAINING.search(row.raw)
    return Refusal(
        code=error.code,
        reason=str(error),
        field=error.field,
        found=error.found,
        line=row.line,
        byte_offset=row.offset,
        byte_length=row.length,
        conversation_id=conversation_id,
        raw=row.raw if may_show else None,
    )


def shown(value: object) -> str:
    """A role, id, time or outcome as a message may quote it."""
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


def kind(value: object) -> str:
    """What sort of thing stands where another was expected, without its words."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"text of {len(value)} characters"
    if isinstance(value, bool | int | float):
        return repr(value)
    return {"dict": "an object", "list": "a list"}.get(
        type(value).__name__, f"a {type(value).__name__}"
    )
