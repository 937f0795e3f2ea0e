"""What goes in comes out, or stands in the quarantine with its reason; half of it never."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.logs.lines import Row, chat, read_lines, write_lines
from turnwise.errors import LogsError, RecordError, RunFolderError
from turnwise.logs import (
    ImportOptions,
    ImportResult,
    OutcomeTable,
    check,
    import_logs,
    read_findings,
    regex_redactor,
)
from turnwise.records import read_logged


def imported(
    folder: Path, rows: list[Row | str], options: ImportOptions | None = None
) -> tuple[ImportResult, list[Row]]:
    """The result and the quarantine of an import of these lines into folder/"out"."""
    file = write_lines(folder / "chat.jsonl", rows)
    result = import_logs([file], folder / "out", options)
    return result, read_lines(folder / "out" / "quarantine.jsonl")


def ids(folder: Path) -> list[str]:
    return [one.conversation_id for one in read_logged(folder)]


def test_shards_hold_a_fixed_number_of_conversations_in_order(tmp_path: Path) -> None:
    result, _ = imported(tmp_path, [chat(i) for i in range(7)], ImportOptions(per_shard=3))
    assert result.num_shards == 3
    shards = sorted((tmp_path / "out").glob("*.parquet"))
    assert [ids(shard) for shard in shards] == [["c0", "c1", "c2"], ["c3", "c4", "c5"], ["c6"]]
    assert read_findings(tmp_path / "out") == result.findings
    assert list(read_logged(tmp_path / "out"))[0].origin is not None


def test_a_full_last_shard_is_followed_by_no_empty_one(tmp_path: Path) -> None:
    result, _ = imported(tmp_path, [chat(i) for i in range(6)], ImportOptions(per_shard=3))
    assert result.num_shards == len(list((tmp_path / "out").glob("*.parquet"))) == 2


def test_logs_without_a_usable_conversation_can_still_be_read(tmp_path: Path) -> None:
    result, _ = imported(tmp_path, ["{"])
    assert (result.findings.read, result.findings.imported) == (1, 0)
    assert ids(tmp_path / "out") == []


def test_a_broken_line_costs_one_row_that_says_where(tmp_path: Path) -> None:
    rows: list[Row | str] = [chat(0), '{"messages": [', chat(1)]
    result, quarantine = imported(tmp_path, rows)
    assert ids(tmp_path / "out") == ["c0", "c1"]
    (row,) = quarantine
    assert (row["code"], row["line"]) == ("broken_json", 2)
    assert row["file"] == str(tmp_path / "chat.jsonl")
    offset, length = row["byte_offset"], row["byte_length"]
    assert isinstance(offset, int) and isinstance(length, int)
    cut = (tmp_path / "chat.jsonl").read_bytes()[offset : offset + length]
    assert cut.strip() == b'{"messages": ['
    assert result.findings.bad_share == 1 / 3 and not result.findings.is_clean


def test_the_same_text_again_and_an_id_with_other_text_are_refused(tmp_path: Path) -> None:
    rows: list[Row | str] = [
        chat(0, "café  au\nlait"),
        chat(1, "cafe\u0301 au lait "),  # the same in NFC with white space collapsed
        chat(0, "tea"),
        chat(2, "tea"),  # nobody else has it: the one before was refused
        chat(2, "tea"),
    ]
    _, quarantine = imported(tmp_path, rows)
    assert ids(tmp_path / "out") == ["c0", "c2"]
    assert [(row["line"], row["code"]) for row in quarantine] == [
        (2, "duplicate_conversation"),
        (3, "id_clash"),
        (5, "duplicate_conversation"),
    ]
    assert f"the same text as {tmp_path / 'chat.jsonl'}:1" in str(quarantine[0]["reason"])
    assert "'c0' again with other text than" in str(quarantine[1]["reason"])


def test_a_copy_in_another_file_is_a_duplicate_too(tmp_path: Path) -> None:
    files = [write_lines(tmp_path / name, [chat(0)]) for name in ("a.jsonl", "b.jsonl")]
    findings = check(files)
    assert findings.by_code == {"duplicate_conversation": 1} and findings.imported == 1


def test_of_a_conversation_without_consent_only_the_id_is_written(tmp_path: Path) -> None:
    rows: list[Row | str] = [
        chat(0, "unspeakable", consent={"training": False}),
        chat(1, "unsaid", consent={"training": True, "retain_until": "2025-01-01T00:00:00Z"}),
        chat(2, consent={"training": True}),
    ]
    options = ImportOptions(quarantine_raw=True, now=datetime(2026, 1, 1, tzinfo=UTC))
    result, quarantine = imported(tmp_path, rows, options)
    assert [(row["code"], row["conversation_id"]) for row in quarantine] == [
        ("consent_refused", "c0"),
        ("consent_refused", "c1"),
    ]
    assert (result.findings.consent_refused, result.findings.quarantined) == (2, 0)
    assert result.findings.is_clean
    assert ids(tmp_path / "out") == ["c2"]
    written = b"".join(file.read_bytes() for file in (tmp_path / "out").iterdir())
    assert b"unspeakable" not in written and b"unsaid" not in written


def test_silence_is_consent_unless_consent_is_required(tmp_path: Path) -> None:
    rows = [chat(0), chat(1, consent={"training": True})]
    file = write_lines(tmp_path / "chat.jsonl", rows)
    assert check([file]).warnings["consent_unknown"] == 1
    assert check([file], ImportOptions(require_consent=True)).by_code == {"consent_refused": 1}


def test_customers_are_pseudonyms_of_a_key_or_are_not_kept(tmp_path: Path) -> None:
    rows: list[Row | str] = [chat(0, customer_id="+49151"), chat(1, customer_id="+49151")]
    result, _ = imported(tmp_path, rows)
    assert result.findings.customers_dropped == 2
    assert [one.customer_key for one in read_logged(tmp_path / "out")] == [None, None]
    again = import_logs([tmp_path / "chat.jsonl"], tmp_path / "keyed", ImportOptions(key=b"k" * 16))
    # openssl dgst -sha256 -mac HMAC -macopt key:kkkkkkkkkkkkkkkk, first 32 digits
    expected = "hmac:a3e8deb7fc042f1b8ed72d83606d1a46"
    assert [one.customer_key for one in read_logged(tmp_path / "keyed")] == [expected] * 2
    assert again.findings.customers_dropped == 0
    third = import_logs(
        sorted((tmp_path / "keyed").glob("*.parquet")),
        tmp_path / "third",
        ImportOptions(key=b"other key of ours"),
    )
    assert third.findings.imported == 2
    assert [one.customer_key for one in read_logged(tmp_path / "third")] == [expected] * 2


def test_raw_text_is_quarantined_only_where_that_is_asked_for_and_redacted(tmp_path: Path) -> None:
    bad = {**chat(0, "call me: a@b.org"), "messages": [{"role": "bot7", "content": "a@b.org"}]}
    rows: list[Row | str] = [bad, chat(1, "a@b.org"), chat(2, "a@b.org")]
    _, quarantine = imported(tmp_path, rows)
    assert "a@b.org" not in json.dumps(quarantine)
    options = ImportOptions(quarantine_raw=True, redactor=regex_redactor())
    import_logs([tmp_path / "chat.jsonl"], tmp_path / "raw", options)
    raw = [str(row["raw"]) for row in read_lines(tmp_path / "raw" / "quarantine.jsonl")]
    assert len(raw) == 2 and all("EMAIL_1" in text and "a@b.org" not in text for text in raw)
    (kept,) = read_logged(tmp_path / "raw")
    assert kept.steps[1].content == "EMAIL_1" and kept.redaction is not None


def test_an_unreadable_file_costs_one_row_and_other_files_go_on(tmp_path: Path) -> None:
    good = write_lines(tmp_path / "chat.jsonl", [chat(0)])
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(b"PAR1 and no footer")
    result = import_logs([cut, good], tmp_path / "out", ImportOptions(max_bad=1.0))
    assert result.findings.by_code == {"unreadable_file": 1}
    assert result.findings.unreadable == (str(cut),)
    assert not result.findings.is_clean and ids(tmp_path / "out") == ["c0"]


def test_a_file_of_no_known_format_stops_the_import_before_anything_is_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(LogsError, match=r"chat\.jsonl: unknown_format: expected one of .*openai"):
        imported(tmp_path, ['{"a": 1}'])
    assert [file.name for file in tmp_path.iterdir()] == ["chat.jsonl"]
    with pytest.raises(LogsError, match="found nothing; is the path right"):
        check([tmp_path / "missing.jsonl"])


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunFolderError, match="expected a new or empty folder"):
        imported(tmp_path, [chat(0)])
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["thesis.txt"]
    with pytest.raises(RecordError, match="found no import.json"):
        read_findings(tmp_path / "out")


def test_a_killed_import_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "chat.jsonl", (chat(i) for i in range(40_000)))
    out, beside = tmp_path / "out", tmp_path / ".out.new"
    code = (
        "import sys; from pathlib import Path; from turnwise.logs import import_logs; "
        "import_logs([Path(sys.argv[1])], Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(file), str(out)])
    while process.poll() is None and not (beside / "part-00000.parquet").exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert beside.exists() and not out.exists()
    write_lines(file, [chat(0)])
    import_logs([file], out)
    assert ids(out) == ["c0"] and not beside.exists()


def test_a_full_disk_leaves_nothing_and_is_no_fault_of_ours(tmp_path: Path) -> None:
    # Long ids that Parquet packs and the index does not: the index is what grows beyond 1 MB.
    rows = ({**chat(i), "id": f"{i}-" + "x" * 1500} for i in range(2_500))
    file = write_lines(tmp_path / "chat.jsonl", rows)
    code = (
        "import resource, sys; from pathlib import Path; from turnwise.logs import import_logs; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20)); "
        "import_logs([Path(sys.argv[1])], Path(sys.argv[2]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file), str(tmp_path / "out")],
        capture_output=True,
        text=True,
    )
    assert "RunFolderError: could not keep on disk what an import remembers" in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["chat.jsonl"]


@st.composite
def records(draw: st.DrawFn) -> Row | str:
    """Lines good and bad whose ids, texts and outcomes collide now and then."""
    number, text = draw(st.integers(0, 5)), draw(st.sampled_from("abcdefgh"))
    facts = {
        "outcome": draw(st.sampled_from([None, 0, 1, "won", 7])),
        "consent": draw(st.sampled_from([None, {"training": False}, {"training": True}])),
        "customer_id": draw(st.sampled_from([None, "x"])),
    }
    row = chat(number, text, **{key: value for key, value in facts.items() if value is not None})
    choices: list[Row | str] = [row, row, row, "{", {**row, "id": 1.5}, {"messages": []}]
    return draw(st.sampled_from(choices))


@given(
    lines=st.lists(records(), max_size=12),
    outcomes=st.lists(st.tuples(st.integers(0, 7), st.sampled_from([0, 1, 3])), max_size=5),
    require=st.booleans(),
)
@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
def test_imports_conserve_counts(
    tmp_path: Path, lines: list[Row | str], outcomes: list[tuple[int, int]], require: bool
) -> None:
    first = chat(99, "a line by which the format is known")
    file = write_lines(tmp_path / "chat.jsonl", [first, *lines])
    table = [{"conversation_id": f"c{number}", "outcome": value} for number, value in outcomes]
    joined = OutcomeTable(str(write_lines(tmp_path / "outcomes.jsonl", table))) if table else None
    options = ImportOptions(outcomes=joined, require_consent=require)
    out = tmp_path / datetime.now().isoformat()
    found = import_logs([file], out, options).findings
    rows = read_lines(out / "quarantine.jsonl")
    orphans = sum(row["code"] == "orphan_outcome" for row in rows)
    assert found.read == 1 + len(lines) + orphans
    assert found.read == found.imported + found.quarantined + found.consent_refused
    assert len(rows) == found.quarantined + found.consent_refused == sum(found.by_code.values())
    assert len(ids(out)) == found.imported == len(set(ids(out)))
    assert check([file], options) == found
