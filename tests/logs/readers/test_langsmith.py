"""Runs of LangSmith: chats by their metadata, steps by their runs, feedback as the outcome."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.logs.readers.reading import (
    DEFAULT,
    assistant,
    jsonl,
    read,
    read_one,
    refused,
    said,
    user,
)
from turnwise.conversation import EndReason, LoggedConversation, PolicyFacts
from turnwise.logs.options import ReaderOptions
from turnwise.logs.readers import read_records
from turnwise.logs.refusal import Refusal

Row = dict[str, object]


def run(
    trace: str,
    second: int,
    inputs: object,
    outputs: object,
    *,
    thread: str | None = None,
    **more: object,
) -> Row:
    """A model's run inside of a trace; the root run alone knows the chat."""
    at = f"2026-01-05T10:00:{second:02}.000000"
    order = f"20260105T1000{second:02}000000Z"
    return {
        "id": f"{trace}-{second}",
        "trace_id": trace,
        "run_type": "llm",
        "start_time": at + "Z",
        "end_time": at.replace(".0", ".9") + "Z",
        "session_id": "the project",
        "dotted_order": f"20260105T100000000000Z{trace}.{order}{trace}-{second}",
        "inputs": inputs,
        "outputs": outputs,
        "extra": {
            "metadata": {"ls_model_name": "m-1"} | ({"thread_id": thread} if thread else {}),
            "invocation_params": {"temperature": 0.7, "max_tokens": 64},
        },
        **more,
    }


def root(trace: str, thread: str | None, second: int = 0, **more: object) -> Row:
    return run(trace, second, {}, {}, thread=thread, run_type="chain", **more)


def choices(content: str) -> Row:
    return {"choices": [{"message": assistant(content), "finish_reason": "stop"}]}


def chat() -> list[Row]:
    first = {"messages": [user("Hello?")]}
    second = {"messages": [user("Hello?"), assistant("Hi."), user("How much?")]}
    return [
        run("t2", 9, second, choices("Ten.")),
        root("t2", "chat-7", 8, feedback_stats={"sold": {"n": 1, "avg": 1.0}}),
        root("t1", "chat-7", 0, feedback_stats={"sold": {"n": 2, "avg": 1.0, "stdev": 0.0}}),
        run("t1", 2, first, choices("Hi.")),
        run("t1", 3, {}, None, run_type="tool"),
        run("t1", 1, first, None, status="error", error="timeout"),
    ]


def test_runs_of_a_chat_become_its_steps_in_dotted_order(tmp_path: Path) -> None:
    found = read_one(jsonl(tmp_path, *chat()))
    assert found.conversation_id == "chat-7"
    assert said(found.steps) == [
        ("user", "Hello?"),
        ("assistant", "Hi."),
        ("user", "How much?"),
        ("assistant", "Ten."),
    ]
    step = found.steps[1]
    assert step.policy == PolicyFacts("m-1", temperature=0.7, max_tokens=64, finish="stop")
    assert step.ts is not None and step.ts.second == 2
    assert found.outcome is not None and (found.outcome.name, found.outcome.value) == ("sold", 1)
    assert found.end_reason is EndReason.OUTCOME


def test_a_bulk_export_in_parquet_holds_the_same(tmp_path: Path) -> None:
    names = ("inputs", "outputs", "extra", "feedback_stats")
    rows = [
        {
            **row,
            **{
                name: json.dumps(row[name]) if row.get(name) is not None else None for name in names
            },
        }
        for row in chat()
    ]
    columns = sorted({name for row in rows for name in row})
    table = pa.Table.from_pylist([{name: row.get(name) for name in columns} for row in rows])
    for part in (0, 1):
        file = tmp_path / "runs" / f"day={part}" / "a.parquet"
        file.parent.mkdir(parents=True)
        pq.write_table(table.slice(part * 3, 3), file)
    found = read_one(tmp_path / "runs")
    expected = read_one(jsonl(tmp_path, *chat()))
    assert (found.steps, found.outcome) == (expected.steps, expected.outcome)


