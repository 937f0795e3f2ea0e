"""The columns of the canonical record `turnwise.log/1`, and a conversation as a row of them.

Files of such rows are the business of `records.logs`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from types import MappingProxyType
from typing import Any, cast  # Any: a row as pyarrow or json gives it

import pyarrow as pa

from turnwise.conversation import (
    LOG_SCHEMA,
    Consent,
    EndReason,
    Exploration,
    LoggedConversation,
    LoggedOutcome,
    Message,
    Origin,
    PolicyFacts,
    Redaction,
    Step,
    ToolCall,
)

VERSION_KEY = b"turnwise.log_schema"

Row = dict[str, Any]

_TIME = pa.timestamp("us", tz="UTC")
_NUMBERS = pa.map_(pa.string(), pa.float64())
_TOOL_CALLS = pa.list_(
    pa.struct([("id", pa.string()), ("name", pa.string()), ("arguments", pa.string())])
)
_MESSAGE = [
    ("role", pa.string()),
    ("content", pa.string()),
    ("name", pa.string()),
    ("tool_calls", _TOOL_CALLS),
    ("tool_call_id", pa.string()),
]
_POLICY = pa.struct(
    [
        ("version", pa.string()),
        ("weights_sha", pa.string()),
        ("template_sha", pa.string()),
        ("temperature", pa.float64()),
        ("top_p", pa.float64()),
        ("max_tokens", pa.int64()),
        ("finish", pa.string()),
    ]
)
_STEP = pa.struct(
    [
        ("i", pa.int32()),
        *_MESSAGE,
        ("ts", _TIME),
        ("author", pa.string()),
        ("disposition", pa.string()),
        ("proposed", pa.string()),
        ("reward", pa.float64()),
        ("violations", _NUMBERS),
        ("context", pa.list_(pa.struct(_MESSAGE))),
        ("policy", _POLICY),
        (
            "explore",
            pa.struct(
                [("deviated", pa.bool_()), ("arm", pa.string()), ("propensity", pa.float64())]
            ),
        ),
        ("logp_sum", pa.float64()),
        ("token_ids", pa.list_(pa.int32())),
        ("token_logp", pa.list_(pa.float32())),
        ("is_scored", pa.bool_()),
    ]
)
_OUTCOME = pa.struct(
    [
        ("name", pa.string()),
        ("value", pa.float64()),
        ("observed_at", _TIME),
        ("window_h", pa.float64()),
        ("source", pa.string()),
        ("confidence", pa.float64()),
    ]
)
SCHEMA = pa.schema(
    [
        ("conversation_id", pa.string()),
        ("customer_key", pa.string()),
        ("tenant", pa.string()),
        ("language", pa.string()),
        ("started_at", _TIME),
        ("ended_at", _TIME),
        ("end_reason", pa.string()),
        ("outcome", _OUTCOME),
        ("violations", _NUMBERS),
        (
            "consent",
            pa.struct([("training", pa.bool_()), ("basis", pa.string()), ("retain_until", _TIME)]),
        ),
        (
            "redaction",
            pa.struct([("tool", pa.string()), ("version", pa.string()), ("map_id", pa.string())]),
        ),
        (
            "origin",
            pa.struct([("file", pa.string()), ("line", pa.int64()), ("reader", pa.string())]),
        ),
        ("steps", pa.list_(_STEP)),
    ],
    metadata={VERSION_KEY: LOG_SCHEMA.encode()},
)


def logged_to_row(conversation: LoggedConversation) -> Row:
    """The conversation in the columns of the canonical record; times stay datetimes."""
    row = dict(vars(conversation))
    row["violations"] = dict(conversation.violations)
    for name in ("outcome", "consent", "redaction", "origin"):
        row[name] = _row_or_none(row[name])
    row["steps"] = [_step_row(i, step) for i, step in enumerate(conversation.steps)]
    return row


def _row_or_none(value: object) -> Row | None:
    return None if value is None else dict(vars(value))


def _step_row(i: int, step: Step) -> Row:
    row = {"i": i, **vars(step)}
    row["tool_calls"] = [dict(vars(call)) for call in step.tool_calls]
    row["violations"] = dict(step.violations)
    if step.context is not None:
        row["context"] = [_message_row(message) for message in step.context]
    row["policy"] = _row_or_none(step.policy)
    row["explore"] = _row_or_none(step.explore)
    return row


def _message_row(message: Message) -> Row:
    return {**vars(message), "tool_calls": [dict(vars(call)) for call in message.tool_calls]}


def logged_from_row(row: Mapping[str, Any]) -> LoggedConversation:
    """The conversation of a row; a column that is absent has its default.

    Times may be ISO text with a zone. The inverse of `logged_to_row`.
    Raises KeyError, TypeError, ValueError or ConfigError for a row of another shape.
    """
    known = {name: value for name, value in row.items() if name != "schema"}
    steps = sorted(known["steps"], key=lambda step: int(step.get("i", 0)))
    outcome = _times(known.get("outcome"), "observed_at")
    consent = _times(known.get("consent"), "retain_until")
    redaction, origin = known.get("redaction"), known.get("origin")
    return LoggedConversation(
        **_times(known, "started_at", "ended_at")
        | {
            "steps": tuple(map(_step_of, steps)),
            "end_reason": EndReason(known["end_reason"]),
            "outcome": LoggedOutcome(**outcome) if outcome else None,
            "violations": _numbers(known.get("violations")),
            "consent": Consent(**consent) if consent else Consent(),
            "redaction": Redaction(**redaction) if redaction else None,
            "origin": Origin(**origin) if origin else None,
        }
    )


def _step_of(row: Row) -> Step:
    known = _times(row, "ts")
    known.pop("i", None)
    context, policy, explore = row.get("context"), row.get("policy"), row.get("explore")
    known["tool_calls"] = _tool_calls(row)
    known["violations"] = _numbers(row.get("violations"))
    known["context"] = None if context is None else tuple(map(_message_of, context))
    known["policy"] = PolicyFacts(**policy) if policy else None
    known["explore"] = Exploration(**explore) if explore else None
    for name in ("token_ids", "token_logp"):
        known[name] = None if row.get(name) is None else tuple(row[name])
    return Step(**known)


def _message_of(row: Row) -> Message:
    return Message(**{**row, "tool_calls": _tool_calls(row)})


def _tool_calls(row: Row) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(**call) for call in row.get("tool_calls") or ())


def _numbers(found: Mapping[str, float] | None) -> Mapping[str, float]:
    return MappingProxyType(dict(found or {}))


def _times(row: Mapping[str, Any] | None, *names: str) -> Row:
    """The row with times in UTC; an empty one where there is none."""
    times = {name: _utc(row[name]) for name in names if row and row.get(name) is not None}
    return {**(row or {}), **times}


def _utc(found: datetime | str) -> datetime:
    time = datetime.fromisoformat(found) if isinstance(found, str) else found
    if time.tzinfo is None:
        raise ValueError(f"expected a time with its zone, found {found!r}")
    return time.astimezone(UTC)


def values_of(column: pa.Array) -> list[Any]:
    """`column.to_pylist()`, four times as fast for nested columns that are mostly empty."""
    if column.null_count == len(column):
        return [None] * len(column)
    if pa.types.is_struct(column.type):
        names = [field.name for field in column.type]
        rows = zip(*map(values_of, column.flatten()), strict=True)
        values: list[Any] = [dict(zip(names, row, strict=True)) for row in rows]
    elif pa.types.is_map(column.type):
        pairs = list(zip(values_of(column.keys), values_of(column.items), strict=True))
        values = [dict(pairs[a:b]) for a, b in pairwise(column.offsets.to_pylist())]
    elif pa.types.is_list(column.type):
        inner, edges = values_of(column.values), column.offsets.to_pylist()
        values = [inner[a:b] for a, b in pairwise(edges)]
    else:
        return cast(list[Any], column.to_pylist())
    if column.null_count == 0:
        return values
    is_there = column.is_valid().to_pylist()
    return [value if there else None for value, there in zip(values, is_there, strict=True)]
