"""Spans of the GenAI conventions: today's names and older ones, alone or in OTLP's envelopes."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.logs.readers.reading import jsonl, read, read_one, refused, said
from turnwise.conversation import PolicyFacts
from turnwise.logs.options import ReaderOptions

Row = dict[str, object]
START = 1_767_607_200  # 2026-01-05 10:00:00 UTC
TALK = [
    ("system", "Sell."),
    ("user", "Lamps?"),
    ("assistant", ""),
    ("tool", "3"),
    ("assistant", "Three."),
]


def text(role: str, content: str) -> Row:
    return {"role": role, "parts": [{"type": "text", "content": content}]}


CALL: Row = {
    "role": "assistant",
    "parts": [
        {"type": "reasoning", "content": "Let me see."},
        {"type": "tool_call", "id": "t1", "name": "stock", "arguments": {"item": "lamp"}},
    ],
}
RESULT: Row = {
    "role": "tool",
    "parts": [{"type": "tool_call_response", "id": "t1", "response": "3"}],
}


def span(second: int, inputs: list[Row], output: Row, **more: object) -> Row:
    return {
        "traceId": f"trace-{second}",
        "spanId": f"span-{second}",
        "name": "chat m-1",
        "startTimeUnixNano": str((START + second) * 10**9),
        "endTimeUnixNano": str((START + second + 1) * 10**9),
        "attributes": {
            "gen_ai.operation.name": "chat",
            "gen_ai.conversation.id": "c-1",
            "gen_ai.request.model": "m",
            "gen_ai.response.model": "m-1",
            "gen_ai.request.temperature": 0.7,
            "gen_ai.request.top_p": 1.0,
            "gen_ai.request.max_tokens": 64,
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.system_instructions": [{"type": "text", "content": "Sell."}],
            "gen_ai.input.messages": inputs,
            "gen_ai.output.messages": [{**output, "finish_reason": "stop"}],
        },
        **more,
    }


def spans() -> list[Row]:
    other: Row = {
        "traceId": "trace-0",
        "spanId": "h",
        "name": "GET /",
        "attributes": {"http.route": "/"},
    }
    return [
        span(5, [text("user", "Lamps?"), CALL, RESULT], text("assistant", "Three.")),
        other,
        span(0, [text("user", "Lamps?")], CALL),
    ]


def attributes(row: Row) -> Row:
    found = row["attributes"]
    assert isinstance(found, dict)
    return found


def typed(value: object) -> Row:
    """A value as OTLP's JSON spells it."""
    if isinstance(value, list):
        return {"arrayValue": {"values": [typed(one) for one in value]}}
    if isinstance(value, dict):
        return {
            "kvlistValue": {"values": [{"key": k, "value": typed(v)} for k, v in value.items()]}
        }
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}


def listed(row: Row, as_text: bool) -> Row:
    pairs = {
        key: json.dumps(value) if as_text and isinstance(value, list) else value
        for key, value in attributes(row).items()
    }
    return {
        **row,
        "attributes": [{"key": key, "value": typed(value)} for key, value in pairs.items()],
    }


def check(file: Path) -> None:
    found = next(one for one in read(file) if one.conversation_id == "c-1")
    assert said(found.steps) == TALK
    assert found.steps[2].tool_calls[0].arguments == '{"item": "lamp"}'
    assert [step.context for step in found.decisions] == [None, None]
    assert found.steps[2].ts == datetime(2026, 1, 5, 10, tzinfo=UTC)
    assert found.steps[2].policy == PolicyFacts(
        "m-1", temperature=0.7, top_p=1.0, max_tokens=64, finish="stop"
    )


def test_spans_of_a_conversation_become_its_steps(tmp_path: Path) -> None:
    rows = spans()
    check(jsonl(tmp_path, rows[0], rows[2]))


def test_attributes_may_be_json_text(tmp_path: Path) -> None:
    rows = [spans()[0], spans()[2]]
    for row in rows:
        row["attributes"] = {
            key: json.dumps(value) if isinstance(value, list) else value
            for key, value in attributes(row).items()
        }
    check(jsonl(tmp_path, *rows))
    for row in rows:
        row["attributes"] = json.dumps(row["attributes"])
    check(jsonl(tmp_path, *rows))


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize("indent", [None, 1])
def test_envelopes_of_otlp_hold_the_same(tmp_path: Path, as_text: bool, indent: int | None) -> None:
    rows = [listed(spans()[0], as_text), listed(spans()[2], as_text)]
    envelopes = [{"resourceSpans": [{"scopeSpans": [{"spans": [row]}]}]} for row in rows]
    text = "\n".join(json.dumps(one, indent=indent) for one in envelopes)
    (tmp_path / "a.json").write_text(text)
    check(tmp_path / "a.json")


def test_the_console_exporter_s_spans_hold_the_same(tmp_path: Path) -> None:
    rows = []
    for row in (spans()[0], spans()[2]):
        start = datetime.fromtimestamp(int(str(row["startTimeUnixNano"])) / 1e9, UTC).isoformat()
        rows.append(
            {
                "name": "chat",
                "context": {"trace_id": row["traceId"], "span_id": row["spanId"]},
                "start_time": start,
                "attributes": row["attributes"],
            }
        )
    (tmp_path / "a.json").write_text("\n".join(json.dumps(row, indent=4) for row in rows))
    check(tmp_path / "a.json")


