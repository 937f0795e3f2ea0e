"""Parquet and CSV: a conversation or a message a row."""

from datetime import datetime
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
from turnwise.conversation import LoggedConversation
from turnwise.logs.options import ReaderOptions
from turnwise.logs.readers import read_records
from turnwise.logs.refusal import Refusal

TALK = [user("Hello?"), assistant("Good day.")]


def parquet(file: Path, columns: dict[str, list[object]], schema: pa.Schema | None = None) -> Path:
    pq.write_table(pa.table(columns, schema=schema), file)
    return file


def test_a_column_of_structs_is_a_conversation_a_row(tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {
        "id": [81, 82],
        "messages": [TALK, TALK],
        "score": [1.0, None],
    }
    first, second = read(parquet(tmp_path / "a.parquet", columns))
    assert said(first.steps) == [("user", "Hello?"), ("assistant", "Good day.")]
    assert (first.conversation_id, second.conversation_id) == ("81", "82")
    assert first.outcome is not None and second.outcome is None
    assert second.origin is not None and second.origin.line == 2


def test_ids_kept_as_floats_are_refused(tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {"id": [1.2345678901234567e18], "messages": [TALK]}
    assert refused(parquet(tmp_path / "a.parquet", columns)).code == "id_not_exact"
    (tmp_path / "a.csv").write_text("conversation_id,index,role,content\n1.2346E+18,0,gpt,a\n")
    assert refused(tmp_path / "a.csv").code == "id_not_exact"


def test_times_of_parquet_need_a_zone_and_may_have_nanoseconds(tmp_path: Path) -> None:
    for zone, code in (("UTC", None), (None, "time_without_zone")):
        kind = pa.struct(
            [("role", pa.string()), ("content", pa.string()), ("ts", pa.timestamp("ns", zone))]
        )
        told = [{**assistant("a"), "ts": 1_767_225_600_000_000_001}]
        table = pa.table({"messages": pa.array([told], pa.list_(kind))})
        pq.write_table(table, tmp_path / "a.parquet")
        (found,) = read_records(tmp_path / "a.parquet", DEFAULT)
        assert (found.code if isinstance(found, Refusal) else None) == code
    options = ReaderOptions(timezone="Asia/Tokyo")
    ts = read_one(tmp_path / "a.parquet", options).steps[0].ts
    assert ts is not None and ts.isoformat() == "2025-12-31T15:00:00+00:00"


def test_a_cut_parquet_file_costs_one_row(tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {"messages": [TALK] * 9}
    whole = parquet(tmp_path / "a.parquet", columns).read_bytes()
    for bad in (whole[:-9], whole[:4], b"nothing", b""):
        (tmp_path / "a.parquet").write_bytes(bad)
        found = refused(tmp_path / "a.parquet")
        assert (found.code, found.line) == ("unreadable_file", None)
        assert found.reason.startswith("expected a complete Parquet file, found no footer")
        assert found.reason.endswith("the file is cut; export it again")


def test_a_damaged_page_ends_the_file_with_a_refusal(tmp_path: Path) -> None:
    table = pa.table({"messages": [[user(f"{n}" * 50), assistant("b")] for n in range(5_000)]})
    pq.write_table(table, tmp_path / "a.parquet", write_page_checksum=True, row_group_size=1_000)
    whole = bytearray((tmp_path / "a.parquet").read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    (tmp_path / "a.parquet").write_bytes(whole)
    *good, last = read_records(tmp_path / "a.parquet", DEFAULT)
    assert isinstance(last, Refusal) and last.code == "unreadable_file"
    assert len(good) > 500 and all(isinstance(one, LoggedConversation) for one in good)


LONG = "conversation_id,index,role,content,outcome,customer_id\n"


def test_messages_of_a_long_table_are_gathered_and_put_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        LONG + "b,1,gpt,two,1,7\na,0,human,uno,,8\nb,0,human,one,1,7\na,1,gpt,due,,8\n"
    )
    first, second = read(tmp_path / "a.csv")
    assert said(first.steps) == [("user", "uno"), ("assistant", "due")]
    assert said(second.steps) == [("user", "one"), ("assistant", "two")]
    assert first.outcome is None and second.outcome is not None
    assert (first.customer_key, second.customer_key) == ("8", "7")
    assert first.origin is not None and first.origin.line == 3


def test_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("chat;n;who;said\n1;0;human;one\n1;1;gpt;two\n")
    columns = {"conversation_id": "chat", "index": "n", "role": "who", "content": "said"}
    found = read_one(tmp_path / "a.csv", ReaderOptions(columns=columns))
    assert said(found.steps) == [("user", "one"), ("assistant", "two")]
    assert found.conversation_id == "1"


@pytest.mark.parametrize(
    ("header", "missing"),
    [("a,b,role,content", "conversation_id"), ("chat_id,role,content", "index")],
)
def test_a_missing_column_is_named(tmp_path: Path, header: str, missing: str) -> None:
    (tmp_path / "a.csv").write_text(header + "\n" + ",".join("x" for _ in header.split(",")) + "\n")
    found = refused(tmp_path / "a.csv")
    assert (found.code, found.field, found.line) == ("missing_column", missing, None)
    assert found.reason == (
        f"expected a column for {missing}, found the columns [{', '.join(header.split(','))}]; "
        f"map it with --map {missing}=COLUMN"
    )


def test_a_mapped_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(LONG + "a,0,gpt,b,,\n")
    found = refused(tmp_path / "a.csv", ReaderOptions(columns={"tenant": "shop"}))
    assert (found.code, found.field) == ("missing_column", "shop")


def test_without_an_index_messages_may_be_sorted_by_time(tmp_path: Path) -> None:
    file = jsonl(
        tmp_path,
        {"conversation_id": "a", "ts": "2026-01-01T09:00Z", **assistant("two")},
        {"conversation_id": "a", "ts": "2026-01-01T08:00Z", **user("one")},
    )
    assert refused(file).code == "missing_column"
    found = read_one(file, ReaderOptions(sort_by_time=True))
    assert said(found.steps) == [("user", "one"), ("assistant", "two")]
    assert found.steps[0].ts is not None and found.steps[0].ts == datetime.fromisoformat(
        "2026-01-01T08:00Z"
    )


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("a,0,gpt,b,,\na,0,gpt,c,,\n", "index 0 twice"),
        ("a,0,gpt,b,,\na,2,gpt,c,,\n", "index 2 after 0"),
    ],
)
def test_messages_that_are_twice_there_or_missing_cost_their_conversation(
    tmp_path: Path, rows: str, words: str
) -> None:
    (tmp_path / "a.csv").write_text(LONG + rows)
    found = refused(tmp_path / "a.csv")
    assert (found.code, found.conversation_id) == ("turns_out_of_order", "a")
    assert words in found.reason


def test_an_empty_cell_of_words_is_an_empty_turn(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(LONG + "a,0,gpt,,,\n")
    assert refused(tmp_path / "a.csv").code == "empty_turn"


def test_rows_of_one_conversation_must_agree_on_its_outcome(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(LONG + "a,0,gpt,b,1,\na,1,gpt,c,0,\n")
    assert refused(tmp_path / "a.csv").code == "two_outcomes"


def test_a_message_without_an_id_costs_itself(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(LONG + "a,0,gpt,b,,\n,0,gpt,lost,,\n")
    found, good = read_records(tmp_path / "a.csv", DEFAULT)
    assert isinstance(good, LoggedConversation)
    assert isinstance(found, Refusal) and (found.code, found.line) == ("missing_field", 3)


def test_tabs_and_semicolons_divide_cells_too(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("conversation_id\tindex\trole\tcontent\na\t0\tgpt\tb, c; d\n")
    assert said(read_one(tmp_path / "a.tsv").steps) == [("assistant", "b, c; d")]


def test_a_folder_is_one_export(tmp_path: Path) -> None:
    for name, row in (
        ("1.csv", "a,1,gpt,two,,"),
        ("2.csv", "a,0,human,one,,"),
        ("3.csv", "a,x,,,"),
    ):
        (tmp_path / name).write_text(LONG + row + "\n")
    bad, good = read_records(tmp_path, DEFAULT)
    assert isinstance(bad, Refusal) and bad.file == (tmp_path / "3.csv").as_posix()
    assert isinstance(good, LoggedConversation)
    assert said(good.steps) == [("user", "one"), ("assistant", "two")]
