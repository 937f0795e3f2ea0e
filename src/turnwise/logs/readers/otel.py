"""Spans of OpenTelemetry's conventions for generative AI, whose status is "development".

One span a line, or OTLP's envelopes of spans and of log records. Attributes are objects or JSON
text. Older names are read too: `gen_ai.prompt` and `gen_ai.completion`, as attributes, numbered
attributes or events, and one event a message.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from turnwise.conversation import LoggedConversation, LoggedOutcome
from turnwise.logs.options import ReaderOptions
from turnwise.logs.readers.calls import (
    Call,
    not_captured,
    policy_facts,
    prompt_of,
    reply_of,
    steps_of_calls,
)
from turnwise.logs.readers.fields import (
    Object,
    as_number,
    exact_id,
    first,
    from_json,
    listing,
    mapping,
    moment,
)
from turnwise.logs.readers.record import Source, conversation_of, outcome_of
from turnwise.logs.readers.refused import RefusedError, Row
from turnwise.logs.readers.store import Store

_NO_FACTS: Object = {}
_CALLS = ("chat", "text_completion", "generate_content")
_ENVELOPES = (
    ("resourceSpans", ("scopeSpans", "instrumentationLibrarySpans"), "spans"),
    ("resource_spans", ("scope_spans", "instrumentation_library_spans"), "spans"),
    ("resourceLogs", ("scopeLogs",), "logRecords"),
)
_CONVERSATION = ("gen_ai.conversation.id", "session.id", "thread.id")
_EVALUATION = "gen_ai.evaluation.result"


def keep(row: Row, store: Store) -> None:
    """Put the spans of a line beside the others of their conversation."""
    for span in _spans(mapping(row.value, "the span") or _NO_FACTS):
        flat = _flat(span)
        trace = exact_id(flat["trace"], "traceId")
        thread = exact_id(first(_attributes(flat), *_CONVERSATION), _CONVERSATION[0])
        key = trace or thread
        if key is None:
            raise RefusedError("missing_field", "a traceId", "none", "export it too", "traceId")
        store.add(replace(row, value=flat), key, thread)


def _spans(value: Object) -> Iterator[Object]:
    """The spans and log records of an envelope, or the value itself."""
    envelopes = [one for one in _ENVELOPES if one[0] in value]
    if not envelopes:
        yield value
    for outer, scopes, inner in envelopes:
        for resource in _objects(value[outer]):
            for scope in scopes:
                for group in _objects(resource.get(scope)):
                    yield from _objects(group.get(inner))


def _objects(value: object) -> list[Object]:
    found = from_json(value)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _flat(span: Object) -> dict[str, object]:
    """One span or log record under names of our own."""
    context = mapping(span.get("context"), "context") or _NO_FACTS
    event = first(span, "eventName", "event_name")
    attributes = _plain(from_json(span.get("attributes", span)))
    body = _plain(_value(span["body"]) if "body" in span else None)
    return {
        "trace": first(span, "traceId", "trace_id") or context.get("trace_id"),
        "span": first(span, "spanId", "span_id") or context.get("span_id"),
        "event": first({"named": event, **_mapped(attributes)}, "named", "event.name"),
        "start": first(
            span, "startTimeUnixNano", "start_time_unix_nano", "start_time", "timeUnixNano"
        ),
        "end": first(span, "endTimeUnixNano", "end_time_unix_nano", "end_time"),
        "attributes": attributes,
        "body": body,
        "events": [
            {
                "event": one.get("name"),
                "start": first(one, "timeUnixNano", "timestamp"),
                "attributes": _plain(from_json(one.get("attributes"))),
                "body": _plain(_value(one.get("body"))),
            }
            for one in _objects(span.get("events"))
        ],
    }


def _mapped(value: object) -> Object:
    return value if isinstance(value, Mapping) else _NO_FACTS


def _plain(value: object) -> object:
    """Attributes as an object: OTLP lists them as {key, value: {stringValue: …}}."""
    if isinstance(value, list) and all(isinstance(one, Mapping) and "key" in one for one in value):
        return {str(one["key"]): _value(one.get("value")) for one in value}
    return value


def _value(value: object) -> object:
    """OTLP's typed value as the value itself."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return value
    sort, inside = next(iter(value.items()))
    if sort == "intValue":
        return int(str(inside))
    if sort == "arrayValue":
        values = _mapped(inside).get("values")
        return [_value(one) for one in values] if isinstance(values, list) else []
    if sort == "kvlistValue":
        return _plain(_mapped(inside).get("values", []))
    return inside if sort in ("stringValue", "doubleValue", "boolValue") else value


def _attributes(flat: Object) -> Object:
    return _mapped(flat.get("attributes"))


def conversation(conversation_id: str, rows: Sequence[Row], source: Source) -> LoggedConversation:
    """The conversation whose spans these are."""
    flats = [mapping(row.value, "the span") or _NO_FACTS for row in rows]
    records = [flat for flat in flats if flat["event"] is not None]
    spans = sorted((flat for flat in flats if flat["event"] is None), key=_start)
    options = source.options
    calls = []
    for span in spans:
        events = _objects(span["events"]) + [
            one for one in records if one["span"] == span["span"] and one["span"] is not None
        ]
        if _is_call(_attributes(span)):
            calls.append(_call(span, events, options))
    said = [*records, *(event for span in spans for event in _objects(span["events"]))]
    outcomes = [one for event in said for one in _outcome(event, options)]
    indexed = [(step, None) for step in steps_of_calls(calls)]
    facts = {"conversation_id": conversation_id, **_of_people(spans)}
    return conversation_of(facts, indexed, rows[0], source, name="spans", outcomes=outcomes)


