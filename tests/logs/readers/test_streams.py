"""Lines of any compression and encoding: what is bad costs itself, and says where it stands."""

import gzip
import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest

from tests.logs.readers.reading import DEFAULT, assistant, jsonl, read, refused, user
from turnwise.conversation import LoggedConversation
from turnwise.errors import ConfigError
from turnwise.logs.options import ReaderOptions
from turnwise.logs.readers import read_records
from turnwise.logs.refusal import Refusal

ROW = {"messages": [user("Grüße, Ċ 漢 🎈"), assistant("Schön.")]}
LINE = json.dumps(ROW, ensure_ascii=False) + "\n"


def words(conversation: LoggedConversation) -> list[str]:
    return [step.content for step in conversation.steps]


def test_compressed_files_read_like_plain_ones(tmp_path: Path) -> None:
    (tmp_path / "plain.jsonl").write_text(LINE * 2, encoding="utf-8")
    with gzip.open(tmp_path / "a.jsonl.gz", "wb") as file:
        file.write((LINE * 2).encode())
    with pa.CompressedOutputStream(str(tmp_path / "a.jsonl.zst"), "zstd") as stream:
        stream.write((LINE * 2).encode())
    expected = [words(one) for one in read(tmp_path / "plain.jsonl")]
    assert expected == [["Grüße, Ċ 漢 🎈", "Schön."]] * 2
    for name in ("a.jsonl.gz", "a.jsonl.zst"):
        assert [words(one) for one in read(tmp_path / name)] == expected


def test_a_cut_compressed_file_keeps_its_good_part_and_says_so(tmp_path: Path) -> None:
    lines = "".join(
        json.dumps({"messages": [user(f"{n} {hash(str(n))}"), assistant("b")]}) + "\n"
        for n in range(5_000)
    )
    whole = gzip.compress(lines.encode(), mtime=0)
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) * 2 // 3])
    with pa.CompressedOutputStream(str(tmp_path / "b"), "zstd") as stream:
        stream.write(lines.encode())
    whole = (tmp_path / "b").read_bytes()
    (tmp_path / "b.jsonl.zst").write_bytes(whole[: len(whole) * 2 // 3])
    for name in ("a.jsonl.gz", "b.jsonl.zst"):
        *good, last = read_records(tmp_path / name, DEFAULT)
        assert isinstance(last, Refusal) and last.code == "unreadable_file" and last.line is None
        assert len(good) > 100
        assert all(isinstance(one, LoggedConversation) for one in good)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_marked_encodings_are_told_by_their_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.jsonl").write_bytes((LINE * 3).encode(encoding))
    (tmp_path / "a.json").write_bytes(json.dumps([ROW] * 3, ensure_ascii=False).encode(encoding))
    for name in ("a.jsonl", "a.json"):
        assert [words(one) for one in read(tmp_path / name)] == [["Grüße, Ċ 漢 🎈", "Schön."]] * 3


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "latin-1"])
def test_other_encodings_are_named(tmp_path: Path, encoding: str) -> None:
    line = json.dumps({"messages": [user("Grüße"), assistant("Schön.")]}, ensure_ascii=False)
    (tmp_path / "a.jsonl").write_bytes((line + "\r\n" + line).encode(encoding))
    options = ReaderOptions(encoding=encoding)
    assert [words(one) for one in read(tmp_path / "a.jsonl", options)] == [["Grüße", "Schön."]] * 2


