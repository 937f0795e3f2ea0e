"""Why a record of a log cannot be used, and where it stands.

A refusal is data, not an exception: the import goes on, and every refusal becomes one row of the
quarantine. The words of `reason` are built from what was expected and what was found.
"""

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

USAGE_CODES: tuple[Code, ...] = ("unknown_format", "missing_column")  # a setting mends them


@dataclass(frozen=True)
class Refusal:
    """One record, or one whole file, that is not imported."""

    code: Code
    reason: str  # "expected …, found …; what to do"
    field: str | None = None  # e.g. "messages[3].content"
    found: str | None = None  # shortened, never the text of a message
    line: int | None = None  # from 1; the row's number in Parquet; None: the file as a whole
    byte_offset: int | None = None  # of the uncompressed file
    byte_length: int | None = None
    conversation_id: str | None = None
    raw: str | None = None  # the record's text; written only where it is asked for
