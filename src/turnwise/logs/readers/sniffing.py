"""Which kind of file and which format stands before us, told by its first bytes and keys."""

import json
import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from turnwise.logs.options import Format, ReaderOptions
from turnwise.logs.readers.fields import wrong
from turnwise.logs.readers.refused import RefusedError, Row
from turnwise.logs.readers.streams import (
    csv_rows,
    json_lines,
    json_values,
    lines,
    open_bytes,
    skip_mark,
)
from turnwise.logs.readers.tables import column, parquet_rows
from turnwise.logs.refusal import Refusal

_PARQUET = b"PAR1"
_PLAYED = b"turnwise.schema_version"  # in the metadata of dialogues that a run wrote
_LOOKED_AT = 1 << 16
_MESSAGE_KEYS = {"role", "from", "content", "value"}
_FIRST_KEY = re.compile(r'\s*\[\s*\{\s*"(\w+)"')

# The first format one of whose sets of keys a record has.
_KEYS: tuple[tuple[Format, tuple[Set[str], ...]], ...] = (
    ("turnwise", ({"steps", "conversation_id"},)),
    ("trl", ({"prompt", "completion"}, {"chosen"}, {"rejected"}, {"messages", "turn_rewards"})),
    ("openai", ({"messages"},)),
    ("sharegpt", ({"conversations"},)),
    ("langsmith", ({"run_type", "inputs"}, {"run_type", "dotted_order"}, {"run_type", "trace_id"})),
    (
        "otel",
        (
            {"resourceSpans"},
            {"resource_spans"},
            {"resourceLogs"},
            {"attributes", "traceId"},
            {"attributes", "trace_id"},
            {"attributes", "context"},
            {"gen_ai.input.messages"},
            {"gen_ai.request.model"},
        ),
    ),
    (
        "langfuse",
        (
            {"trace_id", "start_time"},
            {"traceId", "startTime"},
            {"trace_id", "data_type"},
            {"traceId", "dataType"},
            {"session_id", "data_type"},
            {"session_id", "timestamp"},
            {"sessionId", "timestamp"},
            {"trace", "observations"},
            {"traces", "id"},
        ),
    ),
    (
        "table",
        tuple(
            {role, content}
            for role in ("role", "from", "sender")
            for content in ("content", "value", "text")
        ),
    ),
)


def format_of(columns: Sequence[str]) -> Format:
    """The format of a record by its keys. Raises RefusedError if no format has them."""
    keys = set(columns)
    found = next((name for name, sets in _KEYS if any(one <= keys for one in sets)), None)
    if found is None:
        raise RefusedError(
            "unknown_format",
            f"one of {', '.join(name for name, _ in _KEYS)}, trajectories",
            f"the keys {{{', '.join(sorted(keys))}}}",
            "name it with --format",
        )
    return found


def no_object(row: Row) -> RefusedError:
    """The refusal of a line that is JSON but no record."""
    return wrong("the line", "an object, or a list of messages", row.value)


def columns_of(row: Row, options: ReaderOptions) -> list[str]:
    """The keys of a record, mapped ones under our names too; a list is one of messages.

    Raises RefusedError for a mapped column that is not there.
    """
    if not isinstance(row.value, dict):
        return ["messages"]
    for theirs in options.columns.values():
        column(list(row.value), [theirs])
    return [*row.value, *options.columns]


def renamed(row: Row, options: ReaderOptions) -> Row:
    """The row with our names for the columns that were mapped."""
    if not options.columns or not isinstance(row.value, dict):
        return row
    ours = {field: row.value.get(theirs) for field, theirs in options.columns.items()}
    return replace(row, value={**row.value, **ours})


def rows_of(file: Path, options: ReaderOptions) -> Iterator[Row | Refusal]:
    """Every record of a file as plain values, whatever kind of file it is.

    Raises RefusedError, OSError, EOFError, zlib.error or pyarrow.ArrowException if it is cut.
    """
    with open_bytes(file) as stream:
        is_parquet = stream.peek(4)[:4] == _PARQUET
        if not is_parquet and file.suffix != ".parquet":
            codec, skipped = skip_mark(stream, options)
            head = stream.peek(_LOOKED_AT)[:_LOOKED_AT].decode(codec, errors="ignore")
            kind = _kind(head, file.name)
            if kind == "values":
                yield from json_values(stream, codec, skipped, options)
                return
            texts = lines(stream, codec, skipped, options)
            yield from csv_rows(texts, options, file.name) if kind == "csv" else json_lines(texts)
            return
    yield from parquet_rows(file)


def _kind(head: str, name: str) -> str:
    """ "csv", "lines" of JSON, or JSON "values" that go over many lines; `head` only looks."""
    line, _, after = head.lstrip().partition("\n")
    start = line[:1]
    if ".csv" in name or ".tsv" in name or (start not in ("{", "[") and _is_header(line, name)):
        return "csv"
    if start == "[":
        return "lines" if _is_conversation(line) else "values"
    is_open = line.rstrip().endswith(("{", "[", ",", ":"))
    return "values" if start == "{" and after and is_open else "lines"


def _is_header(line: str, name: str) -> bool:
    return ".json" not in name and any(mark in line for mark in ",;\t")


def _is_conversation(line: str) -> bool:
    """Whether a line that begins a list is one conversation and not the begin of an array."""
    try:
        value = json.loads(line)
    except ValueError:
        found = _FIRST_KEY.match(line)
        return found is not None and found[1] in _MESSAGE_KEYS
    return isinstance(value, list) and all(
        isinstance(one, dict) and bool(_MESSAGE_KEYS & one.keys()) for one in value
    )


def is_played(file: Path) -> bool:
    """Whether a run of turnwise wrote these dialogues."""
    with file.open("rb") as stream:
        if stream.read(4) != _PARQUET:
            return False
    return _PLAYED in (pq.read_schema(file).metadata or {})


def unreadable(file: Path, error: Exception) -> RefusedError:
    """The refusal of a file that is cut, damaged or not there."""
    is_parquet = isinstance(error, pa.ArrowException) or file.suffix == ".parquet"
    if isinstance(error, OSError) and error.strerror:
        expected, found = "a file that can be read", error.strerror
    elif is_parquet:
        expected, found = "a complete Parquet file", "no footer or a damaged page, the file is cut"
    else:
        expected, found = "a whole file", "its end is missing, the file is cut"
    return RefusedError("unreadable_file", expected, found, "export it again")