def old(second: int, more: Row, **beside: object) -> Row:
    told = {"gen_ai.request.model": "m-1", "gen_ai.system": "openai", **more}
    return {**span(second, [], {}), "traceId": "c-0", "attributes": told, **beside}


PROMPT = [{"role": "user", "content": "Hello?"}]
REPLY = [{"role": "assistant", "content": "Hi."}]


@pytest.mark.parametrize(
    "row",
    [
        old(0, {"gen_ai.prompt": json.dumps(PROMPT), "gen_ai.completion": json.dumps(REPLY)}),
        old(
            0,
            {
                "gen_ai.prompt.0.role": "user",
                "gen_ai.prompt.0.content": "Hello?",
                "gen_ai.completion.0.role": "assistant",
                "gen_ai.completion.0.content": "Hi.",
            },
        ),
        old(
            0,
            {},
            events=[
                {
                    "name": "gen_ai.content.prompt",
                    "attributes": {"gen_ai.prompt": json.dumps(PROMPT)},
                },
                {
                    "name": "gen_ai.content.completion",
                    "attributes": [
                        {"key": "gen_ai.completion", "value": {"stringValue": json.dumps(REPLY)}}
                    ],
                },
            ],
        ),
        old(
            0,
            {},
            events=[
                {"name": "gen_ai.user.message", "attributes": {"content": "Hello?"}},
                {
                    "name": "gen_ai.choice",
                    "body": {"index": 0, "finish_reason": "stop", "message": REPLY[0]},
                },
            ],
        ),
        old(
            0,
            {},
            events=[
                {
                    "name": "gen_ai.client.inference.operation.details",
                    "attributes": {
                        "gen_ai.input.messages": [text("user", "Hello?")],
                        "gen_ai.output.messages": [text("assistant", "Hi.")],
                    },
                }
            ],
        ),
    ],
)
def test_older_names_and_events_are_read(tmp_path: Path, row: Row) -> None:
    found = read_one(jsonl(tmp_path, row))
    assert found.conversation_id == "c-0"
    assert said(found.steps) == [("user", "Hello?"), ("assistant", "Hi.")]


def test_numbered_attributes_may_hold_calls(tmp_path: Path) -> None:
    row = old(
        0,
        {
            "gen_ai.prompt.0.role": "user",
            "gen_ai.prompt.0.content": "Lamps?",
            "gen_ai.completion.0.role": "assistant",
            "gen_ai.completion.0.tool_calls.0.id": "t1",
            "gen_ai.completion.0.tool_calls.0.name": "stock",
            "gen_ai.completion.0.tool_calls.0.arguments": "{}",
        },
    )
    assert read_one(jsonl(tmp_path, row)).steps[1].tool_calls[0].name == "stock"


def test_events_may_come_as_log_records(tmp_path: Path) -> None:
    def record(name: str, body: Row) -> Row:
        return {
            "eventName": name,
            "traceId": "c-0",
            "spanId": "span-0",
            "timeUnixNano": str(START * 10**9),
            "body": typed(body),
            "attributes": [],
        }

    records = [
        record("gen_ai.user.message", {"content": "Hello?"}),
        record("gen_ai.choice", {"index": 0, "message": REPLY[0], "finish_reason": "stop"}),
    ]
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
    found = read_one(jsonl(tmp_path, old(0, {}), logs))
    assert said(found.steps) == [("user", "Hello?"), ("assistant", "Hi.")]


def test_spans_without_their_words_are_refused(tmp_path: Path) -> None:
    row = span(0, [], {})
    for key in ("gen_ai.input.messages", "gen_ai.output.messages"):
        del attributes(row)[key]
    found = refused(jsonl(tmp_path, row))
    assert (found.code, found.conversation_id) == ("missing_field", "c-1")
    assert "switch on the capture of content" in found.reason


def test_an_evaluation_is_the_outcome(tmp_path: Path) -> None:
    def result(name: str, more: Row) -> Row:
        told = {"gen_ai.evaluation.name": name} | {
            f"gen_ai.evaluation.score.{key}": value for key, value in more.items()
        }
        at = str((START + 60) * 10**9)
        return {"name": "gen_ai.evaluation.result", "timeUnixNano": at, "attributes": told}

    events = [result("sold", {"label": "won"}), result("csat", {"value": 0.5})]
    file = jsonl(tmp_path, span(0, [text("user", "a")], text("assistant", "b"), events=events))
    assert refused(file, ReaderOptions(outcome_map={"won": 1.0})).code == "two_outcomes"
    options = ReaderOptions(outcome_name="sold", outcome_map={"won": 1.0})
    found = read_one(file, options).outcome
    assert found is not None and (found.name, found.value) == ("sold", 1)
    assert found.observed_at == datetime(2026, 1, 5, 10, 1, tzinfo=UTC)