@pytest.mark.parametrize("key", ["thread_id", "session_id", "conversation_id"])
def test_the_chat_has_three_names_and_the_project_is_none(tmp_path: Path, key: str) -> None:
    row = run("t", 1, "Hello?", "Hi.") | {"extra": {"metadata": {key: "c"}}}
    other = run("u", 1, "Hello?", "Hi.")
    assert [one.conversation_id for one in read(jsonl(tmp_path, row, other))] == ["c", "u"]


def test_messages_of_langchain_and_their_calls_are_read(tmp_path: Path) -> None:
    call = {"name": "stock", "args": {"item": "lamp"}, "id": "t1", "type": "tool_call"}
    asked = {
        "id": ["langchain", "schema", "messages", "AIMessage"],
        "kwargs": {"content": "", "tool_calls": [call], "type": "ai"},
    }
    question = {"id": ["x", "HumanMessage"], "kwargs": {"content": "Lamps?", "type": "human"}}
    result = {"id": ["x", "ToolMessage"], "kwargs": {"content": "3", "tool_call_id": "t1"}}
    rows = [
        run("t", 1, {"messages": [[question]]}, {"generations": [[{"message": asked}]]}),
        run(
            "t",
            2,
            {"messages": [[question, asked, result]]},
            {"generations": [[{"text": "Three."}]]},
        ),
    ]
    found = read_one(jsonl(tmp_path, *rows))
    assert said(found.steps) == [
        ("user", "Lamps?"),
        ("assistant", ""),
        ("tool", "3"),
        ("assistant", "Three."),
    ]
    assert found.steps[1].tool_calls[0].arguments == '{"item": "lamp"}'
    assert [step.context for step in found.decisions] == [None, None]


@pytest.mark.parametrize(
    ("stats", "code"),
    [
        ({"sold": {"n": 2, "avg": 0.5, "stdev": 0.5}}, "two_outcomes"),
        ({"sold": {"n": 1, "avg": 1}, "liked": {"n": 1, "avg": 0}}, "two_outcomes"),
        ({"sold": {"n": 2, "values": {"won": 1, "lost": 1}}}, "two_outcomes"),
        ({"sold": {"n": 1, "avg": 4}}, "bad_outcome"),
    ],
)
def test_feedback_that_is_no_one_outcome_is_refused(
    tmp_path: Path, stats: object, code: str
) -> None:
    assert refused(jsonl(tmp_path, run("t", 1, "a", "b", feedback_stats=stats))).code == code


def test_the_wanted_feedback_is_chosen_and_words_are_mapped(tmp_path: Path) -> None:
    stats = {"sold": {"n": 1, "values": {"won": 1}}, "liked": {"n": 1, "avg": 0}}
    file = jsonl(tmp_path, run("t", 1, "a", "b", feedback_stats=stats))
    options = ReaderOptions(outcome_name="sold", outcome_map={"won": 1.0})
    found = read_one(file, options).outcome
    assert found is not None and (found.name, found.value) == ("sold", 1)


def test_runs_without_their_words_are_refused(tmp_path: Path) -> None:
    found = refused(jsonl(tmp_path, run("t", 1, None, None)))
    assert found.code == "missing_field" and "capture of content" in found.reason
    assert refused(jsonl(tmp_path, root("t", "c"))).code == "no_decision_step"


def test_one_broken_run_costs_its_line_and_shows_in_the_next_prompt(tmp_path: Path) -> None:
    file = jsonl(tmp_path, *chat())
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:3], lines[3][:-5], *lines[4:]]))
    bad, good = read_records(file, DEFAULT)
    assert isinstance(bad, Refusal) and (bad.code, bad.line) == ("broken_json", 4)
    assert isinstance(good, LoggedConversation)
    assert said(good.steps)[1] == ("assistant", "Hi.") and not good.steps[1].is_scored
