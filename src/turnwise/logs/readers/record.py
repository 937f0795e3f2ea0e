"""A conversation put together from its steps and the facts beside them, and held to the rules.

Every rule concerns one record alone; what needs a second record is the importer's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import cast, get_args

from turnwise.conversation import (
    Consent,
    EndReason,
    LoggedConversation,
    LoggedOutcome,
    Origin,
    Redaction,
    Step,
)
from turnwise.conversation.logged import OutcomeSource
from turnwise.logs.options import ReaderOptions
from turnwise.logs.readers.fields import (
    Object,
    as_number,
    choice,
    exact_id,
    first,
    flag,
    mapping,
    moment,
    number,
    numbers,
    text,
    whole,
    wrong,
)
from turnwise.logs.readers.messages import Indexed
from turnwise.logs.readers.refused import RefusedError, Row, shown

ID_KEYS = ("conversation_id", "id")
CUSTOMER_KEYS = ("customer_key", "customer_id", "customer", "user_id")
_OUTCOME_KEYS = ("outcome", "score", "label", "reward")
_END_REASONS = tuple(str(reason) for reason in EndReason)


@dataclass(frozen=True)
class Source:
    """What all records of a file share."""

    file: Path
    reader: str
    options: ReaderOptions

    @cached_property
    def name(self) -> str:
        """The file's name in ids of records that have none; its folder tells apart equal names."""
        return f"{self.file.resolve().parent.name}/{self.file.name}"


def conversation_of(
    facts: Object,
    indexed: Sequence[Indexed],
    row: Row,
    source: Source,
    *,
    name: str = "messages",
    outcomes: Sequence[LoggedOutcome] = (),
) -> LoggedConversation:
    """The conversation of these steps, whose other fields stand in `facts`.

    outcomes: found elsewhere than in `facts`; name: of the list of messages, for refusals.
    Raises RefusedError for the first rule it breaks.
    """
    options = source.options
    found_id = exact_id(first(facts, *ID_KEYS), "conversation_id")
    if found_id == "":
        raise wrong("conversation_id", "an id", found_id)
    steps = in_order(indexed, options, name)
    check_steps(steps, name)
    outcome = one_outcome([*outcomes, *outcomes_of(facts, options)])
    if outcome is not None:
        steps = up_to_outcome(steps, outcome, options)
    told = choice(facts.get("end_reason"), "end_reason", _END_REASONS)
    known = EndReason.CENSORED if outcome is None else EndReason.OUTCOME
    return LoggedConversation(
        conversation_id=f"{source.name}:{row.line}" if found_id is None else found_id,
        steps=tuple(steps),
        end_reason=EndReason(told) if told else known,
        outcome=outcome,
        customer_key=exact_id(first(facts, *CUSTOMER_KEYS), "customer_key"),
        tenant=exact_id(facts.get("tenant"), "tenant"),
        language=text(facts.get("language"), "language"),
        started_at=moment(facts.get("started_at"), "started_at", options),
        ended_at=moment(facts.get("ended_at"), "ended_at", options),
        violations=MappingProxyType(numbers(facts.get("violations"), "violations")),
        consent=_consent(facts.get("consent"), options),
        redaction=_redaction(facts.get("redaction")),
        origin=_origin(facts.get("origin"), row, source),
    )


def _origin(value: object, row: Row, source: Source) -> Origin:
    """Where the conversation was read first: a canonical record says so itself."""
    found = mapping(value, "origin") if source.reader == "turnwise" else None
    file, reader = (text((found or {}).get(key), f"origin.{key}") for key in ("file", "reader"))
    line = whole((found or {}).get("line"), "origin.line")
    if file is None or line is None or reader is None:
        return Origin(source.file.as_posix(), row.line, source.reader)
    return Origin(file, line, reader)


def _consent(value: object, options: ReaderOptions) -> Consent:
    found = mapping(value, "consent")
    if found is None:
        return Consent()
    return Consent(
        flag(found.get("training"), "consent.training"),
        text(found.get("basis"), "consent.basis"),
        moment(found.get("retain_until"), "consent.retain_until", options),
    )


def _redaction(value: object) -> Redaction | None:
    found = mapping(value, "redaction")
    if found is None:
        return None
    tool, version = (text(found.get(key), f"redaction.{key}") for key in ("tool", "version"))
    if tool is None or version is None:
        raise wrong("redaction", "tool and version", None)
    return Redaction(tool, version, text(found.get("map_id"), "redaction.map_id"))


def in_order(indexed: Sequence[Indexed], options: ReaderOptions, name: str) -> list[Step]:
    """The steps in the order their times and indices tell.

    Raises RefusedError where these fall, repeat or leave a gap and may not be sorted.
    """
    steps = [step for step, _ in indexed]
    if options.sort_by_time and all(step.ts is not None for step in steps):
        return sorted(steps, key=lambda step: cast(datetime, step.ts))
    last = -1  # an index repeats only for the results that one message holds
    for position, (step, index) in enumerate(indexed):
        if index is None:
            continue
        if index != last + 1 and not (index == last and step.role == "tool"):
            found = f"index {index} " + ("twice" if index == last else f"after {last}")
            raise _out_of_order(f"indices 0, 1, 2, … in {name}", found, f"{name}[{position}]")
        last = index
    earlier: datetime | None = None
    for position, step in enumerate(steps):
        if step.ts is not None:
            if earlier is not None and step.ts < earlier:
                raise _out_of_order(
                    f"times that do not fall in {name}",
                    f"step {position} before step {position - 1}",
                    f"{name}[{position}]",
                )
            earlier = step.ts
    return steps


