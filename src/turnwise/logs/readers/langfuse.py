"""Exports of Langfuse: enriched observations and scores, or traces, observations and scores.

A chat is a session over many traces; a trace without one is a chat of its own. Times mean UTC. The
tables lie in folders of their own: a folder is read as one export.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from turnwise.conversation import LoggedConversation, LoggedOutcome
from turnwise.logs.options import ReaderOptions
from turnwise.logs.readers.calls import Call, policy_facts, prompt_of, reply_of, steps_of_calls
from turnwise.logs.readers.fields import Object, exact_id, first, mapping, moment
from turnwise.logs.readers.record import Source, conversation_of, outcome_of
from turnwise.logs.readers.refused import RefusedError, Row
from turnwise.logs.readers.store import Store

_NO_FACTS: Object = {}
_SOURCES = {"ANNOTATION": "human", "EVAL": "classifier"}
_CAPITAL = re.compile(r"(?<=[a-z0-9])[A-Z]")


def keep(row: Row, store: Store) -> None:
    """Put an observation, trace or score beside the others of its session."""
    for value in _flat(_snake(mapping(row.value, "the record") or _NO_FACTS)):
        session = exact_id(value.get("session_id") or None, "session_id")
        own = value.get("id") if _is_trace(value) else None
        trace = exact_id(first(value, "trace_id") or own or session, "trace_id")
        if trace is None:
            raise RefusedError(
                "missing_field", "a trace_id or session_id", "none", "export it too", "trace_id"
            )
        store.add(replace(row, value=value), trace, session)


def _snake(value: Object) -> Object:
    """The names of the interface (traceId) as those of the export (trace_id)."""
    return {_CAPITAL.sub(lambda c: f"_{c[0].lower()}", key): one for key, one in value.items()}


def _flat(value: Object) -> Iterator[Object]:
    """A trace that holds its observations and scores, as rows of the three tables."""
    inside = ("observations", "scores", "traces")
    above = {"trace_id": value.get("id"), "session_id": value.get("session_id")}
    if isinstance(value.get("traces"), list):
        above = {"session_id": value.get("id")}
    if isinstance(value.get("trace"), Mapping):
        trace = _snake(mapping(value["trace"], "trace") or _NO_FACTS)
        above = {"trace_id": trace.get("id"), "session_id": trace.get("session_id")}
        yield trace
    elif not any(isinstance(value.get(name), list) for name in inside) or _is_trace(value):
        yield {key: one for key, one in value.items() if key not in inside}
    for name in inside:
        rows = value.get(name)
        for one in rows if isinstance(rows, list) else ():
            if isinstance(one, Mapping):
                yield from _flat({**above, **_snake(one)})


def _is_score(value: Object) -> bool:
    return "start_time" not in value and ("data_type" in value or "string_value" in value)


def _is_trace(value: Object) -> bool:
    return "timestamp" in value and "start_time" not in value and not _is_score(value)


def conversation(conversation_id: str, rows: Sequence[Row], source: Source) -> LoggedConversation:
    """The chat of a session. Raises RefusedError for scores of a session that is not there."""
    options = replace(source.options, timezone="UTC")
    values = [mapping(row.value, "the record") or _NO_FACTS for row in rows]
    scores = [value for value in values if _is_score(value)]
    if len(scores) == len(values):
        raise RefusedError(
            "orphan_outcome",
            f'a conversation for outcome "{conversation_id}"',
            "none",
            "read the folder that holds observations and scores",
        )
    made = sorted((value for value in values if _is_generation(value)), key=_start)
    calls = [_call(value, options) for value in made]
    seen = {value.get("trace_id") for value in made}
    bare = [value for value in values if _is_trace(value) and value.get("id") not in seen]
    calls += [_turn(value, options) for value in bare if value.get("output") is not None]
    calls.sort(key=lambda call: str(call.started))
    facts = {"conversation_id": conversation_id, **_of_people(values)}
    outcomes = [one for value in scores for one in _outcome(value, options)]
    indexed = [(step, None) for step in steps_of_calls(calls)]
    utc = replace(source, options=options)
    return conversation_of(facts, indexed, rows[0], utc, name="observations", outcomes=outcomes)


def _is_generation(value: Object) -> bool:
    has_failed = value.get("output") is None and value.get("level") == "ERROR"
    return value.get("type") == "GENERATION" and not has_failed


def _start(value: Object) -> str:
    return str(value.get("start_time"))


def _of_people(values: Sequence[Object]) -> dict[str, object]:
    told = [{**_metadata(value), "customer_key": value.get("user_id") or None} for value in values]
    names = ("customer_key", "tenant", "language", "consent")
    found = {name: next((one[name] for one in told if one.get(name)), None) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _metadata(value: Object) -> Object:
    found = value.get("metadata")
    return mapping(found, "metadata") or _NO_FACTS if found != "" else _NO_FACTS


def _call(value: Object, options: ReaderOptions) -> Call:
    reply, finish = reply_of(value.get("output"), "output", options)
    settings = mapping(value.get("model_parameters") or None, "model_parameters") or _NO_FACTS
    version = first({**_metadata(value), **value}, "policy_version", "provided_model_name", "model")
    return Call(
        prompt_of(value.get("input"), "input", options),
        reply,
        moment(value.get("start_time"), "start_time", options),
        moment(value.get("end_time") or None, "end_time", options),
        policy_facts(version, settings, finish),
    )


def _turn(value: Object, options: ReaderOptions) -> Call:
    """A trace without generations: what came in and what went out."""
    prompt = prompt_of(value.get("input"), "input", options)
    at = moment(value.get("timestamp"), "timestamp", options)
    reply, _ = reply_of(value.get("output"), "output", options)
    return Call(prompt, reply, at, None, None, is_prompt_whole=len(prompt) > 1)


def _outcome(value: Object, options: ReaderOptions) -> list[LoggedOutcome]:
    """The outcome that a score is, if it is the wanted one or none is wanted."""
    name = str(value.get("name"))
    words = value.get("string_value") or None
    said = words if words in options.outcome_map else first(value, "value", "string_value")
    if options.outcome_name not in (None, name) or said is None:
        return []
    found = {
        "value": said,
        "observed_at": value.get("timestamp") or None,
        "source": _SOURCES.get(str(value.get("source"))),
    }
    return [outcome_of(found, name, options, f"scores.{name}")]