def _start(flat: Object) -> tuple[float, str]:
    start = flat.get("start")
    return as_number(start) or 0.0, str(start)


def _is_call(attributes: Object) -> bool:
    operation = attributes.get("gen_ai.operation.name")
    has_model = any(key.startswith(("gen_ai.request.", "gen_ai.prompt")) for key in attributes)
    return operation in _CALLS or (operation is None and has_model)


def _of_people(spans: Sequence[Object]) -> dict[str, object]:
    names = {"customer_key": "user.id", "tenant": "tenant", "language": "language"}
    told = [_attributes(span) for span in spans]
    found = {
        ours: next((one[name] for one in told if name in one), None) for ours, name in names.items()
    }
    return {name: value for name, value in found.items() if value is not None}


def _call(span: Object, events: Sequence[Object], options: ReaderOptions) -> Call:
    attributes = dict(_attributes(span))
    for event in events:
        attributes |= {**_attributes(event)} if str(event["event"]).endswith(_WHOLE) else {}
    settings = {
        key.removeprefix("gen_ai.request."): value
        for key, value in attributes.items()
        if key.startswith("gen_ai.request.")
    }
    reasons = listing(attributes.get("gen_ai.response.finish_reasons"), "finish_reasons")
    reply, finish = reply_of(_reply(attributes, events), "gen_ai.output.messages", options)
    model = first(attributes, "policy_version", "gen_ai.response.model", "gen_ai.request.model")
    ended = str(reasons[0]) if reasons else finish
    return Call(
        prompt_of(_prompt(attributes, events), "gen_ai.input.messages", options),
        reply,
        moment(_clock(span["start"]), "start", options),
        moment(_clock(span["end"]), "end", options),
        policy_facts(model, settings, ended),
    )


# Events that hold a whole prompt or reply among their attributes.
_WHOLE = ("content.prompt", "content.completion", "operation.details")


def _clock(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _prompt(attributes: Object, events: Sequence[Object]) -> list[object]:
    """The messages of the prompt, system instructions first."""
    told = from_json(first(attributes, "gen_ai.input.messages", "gen_ai.prompt"))
    if told is None:
        told = _numbered(attributes, "gen_ai.prompt.") or [
            {"role": str(event["event"]).split(".")[1], **_body(event)}
            for event in events
            if str(event["event"]).endswith(".message")
        ]
    if not told:
        raise not_captured("gen_ai.input.messages")
    system = from_json(attributes.get("gen_ai.system_instructions"))
    first_words = [{"role": "system", "content": system}] if system else []
    return first_words + (told if isinstance(told, list) else [told])


def _reply(attributes: Object, events: Sequence[Object]) -> object:
    """The first candidate: it is what was sent."""
    told = from_json(first(attributes, "gen_ai.output.messages", "gen_ai.completion"))
    if told is None:
        told = _numbered(attributes, "gen_ai.completion.") or [
            _body(event) for event in events if event["event"] == "gen_ai.choice"
        ]
    return told[0] if isinstance(told, list) and told else told or None


def _body(event: Object) -> Object:
    return {**_mapped(event.get("attributes")), **_mapped(event.get("body"))}


def _numbered(attributes: Object, prefix: str) -> list[object]:
    """Messages spread over attributes such as gen_ai.prompt.0.tool_calls.1.name."""
    found: dict[int, dict[str, object]] = {}
    calls: dict[tuple[int, int], dict[str, object]] = {}
    for key, value in attributes.items():
        parts = key.removeprefix(prefix).split(".")
        if not key.startswith(prefix) or not parts[0].isdecimal():
            continue
        message = found.setdefault(int(parts[0]), {})
        if len(parts) == 4 and parts[1] == "tool_calls" and parts[2].isdecimal():
            calls.setdefault((int(parts[0]), int(parts[2])), {})[parts[3]] = value
        else:
            message[".".join(parts[1:])] = value
    for (i, _), call in sorted(calls.items()):
        listed = found[i].setdefault("tool_calls", [])
        if isinstance(listed, list):
            listed.append(call)
    return [found[i] for i in sorted(found)]


def _outcome(event: Object, options: ReaderOptions) -> list[LoggedOutcome]:
    """The outcome that an evaluation's result is, if it is the wanted one or none is wanted."""
    told = _attributes(event)
    name = str(told.get("gen_ai.evaluation.name"))
    label, score = (told.get(f"gen_ai.evaluation.score.{key}") for key in ("label", "value"))
    value = label if label in options.outcome_map or score is None else score
    is_wanted = event["event"] == _EVALUATION and options.outcome_name in (None, name)
    if not is_wanted or value is None:
        return []
    found = {"value": value, "observed_at": _clock(event.get("start"))}
    return [outcome_of(found, name, options, _EVALUATION)]
