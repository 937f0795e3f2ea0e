"""Outcomes kept elsewhere reach their conversation, or say why they cannot."""

import gzip
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.logs.lines import Row, chat, read_lines, write_lines
from turnwise.conversation import EndReason, LoggedConversation
from turnwise.errors import ConfigError, LogsError
from turnwise.logs import ImportOptions, OutcomeTable, ReaderOptions, check, import_logs
from turnwise.logs.outcome_tables import place_of
from turnwise.records import read_logged


def joined(
    folder: Path, rows: list[Row], table: OutcomeTable, reader: ReaderOptions | None = None
) -> tuple[dict[str, LoggedConversation], list[Row]]:
    """Conversations by id, and the quarantine."""
    file = write_lines(folder / "chat.jsonl", rows)
    options = ImportOptions(reader=reader or ReaderOptions(), outcomes=table)
    import_logs([file], folder / "out", options)
    found = {one.conversation_id: one for one in read_logged(folder / "out")}
    return found, read_lines(folder / "out" / "quarantine.jsonl")


def csv(folder: Path, text: str) -> OutcomeTable:
    (folder / "deals.csv").write_text(text)
    return OutcomeTable(str(folder / "deals.csv"))


def test_an_outcome_reaches_its_conversation_with_all_that_is_known(tmp_path: Path) -> None:
    table = csv(
        tmp_path,
        "conversation_id,value,observed_at,window_h,source,confidence\n"
        "c0,1,2026-01-05T10:00:00Z,48,crm,0.9\n",
    )
    found, quarantine = joined(tmp_path, [chat(0), chat(1)], table)
    outcome = found["c0"].outcome
    assert outcome is not None and quarantine == []
    assert (outcome.name, outcome.value, outcome.window_h) == ("value", 1.0, 48.0)
    assert (outcome.source, outcome.confidence) == ("crm", 0.9)
    assert outcome.observed_at == datetime(2026, 1, 5, 10, tzinfo=UTC)
    assert found["c0"].end_reason is EndReason.OUTCOME
    assert found["c1"].outcome is None and found["c1"].end_reason is EndReason.CENSORED


def as_parquet(path: Path) -> None:
    ids, values = pa.array([81], pa.int64()), pa.array([Decimal("0.50")])
    pq.write_table(pa.table({"deal": ids, "won": values}), path)


def as_lines(path: Path) -> None:
    path.write_text('{"deal": 81, "won": 0.5}\n')


def as_gzipped_csv(path: Path) -> None:
    path.write_bytes(gzip.compress(b"deal;won\n81;0.5\n"))


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.parquet", as_parquet), ("a.jsonl", as_lines), ("a.csv.gz", as_gzipped_csv)],
)
def test_tables_of_every_kind_are_joined_by_any_column(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / name)
    table = OutcomeTable(str(tmp_path / name), on="deal", columns={"outcome": "won"})
    found, _ = joined(tmp_path, [{**chat(0), "id": 81}], table)
    outcome = found["81"].outcome
    assert outcome is not None and (outcome.name, outcome.value) == ("won", 0.5)


def test_equal_outcomes_count_once_and_unequal_ones_cost_the_conversation(tmp_path: Path) -> None:
    table = csv(tmp_path, "conversation_id,outcome\nc0,1\nc0,1.0\nc1,1\nc1,0\nc1,1\n")
    found, (row,) = joined(tmp_path, [chat(0, outcome=1), chat(1)], table)
    assert list(found) == ["c0"]
    assert (row["code"], row["conversation_id"], row["line"]) == ("two_outcomes", "c1", 2)
    place = f"(lines 4, 5 of {tmp_path / 'deals.csv'})"
    assert (
        row["reason"] == f"expected one outcome per conversation, found 1 and 0 {place}; keep one"
    )