def test_big_endian_files_are_told_by_their_mark(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xfe\xff" + (LINE * 2).encode("utf-16-be"))
    assert len(read(tmp_path / "a.jsonl")) == 2


def test_an_encoding_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found 'utf-9'"):
        read(jsonl(tmp_path, ROW), ReaderOptions(encoding="utf-9"))


def test_bad_bytes_are_never_replaced_and_cost_their_line_alone(tmp_path: Path) -> None:
    good = LINE.encode()
    bad = b'{"messages": "caf\xe9"}\n'
    (tmp_path / "a.jsonl").write_bytes(good + bad + good)
    first, found, last = read_records(tmp_path / "a.jsonl", DEFAULT)
    assert isinstance(first, LoggedConversation) and isinstance(last, LoggedConversation)
    assert isinstance(found, Refusal)
    assert (found.code, found.line, found.byte_offset) == ("bad_encoding", 2, len(good))
    assert found.byte_length == len(bad)
    assert found.reason == (
        f"expected UTF-8 (or a UTF-16 mark), found byte 0xE9 at offset {len(good) + 17}; "
        "name the encoding with --encoding"
    )


def test_half_a_surrogate_pair_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"messages": [{"role": "assistant", "content": "\\ud83d"}]}\n'
        '{"messages": "[{\\"role\\": \\"assistant\\", \\"content\\": \\"\\\\ud83d\\"}]"}\n'
        '{"messages": [{"role": "assistant", "content": "\\ud83d\\ude00"}]}\n'
    )
    *bad, good = read_records(tmp_path / "a.jsonl", DEFAULT)
    codes = [found.code for found in bad if isinstance(found, Refusal)]
    assert codes == ["bad_encoding", "bad_encoding"]
    assert isinstance(good, LoggedConversation) and words(good) == ["😀"]


def test_one_broken_line_among_many_costs_one_row(tmp_path: Path) -> None:
    lines = [LINE] * 5_000
    lines[2_499] = '{"messages": [{"role": "user", "content": hello}]}\n'
    (tmp_path / "a.jsonl").write_text("".join(lines), encoding="utf-8")
    found = list(read_records(tmp_path / "a.jsonl", DEFAULT))
    bad = [one for one in found if isinstance(one, Refusal)]
    assert len(found) == 5_000 and len(bad) == 1
    assert (bad[0].code, bad[0].line) == ("broken_json", 2_500)
    assert bad[0].byte_offset == 2_499 * len(LINE.encode())
    assert bad[0].reason == (
        "expected one JSON object per line, found an error at column 43; mend or drop the line"
    )


@pytest.mark.parametrize("line", ["[" * 100_000, '{"a": ' + "9" * 5_000 + "}", "nonsense", '"a'])
def test_what_is_no_json_is_broken_whatever_it_is(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(LINE + line + "\n", encoding="utf-8")
    _, found = read_records(tmp_path / "a.jsonl", DEFAULT)
    assert isinstance(found, Refusal) and found.code == "broken_json"


def test_blank_lines_are_no_records(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n" + LINE + "\n  \n" + LINE.strip(), encoding="utf-8")
    assert [one.origin and one.origin.line for one in read(tmp_path / "a.jsonl")] == [2, 5]


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_a_line_of_the_longest_length_is_read_and_a_longer_one_is_not(
    tmp_path: Path, ending: str
) -> None:
    file = tmp_path / "a.jsonl"
    length = len(LINE.strip().encode())
    file.write_bytes((LINE + LINE.strip() + ending).encode())
    assert len(read(file, ReaderOptions(max_line_bytes=length))) == 2
    found = list(read_records(file, ReaderOptions(max_line_bytes=length - 1)))
    assert [one.code for one in found if isinstance(one, Refusal)] == ["line_too_long"] * 2


def test_memory_stays_bounded_by_the_longest_line_allowed(tmp_path: Path) -> None:
    with (tmp_path / "a.jsonl").open("wb") as out:
        out.write(LINE.encode())
        for _ in range(24):
            out.write(b"x" * 2**20)
        out.write(b"\n" + LINE.encode())
    good = json.dumps(ROW)
    (tmp_path / "a.json").write_text(f'[{good}, {{"messages": "{"x" * 24 * 2**20}"}}, {good}]')
    for name, length in (("a.jsonl", 24 * 2**20 + 1), ("a.json", 24 * 2**20 + 16)):
        tracemalloc.start()
        found = list(read_records(tmp_path / name, ReaderOptions(max_line_bytes=2**20)))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 8 * 2**20
        codes = [one.code if isinstance(one, Refusal) else "good" for one in found]
        assert codes == ["good", "line_too_long", "good"]
        assert isinstance(found[1], Refusal)
        assert (found[1].line, found[1].byte_length) == (2, length)
        assert found[1].reason == "expected at most 1 MiB in a line, found 24 MiB; raise --max-line"


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_array_is_read_element_by_element(tmp_path: Path, indent: int | None) -> None:
    rows = [{"messages": [user(f'"{n}" \\ {{['), assistant("]}")]} for n in range(3)]
    text = json.dumps(rows, indent=indent)
    (tmp_path / "a.json").write_text(text)
    read_rows = read(tmp_path / "a.json")
    assert [words(one)[0] for one in read_rows] == [f'"{n}" \\ {{[' for n in range(3)]
    assert [one.origin and one.origin.line for one in read_rows] == [1, 2, 3]


def test_an_array_is_read_across_the_pieces_it_comes_in(tmp_path: Path) -> None:
    rows = [{"messages": [user('\\"' * 40_000 + str(n)), assistant("b")]} for n in range(12)]
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1))  # 2 MB in pieces of 1 MiB
    ends = [words(one)[0].strip('\\"') for one in read(tmp_path / "a.json")]
    assert ends == [str(n) for n in range(12)]


