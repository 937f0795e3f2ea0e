"""Why a record was not taken: the codes of validation, and one row of the quarantine."""

from dataclasses import dataclass
from typing import Literal

Code = Literal[
    "unreadable_file",
    "unknown_format",
    "missing_column",
    "broken_json",
    "bad_encoding",
    "line_too_long",
    "missing_field",
    "unknown_role",
    "empty_turn",
    "no_decision_step",
    "turns_out_of_order",
    "time_without_zone",
    "two_outcomes",
    "orphan_outcome",
    "bad_outcome",
    "outcome_before_last_turn",
    "duplicate_conversation",
    "id_clash",
    "id_not_exact",
    "tool_result_without_call",
    "consent_refused",
    "customer_in_both_splits",
]


@dataclass(frozen=True)
class Refusal:
    """One record, or one file, that was not taken.

    `reason` and `found` never hold the text of a message.
    """

    code: Code
    reason: str  # "expected …, found …; what to do"
    field: str | None = None  # e.g. "messages[3].content"
    found: str | None = None
    line: int | None = None  # from 1; the row's number in Parquet; None: the whole file
    byte_offset: int | None = None  # in the decompressed file
    byte_length: int | None = None
    conversation_id: str | None = None
    raw: str | None = (
        None  # the record's own text, where it can be given; None if consent is refused
    )
    file: str | None = None  # where a folder was read: the file in it

    def message(self, file: str) -> str:
        """`chat.jsonl:41213: empty_turn: expected …, found …; what to do`."""
        place = file if self.line is None else f"{file}:{self.line}"
        return f"{place}: {self.code}: {self.reason}"
