"""The records that were not taken, one row each, and how many of them there are."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from turnwise.errors import LogsError
from turnwise.logs.redaction import Redactor, redacted_text
from turnwise.logs.refusal import Refusal

# Of a whole file: the command was called in another way than the file needs.
_USAGE = ("unknown_format", "missing_column")


@dataclass
class Quarantine:
    """Counts refusals, and writes them to a file of JSON lines where it has one."""

    path: Path | None = None
    keep_raw: bool = False  # the records' own text beside the reason, redacted where that is wished
    redactor: Redactor | None = None
    on_refusal: Callable[[str, Refusal], None] | None = None  # is told too
    by_code: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)  # files
    _out: TextIO | None = None

    def __enter__(self) -> Self:
        if self.path is not None:
            self._out = self.path.open("w", encoding="utf-8", newline="\n")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._out is not None:
            self._out.close()

    def add(self, file: str, refusal: Refusal) -> None:
        """Count and write one refusal.

        Raises LogsError if a whole file cannot be understood as the command was called.
        """
        file = refusal.file or file
        if refusal.code in _USAGE and refusal.line is None:
            raise LogsError(refusal.message(file))
        self.by_code[refusal.code] += 1
        if refusal.code == "unreadable_file":
            self.unreadable.append(file)
        if self.on_refusal is not None:
            self.on_refusal(file, refusal)
        if self._out is not None:
            self._out.write(json.dumps(self._row(file, refusal)) + "\n")

    def _row(self, file: str, refusal: Refusal) -> dict[str, object]:
        row: dict[str, object] = {
            "file": file,
            "line": refusal.line,
            "byte_offset": refusal.byte_offset,
            "byte_length": refusal.byte_length,
            "code": refusal.code,
            "reason": refusal.reason,
            "field": refusal.field,
            "found": refusal.found,
            "conversation_id": refusal.conversation_id,
        }
        if self.keep_raw and refusal.raw is not None and refusal.code != "consent_refused":
            redactor = self.redactor
            row["raw"] = redacted_text(refusal.raw, redactor) if redactor else refusal.raw
        return row