def test_an_outcome_unlike_the_conversations_own_is_a_second_one(tmp_path: Path) -> None:
    table = csv(tmp_path, "conversation_id,outcome\nc0,0\n")
    _, (row,) = joined(tmp_path, [chat(0, outcome=1)], table)
    assert row["code"] == "two_outcomes"
    assert "1 (the conversation) and 0 (" in str(row["found"]) and ":2)" in str(row["found"])


def test_an_outcome_without_a_conversation_is_quarantined(tmp_path: Path) -> None:
    table = csv(tmp_path, "conversation_id,outcome\nc0,0\nc_9,1\nc_8,\n")
    _, (row,) = joined(tmp_path, [chat(0)], table)
    assert (row["code"], row["file"], row["line"]) == (
        "orphan_outcome",
        str(tmp_path / "deals.csv"),
        3,
    )
    assert 'a conversation for outcome "c_9", found none' in str(row["reason"])


def test_a_conversation_that_is_refused_leaves_no_orphan(tmp_path: Path) -> None:
    table = csv(tmp_path, "conversation_id,outcome\nc0,0\nc1,1\nc2,1\n")
    rows: list[Row] = [chat(0, consent={"training": False}), {"id": "c1", "messages": []}, chat(2)]
    _, quarantine = joined(tmp_path, rows, table)
    assert [row["code"] for row in quarantine] == ["consent_refused", "no_decision_step"]


def test_a_refused_conversation_with_a_mapped_id_leaves_no_orphan(tmp_path: Path) -> None:
    table = csv(tmp_path, "conversation_id,outcome\nc0,1\n")
    reader = ReaderOptions(columns={"conversation_id": "ticket"})
    rows: list[Row] = [{"ticket": "c0", "messages": []}]
    _, quarantine = joined(tmp_path, rows, table, reader)
    assert [row["code"] for row in quarantine] == ["no_decision_step"]


def test_words_are_mapped_and_what_is_no_outcome_costs_its_conversation(tmp_path: Path) -> None:
    table = csv(tmp_path, "conversation_id,outcome\nc0,won\nc1,perhaps\nc2,7\n")
    reader = ReaderOptions(outcome_map={"won": 1.0})
    found, quarantine = joined(tmp_path, [chat(0), chat(1), chat(2)], table, reader)
    assert [one.outcome.value for one in found.values() if one.outcome] == [1.0]
    assert [(row["code"], row["conversation_id"]) for row in quarantine] == [
        ("bad_outcome", "c1"),
        ("bad_outcome", "c2"),
    ]
    assert f"({tmp_path / 'deals.csv'}:3)" in str(quarantine[0]["reason"])


def timed(number: int) -> Row:
    row = chat(number)
    said = [("user", "hi", 0), ("assistant", "hello", 1), ("user", "bought", 2)]
    said.append(("assistant", "bye", 50))
    row["messages"] = [
        {"role": role, "content": text, "ts": f"2026-01-05T10:{minute:02d}:00Z"}
        for role, text, minute in said
    ]
    return row


def test_an_outcome_before_the_last_turn_is_refused_or_cuts_the_rest(tmp_path: Path) -> None:
    table = csv(tmp_path, "conversation_id,outcome,observed_at\nc0,1,2026-01-05T10:09:00Z\n")
    _, (row,) = joined(tmp_path, [timed(0)], table)
    assert row["code"] == "outcome_before_last_turn" and row["found"] == "41 min earlier"
    options = ImportOptions(ReaderOptions(after_outcome="cut"), outcomes=table)
    import_logs([tmp_path / "chat.jsonl"], tmp_path / "cut", options)
    (kept,) = read_logged(tmp_path / "cut")
    assert [step.content for step in kept.steps] == ["hi", "hello", "bought"]


def test_only_the_named_outcome_of_several_counts(tmp_path: Path) -> None:
    table = csv(tmp_path, "conversation_id,name,value\nc0,csat,0.25\nc0,sold,1\n")
    found, _ = joined(tmp_path, [chat(0)], table, ReaderOptions(outcome_name="sold"))
    outcome = found["c0"].outcome
    assert outcome is not None and (outcome.name, outcome.value) == ("sold", 1.0)