def _out_of_order(expected: str, found: str, field: str) -> RefusedError:
    return RefusedError("turns_out_of_order", expected, found, "--sort-by-time sorts", field)


def check_steps(steps: Sequence[Step], name: str) -> None:
    """Raises RefusedError for an empty turn, a result without its call, or no decision step."""
    has_decision = False
    called: set[str] | None = None  # None: no call so far
    unanswered = 0
    for i, step in enumerate(steps):
        if step.tool_calls:
            called = (called or set()) | {call.id for call in step.tool_calls}
            unanswered += len(step.tool_calls)
        elif step.role == "tool":
            is_known = step.tool_call_id in called if step.tool_call_id and called else unanswered
            if not is_known:
                raise _without_call(step, i, name)
            unanswered -= 1
        elif not step.content or step.content.isspace():
            _check_empty(step, i, name)
        has_decision = has_decision or step.role == "assistant"
    if not has_decision:
        raise RefusedError(
            "no_decision_step", f"at least one assistant message in {name}", "none", "drop it", name
        )


def _check_empty(step: Step, i: int, name: str) -> None:
    """A person may have sent nothing of what was proposed; otherwise nothing was said."""
    if step.disposition != "abstained" and not step.proposed:
        raise RefusedError(
            "empty_turn",
            f"text or a tool call in {name}[{i}]",
            "neither",
            "remove it or mark it abstained",
            f"{name}[{i}].content",
        )


def _without_call(step: Step, i: int, name: str) -> RefusedError:
    call = shown(step.tool_call_id) if step.tool_call_id else "of a tool"
    return RefusedError(
        "tool_result_without_call",
        f"a call {call} before its result",
        "none",
        "export the call too, or drop the result",
        f"{name}[{i}]",
    )


def outcomes_of(facts: Object, options: ReaderOptions) -> list[LoggedOutcome]:
    """Every outcome that stands in a record, under whatever name.

    Raises RefusedError for one that is no number within the return range.
    """
    named = options.outcome_name
    keys = (named,) if named is not None and facts.get(named) is not None else _OUTCOME_KEYS
    out = []
    for key in keys:
        value = facts.get(key)
        if value is None:
            continue
        for one in value if isinstance(value, list) else [value]:
            found = mapping(one, key) if isinstance(one, dict) else {"value": one, **_aside(facts)}
            out.append(outcome_of(found or {}, named or key, options, key))
    return out


def _aside(facts: Object) -> dict[str, object]:
    at = facts.get("outcome_at")
    return {} if at is None else {"observed_at": at}


def outcome_of(found: Object, name: str, options: ReaderOptions, field: str) -> LoggedOutcome:
    """An outcome from {value, name?, observed_at?, window_h?, source?, confidence?}."""
    source = choice(found.get("source"), f"{field}.source", get_args(OutcomeSource))
    return LoggedOutcome(
        name=text(found.get("name"), f"{field}.name") or name,
        value=outcome_value(found.get("value"), options, field),
        observed_at=moment(found.get("observed_at"), f"{field}.observed_at", options),
        window_h=number(found.get("window_h"), f"{field}.window_h"),
        source=cast(OutcomeSource | None, source),
        confidence=number(found.get("confidence"), f"{field}.confidence"),
    )


def outcome_value(value: object, options: ReaderOptions, field: str = "outcome") -> float:
    """The number that an outcome stands for. Raises RefusedError outside of the return range."""
    low, high = options.return_range
    word = str(value).lower() if isinstance(value, bool) else str(value)
    mapped = options.outcome_map.get(word)
    found = mapped if mapped is not None else as_number(value)
    if found is None and isinstance(value, bool):
        found = float(value)
    if found is None or not low <= found <= high:
        raise RefusedError(
            "bad_outcome",
            f"a number within [{low:g}, {high:g}] as {field}",
            shown(value),
            "map words with --outcome won=1, or set return_range",
            field,
        )
    return float(found)


def one_outcome(outcomes: Sequence[LoggedOutcome]) -> LoggedOutcome | None:
    """The outcome of a conversation; equal ones count once.

    Raises RefusedError for unequal ones.
    """
    if len({outcome.value for outcome in outcomes}) > 1:
        found = " and ".join(f"{outcome.value:g} ({outcome.name})" for outcome in outcomes)
        raise RefusedError(
            "two_outcomes", "one outcome per conversation", found, "keep one", "outcome"
        )
    return outcomes[0] if outcomes else None


def up_to_outcome(
    steps: Sequence[Step], outcome: LoggedOutcome, options: ReaderOptions
) -> list[Step]:
    """The steps that an outcome can be owed to: all, if it came at or after the last turn.

    Raises RefusedError for an earlier one unless the later steps may be cut.
    """
    at = outcome.observed_at
    last = next((step.ts for step in reversed(steps) if step.is_decision and step.ts), None)
    if at is None or last is None or at >= last:
        return list(steps)
    kept = [step for step in steps if step.ts is None or step.ts <= at]
    if options.after_outcome != "cut":
        raise RefusedError(
            "outcome_before_last_turn",
            "an outcome at or after the last turn",
            f"{(last - at).total_seconds() / 60:.0f} min earlier",
            "--after-outcome cut drops the later turns",
            "outcome.observed_at",
        )
    check_steps(kept, "messages up to the outcome")
    return kept
