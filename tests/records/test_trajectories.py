"""A dialogue that was written comes back the same, or the file says why it cannot."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from turnwise.conversation import Ending, Message, Outcome, ToolCall, Trajectory, Turn, Usage
from turnwise.errors import RecordError
from turnwise.records import Record, read_trajectories, to_jsonl, write_trajectories
from turnwise.records.trajectories import SCHEMA

T = TypeVar("T")

numbers = st.floats(-1e9, 1e9)
named = st.dictionaries(st.text(max_size=6), numbers, max_size=3)
optional_text = st.none() | st.text(max_size=8)


@st.composite
def turns(draw: st.DrawFn) -> tuple[Turn, ...]:
    out, edge = [], 0
    for _ in range(draw(st.integers(0, 3))):
        start = edge + draw(st.integers(0, 3))
        stop = start + draw(st.integers(0, 3))
        logp = draw(
            st.lists(st.floats(-50, 0, width=32), min_size=stop - start, max_size=stop - start)
        )
        edge = stop + draw(st.integers(0, 3))
        feedback = draw(st.sampled_from([(), ((stop, edge),)]))
        out.append(Turn(start, stop, tuple(logp), "stop", feedback, draw(named)))
    return tuple(out)


messages = st.builds(
    Message,
    role=st.sampled_from(["system", "user", "assistant", "tool"]),
    content=st.text(max_size=20),
    name=optional_text,
    tool_calls=st.lists(st.builds(ToolCall, st.text(), st.text(), st.text()), max_size=2).map(
        tuple
    ),
    tool_call_id=optional_text,
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    spans = draw(turns())
    length = (spans[-1].stop if spans else 0) + draw(st.integers(0, 3))
    trajectory = Trajectory(
        scenario_id=draw(st.text(max_size=8)),
        group_id=draw(st.text(max_size=8)),
        seed=draw(st.integers(-(2**63), 2**63 - 1)),
        conversation=tuple(draw(st.lists(messages, max_size=4))),
        token_ids=tuple(
            draw(st.lists(st.integers(0, 2**31 - 1), min_size=length, max_size=length))
        ),
        turns=spans,
        outcome=Outcome(draw(st.none() | st.floats(0, 1)), draw(named)),
        ending=draw(st.sampled_from(Ending)),
        policy_version=draw(st.integers(0, 9)),
        usage=Usage(draw(st.integers(0, 99)), draw(st.integers(0, 99)), draw(st.floats(0, 9))),
    )
    one_a_turn = of_turns(numbers, spans)
    return Record(
        trajectory,
        step=draw(st.integers(0, 99)),
        split=draw(st.sampled_from(["train", "start", "eval"])),
        credit=draw(st.dictionaries(st.text(max_size=6), one_a_turn, max_size=2)),
        advantage=draw(st.sampled_from([(), None])) or draw(one_a_turn),
        measures=draw(st.dictionaries(st.text(max_size=6), of_turns(st.none() | numbers, spans))),
        notes=draw(st.dictionaries(st.text(max_size=6), of_turns(st.text(max_size=6), spans))),
        group_measures=draw(named),
    )


def of_turns(
    entries: st.SearchStrategy[T], turns: tuple[Turn, ...]
) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(entries, min_size=len(turns), max_size=len(turns)).map(tuple)


def a_record(content: str = "hello", **changes: object) -> Record:
    trajectory = Trajectory(
        scenario_id="clarify-medium-1",
        group_id="g1",
        seed=5,
        conversation=(Message("user", content), Message("assistant", "which one?")),
        token_ids=(1, 2, 3),
        turns=(Turn(1, 3, (-0.5, -0.25), "stop"),),
        outcome=Outcome(0.5, {"success": 0.0}),
        ending=Ending.TURN_LIMIT,
    )
    return Record(trajectory, 10, "train", {"itpo": (0.25,)}, (1.5,))


def a_measured_record() -> Record:
    return replace(
        a_record(),
        measures={"infopo/gain": (None,), "value": (0.5,)},
        notes={"infopo/refusal": ("last turn",)},
        group_measures={"gate": 0.25},
    )


@given(written=st.lists(records(), max_size=3))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_writing_and_reading_is_the_identity(written: list[Record]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step_000001.parquet"
        write_trajectories(path, written)
        assert read_trajectories(path) == written


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_file_cut_in_the_middle_is_named(tmp_path: Path, share: float) -> None:
    path = tmp_path / "step_000010.parquet"
    write_trajectories(path, [a_record()] * 20)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(RecordError, match=r"step_000010\.parquet.*cut or damaged.*Delete it"):
        read_trajectories(path)


def test_a_changed_byte_of_the_text_is_found(tmp_path: Path) -> None:
    path = tmp_path / "step_000010.parquet"
    write_trajectories(path, [a_record("a long text that no other column holds")])
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(b"no other column")] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(RecordError, match="cut or damaged"):
        read_trajectories(path)


def test_another_schema_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "old.parquet"
    schema = SCHEMA.with_metadata({b"turnwise.schema_version": b"0"})
    pq.write_table(schema.empty_table(), path)
    with pytest.raises(RecordError, match=r"expected schema version 1 or 2 in .*old\.parquet.*'0'"):
        read_trajectories(path)


def test_a_file_of_the_first_version_is_read_without_measures(tmp_path: Path) -> None:
    path = tmp_path / "first.parquet"
    span = pa.struct([("start", pa.int32()), ("stop", pa.int32())])
    call = pa.struct([(name, pa.string()) for name in ("id", "name", "arguments")])
    message = pa.struct(
        [
            *((name, pa.string()) for name in ("role", "content", "name", "tool_call_id")),
            ("tool_calls", pa.list_(call)),
        ]
    )
    numbers = pa.map_(pa.string(), pa.float64())
    turn = pa.struct(
        [
            *(("start", pa.int32()), ("stop", pa.int32()), ("stop_reason", pa.string())),
            ("logp_behaviour", pa.list_(pa.float32())),
            ("feedback", pa.list_(span)),
            ("rewards", numbers),
        ]
    )
    usage = pa.struct(
        [("prompt_tokens", pa.int64()), ("completion_tokens", pa.int64()), ("wall_s", pa.float64())]
    )
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("scenario_id", "group_id", "split", "ending")),
            *((name, pa.int64()) for name in ("seed", "step", "policy_version")),
            ("conversation", pa.list_(message)),
            ("token_ids", pa.list_(pa.int32())),
            ("turns", pa.list_(turn)),
            ("score", pa.float64()),
            ("parts", numbers),
            ("usage", usage),
            ("credit", pa.map_(pa.string(), pa.list_(pa.float64()))),
            ("advantage", pa.list_(pa.float64())),
        ],
        metadata={b"turnwise.schema_version": b"1"},
    )
    said = [("user", "hello"), ("assistant", "which one?")]
    row = {
        **{"scenario_id": "clarify-medium-1", "group_id": "g1", "seed": 5, "step": 10},
        **{"split": "train", "policy_version": 0, "ending": "turn_limit"},
        "conversation": [{"role": r, "content": c, "tool_calls": []} for r, c in said],
        "token_ids": [1, 2, 3],
        "turns": [
            {"start": 1, "stop": 3, "logp_behaviour": [-0.5, -0.25], "stop_reason": "stop"}
            | {"feedback": [], "rewards": []}
        ],
        **{"score": 0.5, "parts": [("success", 0.0)]},
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "wall_s": 0.0},
        **{"credit": [("itpo", [0.25])], "advantage": [1.5]},
    }
    pq.write_table(pa.Table.from_pylist([row], schema=schema), path, write_page_checksum=True)
    assert read_trajectories(path) == [a_record()]
    assert (a_record().measures, a_record().notes, a_record().group_measures) == ({}, {}, {})


def test_a_foreign_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(RecordError, match="not of dialogues written by turnwise"):
        read_trajectories(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="found no file"):
        read_trajectories(tmp_path / "none.parquet")


def test_a_seed_that_does_not_fit_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    record = a_record()
    huge = Trajectory(**{**vars(record.trajectory), "seed": 2**70})
    with pytest.raises(RecordError, match="64"):
        write_trajectories(tmp_path / "a.parquet", [Record(huge, 1, "train")])
    assert list(tmp_path.iterdir()) == []


def test_text_that_is_no_unicode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"columns of a\.parquet"):
        write_trajectories(tmp_path / "a.parquet", [a_record("\ud800")])


def test_credit_has_one_number_a_turn() -> None:
    trajectory = a_record().trajectory
    with pytest.raises(RecordError, match=r"1 turns of clarify-medium-1.*'itpo': 2"):
        Record(trajectory, 1, "train", {"itpo": (0.1, 0.2), "oracle": (0.1,)})
    with pytest.raises(RecordError, match="'advantage': 2"):
        Record(trajectory, 1, "train", advantage=(0.1, 0.2))


def test_measures_and_notes_have_one_entry_a_turn() -> None:
    trajectory = a_record().trajectory
    with pytest.raises(RecordError, match=r"1 turns of clarify-medium-1.*'infopo/gain': 0"):
        Record(trajectory, 1, "train", measures={"infopo/gain": ()})
    with pytest.raises(RecordError, match="'infopo/refusal': 2"):
        Record(trajectory, 1, "train", notes={"infopo/refusal": ("", "last turn")})


def test_json_lines_hold_openai_messages(tmp_path: Path) -> None:
    to_jsonl(tmp_path / "a.jsonl", [a_record(), a_record("zwei\nZeilen")])
    first, second = (json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines())
    assert first["messages"][0] == {"role": "user", "content": "hello"}
    assert second["messages"][0]["content"] == "zwei\nZeilen"
    assert first["credit"] == {"itpo": [0.25]}
    assert first["ending"] == "turn_limit"


def test_json_lines_hold_what_was_measured(tmp_path: Path) -> None:
    to_jsonl(tmp_path / "a.jsonl", [a_measured_record()])
    row = json.loads((tmp_path / "a.jsonl").read_text())
    assert row["measures"] == {"infopo/gain": [None], "value": [0.5]}
    assert row["notes"] == {"infopo/refusal": ["last turn"]}
    assert row["group_measures"] == {"gate": 0.25}
