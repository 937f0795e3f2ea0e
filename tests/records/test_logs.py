"""A logged conversation that was written comes back equal, a row group at a time."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from turnwise.conversation import (
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
from turnwise.errors import RecordError
from turnwise.records import (
    LogWriter,
    logged_to_json,
    read_logged,
    write_logged,
    write_logged_jsonl,
)

text = st.text(max_size=12)
optional_text = st.none() | text
numbers = st.floats(-1e12, 1e12)
optional_number = st.none() | numbers
times = st.none() | st.datetimes(
    datetime(1970, 1, 2),
    datetime(2200, 1, 1),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
)
named = st.dictionaries(text, numbers, max_size=2)
roles = st.sampled_from(["system", "user", "assistant", "tool"])
calls = st.lists(st.builds(ToolCall, text, text, text), max_size=2).map(tuple)
messages = st.builds(Message, roles, text, optional_text, calls, optional_text)
policies = st.builds(
    PolicyFacts,
    *(text, optional_text, optional_text, optional_number, optional_number),
    st.none() | st.integers(0, 2**40),
    optional_text,
)
steps = st.builds(
    Step,
    role=roles,
    content=st.text(max_size=30),
    ts=times,
    name=optional_text,
    tool_calls=calls,
    tool_call_id=optional_text,
    author=st.sampled_from([None, "model", "human"]),
    disposition=st.sampled_from([None, "verbatim", "edited", "rejected", "abstained"]),
    proposed=optional_text,
    reward=numbers,
    violations=named,
    context=st.none() | st.lists(messages, max_size=2).map(tuple),
    policy=st.none() | policies,
    explore=st.none() | st.builds(Exploration, st.booleans(), optional_text, optional_number),
    logp_sum=optional_number,
    token_ids=st.none() | st.lists(st.integers(0, 2**31 - 1), max_size=3).map(tuple),
    token_logp=st.none() | st.lists(st.floats(-50, 0, width=32), max_size=3).map(tuple),
    is_scored=st.booleans(),
)
outcomes = st.builds(
    LoggedOutcome,
    *(text, numbers, times, optional_number),
    st.sampled_from([None, "crm", "classifier", "human", "task"]),
    optional_number,
)
conversations = st.builds(
    LoggedConversation,
    text,
    st.lists(steps, max_size=4).map(tuple),
    st.sampled_from(EndReason),
    st.none() | outcomes,
    *(optional_text, optional_text, optional_text, times, times, named),
    st.builds(Consent, st.none() | st.booleans(), optional_text, times),
    st.none() | st.builds(Redaction, text, text, optional_text),
    st.none() | st.builds(Origin, text, st.integers(0, 2**40), text),
)

Write = Callable[[Path, Iterable[LoggedConversation]], None]
FORMS = [("a.parquet", write_logged), ("a.jsonl", write_logged_jsonl)]


def small(number: int) -> LoggedConversation:
    reply = Step("assistant", f"reply {number}", author="model")
    return LoggedConversation(f"c{number}", (Step("user", "hello"), reply), EndReason.CENSORED)


@pytest.mark.parametrize(("name", "write"), FORMS)
@given(written=st.lists(conversations, max_size=5))
@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
def test_write_then_read_is_the_identity(
    tmp_path: Path, name: str, write: Write, written: list[LoggedConversation]
) -> None:
    write(tmp_path / name, written)
    assert list(read_logged(tmp_path / name)) == written


def test_row_groups_are_bounded_by_rows_and_by_text(tmp_path: Path) -> None:
    write_logged(tmp_path / "many.parquet", map(small, range(2500)))
    with pq.ParquetFile(tmp_path / "many.parquet") as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert sizes == [1000, 1000, 500]
    long = replace(small(0), steps=(Step("user", "x" * 2**24),))
    write_logged(tmp_path / "long.parquet", [long] * 5)  # 16 Mi characters each, 32 Mi a group
    with pq.ParquetFile(tmp_path / "long.parquet") as file:
        assert file.num_row_groups == 3


def test_reading_is_lazy_and_goes_through_folders_in_order(tmp_path: Path) -> None:
    write_logged(tmp_path / "part-00000.parquet", map(small, range(3)))
    write_logged(tmp_path / "part-00001.parquet", map(small, range(3, 5)))
    assert [one.conversation_id for one in read_logged(tmp_path)] == [f"c{i}" for i in range(5)]
    (tmp_path / "part-00001.parquet").write_bytes(b"PAR1 cut")
    stream = read_logged(tmp_path)
    assert [next(stream).conversation_id for _ in range(3)] == ["c0", "c1", "c2"]
    with pytest.raises(RecordError, match="part-00001.parquet is not a whole Parquet file"):
        next(stream)


def test_a_file_of_another_version_or_kind_is_refused(tmp_path: Path) -> None:
    table = pa.table({"conversation_id": ["c"]})
    pq.write_table(table, tmp_path / "foreign.parquet")
    with pytest.raises(RecordError, match=r"'turnwise\.log/1' in .*foreign.*found None"):
        list(read_logged(tmp_path / "foreign.parquet"))
    later = table.replace_schema_metadata({"turnwise.log_schema": "turnwise.log/9"})
    pq.write_table(later, tmp_path / "later.parquet")
    with pytest.raises(RecordError, match="found 'turnwise.log/9'"):
        list(read_logged(tmp_path / "later.parquet"))
    line = logged_to_json(small(0)).replace("turnwise.log/1", "turnwise.log/9")
    (tmp_path / "later.jsonl").write_text(line)
    with pytest.raises(RecordError, match="found 'turnwise.log/9'"):
        list(read_logged(tmp_path / "later.jsonl"))


def test_a_line_that_is_no_conversation_is_named(tmp_path: Path) -> None:
    row = json.loads(logged_to_json(small(0)))
    del row["steps"]
    lines = [logged_to_json(small(1)), json.dumps(row)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(RecordError, match=r"a\.jsonl:2: expected .*found KeyError\('steps'\)"):
        list(read_logged(tmp_path / "a.jsonl"))


def test_steps_come_in_the_order_of_their_index(tmp_path: Path) -> None:
    row = json.loads(logged_to_json(small(0)))
    row["steps"].reverse()
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert list(read_logged(tmp_path / "a.jsonl")) == [small(0)]


@pytest.mark.parametrize("path", ["missing.parquet", "empty"])
def test_where_there_are_no_logs_the_error_says_how_to_make_them(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordError, match="turnwise logs import"):
        list(read_logged(tmp_path / path))


def test_what_the_columns_cannot_hold_leaves_no_file(tmp_path: Path) -> None:
    no_unicode = replace(small(0), steps=(Step("user", "\ud800"),))
    with pytest.raises(RecordError, match="text must be Unicode"):
        write_logged(tmp_path / "a.parquet", [no_unicode])
    not_finite = replace(small(0), steps=(Step("assistant", "", reward=float("nan")),))
    with pytest.raises(RecordError, match="finite numbers in conversation 'c0'"):
        write_logged_jsonl(tmp_path / "a.jsonl", [not_finite])
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_fails_half_way_says_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), LogWriter(tmp_path / "a.parquet") as file:
        file.write(replace(small(0), steps=(Step("user", "\ud800"),)))
        raise KeyboardInterrupt