def test_a_broken_or_long_element_of_an_array_costs_itself(tmp_path: Path) -> None:
    good = json.dumps(ROW, ensure_ascii=False)
    text = f'[{good},\n{{"messages": oops}},\n{good}, {{"messages": "{"x" * 999}"}}, {good}]'
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    found = list(read_records(tmp_path / "a.json", ReaderOptions(max_line_bytes=500)))
    codes = [one.code if isinstance(one, Refusal) else "good" for one in found]
    assert codes == ["good", "broken_json", "good", "line_too_long", "good"]
    assert isinstance(found[1], Refusal)
    assert found[1].byte_offset == len(good.encode()) + 3


def test_an_array_that_ends_early_loses_its_last_element_alone(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(f"[{json.dumps(ROW)},\n{json.dumps(ROW)[:-9]}")
    good, found = read_records(tmp_path / "a.json", DEFAULT)
    assert isinstance(good, LoggedConversation)
    assert isinstance(found, Refusal) and found.code == "broken_json"


def test_objects_over_many_lines_are_read_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("\n".join(json.dumps(ROW, indent=2) for _ in range(2)))
    assert len(read(tmp_path / "a.json")) == 2


def test_a_file_that_is_not_there_costs_one_row(tmp_path: Path) -> None:
    found = refused(tmp_path / "missing.jsonl")
    assert found.code == "unreadable_file" and "No such file" in found.reason


def test_an_empty_file_holds_no_record(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.json", "a.csv"):
        (tmp_path / name).write_bytes(b"")
        assert read(tmp_path / name) == []


def test_csv_cells_may_hold_lines_and_a_bad_line_costs_its_row(tmp_path: Path) -> None:
    text = (
        "id,messages,outcome\n"
        'a,"[{""role"": ""user"", ""content"": ""one""},\n'
        '{""role"": ""assistant"", ""content"": ""two""}]",1\n'
        "b,oops\n"
        'c,"[{""role"": ""assistant"", ""content"": ""three""}]",\n'
    )
    (tmp_path / "a.csv").write_text(text)
    first, found, last = read_records(tmp_path / "a.csv", DEFAULT)
    assert isinstance(first, LoggedConversation) and words(first) == ["one", "two"]
    assert isinstance(last, LoggedConversation) and last.outcome is None
    assert isinstance(found, Refusal)
    assert (found.code, found.line) == ("missing_field", 4)
    assert found.byte_offset == text.index("b,oops") and found.byte_length == len("b,oops\n")


def test_a_csv_row_with_bad_bytes_in_it_is_not_read_without_them(tmp_path: Path) -> None:
    good = b'[{""role"": ""assistant"", ""content"": ""x""}]'
    (tmp_path / "a.csv").write_bytes(
        b'id,messages\na,"'
        + good
        + b'"\nb,"'
        + good[:-1]
        + b"\n\xe9\n]"
        + b'"\nc,"'
        + good
        + b'"\n'
    )
    found = list(read_records(tmp_path / "a.csv", DEFAULT))
    assert [one.code if isinstance(one, Refusal) else one.conversation_id for one in found] == [
        "a",
        "bad_encoding",
        "c",
    ]
