"""Exports of Langfuse: a session over many traces, a named score as its outcome."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.logs.readers.reading import assistant, jsonl, read, read_one, refused, said, user
from turnwise.conversation import LoggedOutcome, PolicyFacts
from turnwise.logs.options import ReaderOptions

Row = dict[str, object]
TALK = [
    ("user", "Hello?"),
    ("assistant", "Hi."),
    ("user", "How much?"),
    ("assistant", "Ten."),
]


def observation(trace: str, session: str | None, second: int, given: object, said: object) -> Row:
    return {
        "id": f"o-{trace}-{second}",
        "trace_id": trace,
        "session_id": session,
        "user_id": "u-3",
        "type": "GENERATION",
        "start_time": f"2026-01-05 10:02:{second:02}.000000",
        "end_time": f"2026-01-05 10:02:{second:02}.500000",
        "level": "DEFAULT",
        "input": json.dumps(given),
        "output": json.dumps(said),
        "provided_model_name": "m-1",
        "model_parameters": '{"temperature": "0.7", "max_tokens": 64}',
        "metadata": "{}",
    }


def score(name: str, value: object, **more: object) -> Row:
    return {
        "id": f"s-{name}",
        "trace_id": "t2",
        "session_id": "",
        "observation_id": "",
        "name": name,
        "value": value,
        "string_value": "",
        "data_type": "NUMERIC",
        "source": "ANNOTATION",
        "timestamp": "2026-01-05 11:00:00.000000",
        **more,
    }


def observations() -> list[Row]:
    history = [user("Hello?"), assistant("Hi."), user("How much?")]
    return [
        observation("t2", "s-1", 30, history, assistant("Ten.")),
        observation("t1", "s-1", 10, [user("Hello?")], assistant("Hi.")),
        {**observation("t1", "s-1", 9, "x", "y"), "type": "SPAN"},
        {**observation("t1", "s-1", 8, "x", "y"), "output": None, "level": "ERROR"},
    ]


def export(folder: Path, scores: list[Row]) -> Path:
    jsonl(folder, *observations(), name="observations_v2/2026-01-05.jsonl")
    jsonl(folder, *scores, name="scores/2026-01-05.jsonl")
    return folder


def test_a_session_over_many_traces_is_one_chat(tmp_path: Path) -> None:
    found = read_one(export(tmp_path, [score("sold", 1)]))
    assert (found.conversation_id, found.customer_key) == ("s-1", "u-3")
    assert said(found.steps) == TALK
    assert found.steps[1].ts == datetime(2026, 1, 5, 10, 2, 10, tzinfo=UTC)
    assert found.steps[1].policy == PolicyFacts("m-1", temperature=0.7, max_tokens=64)
    at = datetime(2026, 1, 5, 11, tzinfo=UTC)
    assert found.outcome == LoggedOutcome("sold", 1.0, at, source="human")


def test_times_mean_utc_whatever_the_zone_of_other_files(tmp_path: Path) -> None:
    found = read_one(export(tmp_path, []), ReaderOptions(timezone="Asia/Tokyo"))
    assert found.steps[1].ts == datetime(2026, 1, 5, 10, 2, 10, tzinfo=UTC)


def test_the_outcome_is_a_named_score(tmp_path: Path) -> None:
    words = score("stage", None, string_value="won", data_type="CATEGORICAL")
    folder = export(tmp_path, [score("csat", 0.25), words])
    assert refused(folder, ReaderOptions(outcome_map={"won": 1.0})).code == "two_outcomes"
    options = ReaderOptions(outcome_name="stage", outcome_map={"won": 1.0})
    found = read_one(folder, options).outcome
    assert found is not None and (found.name, found.value) == ("stage", 1)


def test_scores_without_their_session_are_orphans(tmp_path: Path) -> None:
    found = refused(jsonl(tmp_path, score("sold", 1, session_id="c_9")))
    assert (found.code, found.conversation_id) == ("orphan_outcome", "c_9")
    assert found.reason.startswith('expected a conversation for outcome "c_9", found none')


def test_a_trace_without_a_session_is_a_chat(tmp_path: Path) -> None:
    rows = [observation(trace, None, 1, "Hello?", "Hi.") for trace in ("t1", "t2")]
    assert [one.conversation_id for one in read(jsonl(tmp_path, *rows))] == ["t1", "t2"]


def test_the_older_tables_are_joined_by_their_trace(tmp_path: Path) -> None:
    old = [
        {key: value for key, value in row.items() if key != "session_id"} for row in observations()
    ]
    traces = [
        {"id": trace, "timestamp": "2026-01-05 10:00:00.000000", "session_id": "s-1", "input": "x"}
        for trace in ("t1", "t2")
    ]
    jsonl(tmp_path, *old, name="observations/a.jsonl")
    jsonl(tmp_path, *traces, name="traces/a.jsonl")
    jsonl(tmp_path, score("sold", 0), name="scores/a.jsonl")
    found = read_one(tmp_path)
    assert found.conversation_id == "s-1" and said(found.steps) == TALK
    assert found.outcome is not None and found.outcome.value == 0


def test_traces_without_generations_are_turns(tmp_path: Path) -> None:
    rows = [
        {
            "id": f"t{n}",
            "timestamp": f"2026-01-05 10:0{n}:00.000000",
            "session_id": "s-1",
            "input": given,
            "output": out,
        }
        for n, (given, out) in enumerate([("Hello?", "Hi."), ("How much?", "Ten.")])
    ]
    found = read_one(jsonl(tmp_path, *rows[::-1]))
    assert said(found.steps) == TALK
    assert [step.context for step in found.steps] == [None] * 4


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_csv_and_json_hold_the_same(tmp_path: Path, kind: str) -> None:
    rows = observations()
    for row in rows:
        row["output"] = row["output"] or ""
    file = tmp_path / f"observations.{kind}"
    with file.open("w", newline="") as out:
        if kind == "json":
            json.dump(rows, out)
        else:
            table = csv.DictWriter(out, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    if kind == "json":
        file.write_text(file.read_text().replace('"output": ""', '"output": null'))
    assert said(read_one(file).steps) == TALK


def test_a_downloaded_trace_holds_its_tables_in_the_interface_s_names(tmp_path: Path) -> None:
    trace: Row = {
        "id": "t1",
        "timestamp": "2026-01-05T10:00:00.000Z",
        "sessionId": "s-1",
        "observations": [
            {
                "id": "o",
                "traceId": "t1",
                "type": "GENERATION",
                "startTime": "2026-01-05T10:00:01.000Z",
                "input": [user("Hello?")],
                "output": assistant("Hi."),
                "model": "m-1",
                "modelParameters": {"temperature": 1},
            }
        ],
        "scores": [{"traceId": "t1", "name": "sold", "value": 1, "dataType": "NUMERIC"}],
    }
    tables = {name: trace[name] for name in ("observations", "scores")}
    alone = {name: value for name, value in trace.items() if name not in tables}
    inside = {name: value for name, value in trace.items() if name != "sessionId"}
    for value in (trace, {"trace": alone, **tables}, {"id": "s-1", "traces": [inside]}):
        (tmp_path / "a.json").write_text(json.dumps(value, indent=2))
        found = read_one(tmp_path / "a.json")
        assert found.conversation_id == "s-1" and said(found.steps) == TALK[:2]
        assert found.outcome is not None and found.outcome.value == 1


def test_generations_without_their_words_are_refused(tmp_path: Path) -> None:
    row = {**observation("t", "s", 1, "", ""), "input": None, "output": None}
    found = refused(jsonl(tmp_path, row))
    assert found.code == "missing_field" and "capture of content" in found.reason