def test_a_table_without_the_column_is_refused_with_those_it_has(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "chat.jsonl", [chat(0)])
    for text, message in [
        ("deal,outcome\nc0,1\n", r"for conversation_id, found columns \[deal, outcome\].*--on"),
        ("conversation_id,won\nc0,1\n", r"for the outcome, found columns \[conversation_id, won\]"),
    ]:
        with pytest.raises(LogsError, match=f"missing_column: expected a column {message}"):
            check([file], ImportOptions(outcomes=csv(tmp_path, text)))


def test_a_row_of_the_table_without_a_usable_id_is_quarantined(tmp_path: Path) -> None:
    rows: list[Row] = [{"id": "c0", "score": 1}, {"id": 1.5, "score": 1}, {"id": None, "score": 0}]
    write_lines(tmp_path / "deals.jsonl", [*rows, "{"])
    _, quarantine = joined(
        tmp_path, [chat(0)], OutcomeTable(str(tmp_path / "deals.jsonl"), on="id")
    )
    codes = [(row["line"], row["code"]) for row in quarantine]
    assert codes == [(2, "id_not_exact"), (3, "missing_field"), (4, "broken_json")]


@pytest.mark.parametrize("content", [None, b"PAR1 cut"])
def test_outcomes_that_cannot_be_read_stop_the_import(
    tmp_path: Path, content: bytes | None
) -> None:
    file = write_lines(tmp_path / "chat.jsonl", [chat(0)])
    if content is not None:
        (tmp_path / "deals.parquet").write_bytes(content)
    table = OutcomeTable(str(tmp_path / "deals.parquet"))
    with pytest.raises(LogsError, match=r"expected outcomes in .*deals\.parquet"):
        import_logs([file], tmp_path / "out", ImportOptions(outcomes=table))
    assert not (tmp_path / "out").exists()


SECRET_URL = "postgresql://ann:s3cr%40t@127.0.0.1:1/crm?sslmode=disable&connect_timeout=1"


def test_no_message_holds_the_credentials_of_a_url(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "chat.jsonl", [chat(0)])
    table = OutcomeTable(f"{SECRET_URL}&table=sales.deals")
    assert place_of(table) == "postgresql://127.0.0.1:1/crm table sales.deals"
    with pytest.raises(LogsError, match="127.0.0.1:1/crm table sales.deals, found") as raised:
        check([file], ImportOptions(outcomes=table))
    message = str(raised.value)
    assert all(secret not in message for secret in ("s3cr", "ann:", "sslmode=disable"))
    assert raised.value.__cause__ is None and "refused" in message


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:s3/crt@127.0.0.1:1/crm?table=deals",
        "postgresql://ann:s3#crt@127.0.0.1:1/crm?table=deals",
        "postgresql://ann:s3?crt@127.0.0.1:1/crm?table=deals",
        "postgresql+psycopg2://ann:s3crt@127.0.0.1:1/crm",
        "mysql://ann:s3crt@127.0.0.1/crm",
    ],
)
def test_a_password_that_was_not_escaped_is_in_no_message(tmp_path: Path, url: str) -> None:
    file = write_lines(tmp_path / "chat.jsonl", [chat(0)])
    with pytest.raises(ConfigError, match="expected outcomes") as raised:
        check([file], ImportOptions(outcomes=OutcomeTable(url)))
    assert all(secret not in str(raised.value) for secret in ("s3", "crt", "ann:"))


def test_a_url_without_a_table_says_how_to_name_one() -> None:
    table = OutcomeTable(SECRET_URL)
    with pytest.raises(ConfigError, match=r"crm, found none; add \?table=SCHEMA\.TABLE") as raised:
        check([], ImportOptions(outcomes=table))
    assert "s3cr" not in str(raised.value)
