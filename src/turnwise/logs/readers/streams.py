"""Bytes of any compression and text of any encoding: lines, JSON values and CSV rows, streamed.

Memory is bounded by the longest line allowed. No character is ever replaced.
"""

import codecs
import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import cast

import pyarrow as pa

from turnwise.errors import ConfigError
from turnwise.logs.options import ReaderOptions
from turnwise.logs.readers.fields import half_a_pair, parse_json
from turnwise.logs.readers.refused import RefusedError, Row, refusal
from turnwise.logs.refusal import Refusal

_CHUNK = 1 << 20
_UNPACKED = 1 << 16  # what is lost before the place where a compressed file is cut
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ROUNDED = re.compile(r"[+-]?\d+(\.\d+)?[eE][+-]?\d+")
_STRUCTURE = re.compile(rb'["\\{}\[\]]')

Text = tuple[int, int, int, str]  # line, byte offset, bytes, words


def open_bytes(file: Path) -> io.BufferedReader:
    """The file's bytes, uncompressed if they were compressed with gzip or zstd.

    Raises OSError if the file cannot be read; so may reading on (pyarrow.ArrowException,
    EOFError or zlib.error too) if it was cut.
    """
    with file.open("rb") as plain:
        head = plain.read(4)
    if head.startswith(_GZIP):
        return io.BufferedReader(cast(io.RawIOBase, gzip.open(file, "rb")), _UNPACKED)
    if head == _ZSTD:
        stream = pa.CompressedInputStream(pa.OSFile(str(file)), "zstd")
        return io.BufferedReader(cast(io.RawIOBase, stream), _UNPACKED)
    return io.BufferedReader(io.FileIO(file), _CHUNK)


def skip_mark(stream: io.BufferedReader, options: ReaderOptions) -> tuple[str, int]:
    """The codec of a stream and the bytes of its mark, which is read away.

    Raises ConfigError for an encoding nobody knows.
    """
    head = stream.peek(4)[:4]
    mark, marked = next(
        ((mark, codec) for mark, codec in _MARKS if head.startswith(mark)), (b"", "")
    )
    codec = _codec(options.encoding) if options.encoding else marked or "utf-8"
    if codec == "utf-16":
        codec = marked if marked.startswith("utf-16") else "utf-16-le"
    if codec != marked:
        return codec, 0
    stream.read(len(mark))
    return codec, len(mark)


def _codec(name: str) -> str:
    try:
        return codecs.lookup(name).name.removesuffix("-sig")
    except LookupError:
        raise ConfigError(
            f"expected an encoding that Python knows, found {name!r}; e.g. latin-1, cp1252, utf-16"
        ) from None


def lines(
    stream: io.BufferedReader, codec: str, offset: int, options: ReaderOptions
) -> Iterator[Text | Refusal]:
    """Every line of a stream, or why it cannot be read; `offset`: bytes already read."""
    limit = options.max_line_bytes
    read = partial(_line, stream, {"utf-16-le": 0, "utf-16-be": 1}.get(codec))
    for number in count(1):
        data = read(limit + 4)
        if not data:
            return
        row = Row(None, number, offset, len(data))
        if len(data) > limit and len(data.rstrip(b"\r\n\x00")) > limit:
            row = replace(row, length=len(data) + _rest_of_line(data, read))
            yield _too_long(row, limit)
        else:
            try:
                yield number, offset, len(data), data.decode(codec)
            except UnicodeDecodeError as error:
                yield _bad_encoding(data, error.start, codec, row)
        offset += row.length or 0


def _line(stream: io.BufferedReader, newline_at: int | None, limit: int) -> bytes:
    """A line of at most `limit` bytes; newline_at: where its 0x0A stands in a two-byte newline."""
    if newline_at is None:
        return stream.readline(limit)
    out = b""
    while len(out) < limit + limit % 2:
        piece = stream.readline(limit + limit % 2 - len(out))
        out += piece
        if not piece.endswith(b"\n"):
            return out
        if newline_at == 0 and len(out) % 2:
            out += stream.read(1)
            if out.endswith(b"\x00"):
                return out
        elif newline_at == 1 and len(out) % 2 == 0 and out.endswith(b"\x00\n"):
            return out
    return out


def _rest_of_line(data: bytes, read: Callable[[int], bytes]) -> int:
    """Bytes read away up to the end of the line that begins with `data`."""
    skipped = 0
    while data and not data.endswith((b"\n", b"\n\x00")):
        data = read(_CHUNK)
        skipped += len(data)
    return skipped


def _too_long(row: Row, limit: int) -> Refusal:
    error = RefusedError(
        "line_too_long",
        f"at most {limit / 2**20:.3g} MiB in a line",
        f"{(row.length or 0) / 2**20:.3g} MiB",
        "raise --max-line",
    )
    return refusal(error, row)


def _bad_encoding(data: bytes, at: int, codec: str, row: Row) -> Refusal:
    expected = "UTF-8 (or a UTF-16 mark)" if codec == "utf-8" else codec
    error = RefusedError(
        "bad_encoding",
        expected,
        f"byte 0x{data[at]:02X} at offset {(row.offset or 0) + at}",
        "name the encoding with --encoding",
    )
    return refusal(error, row)


def json_lines(texts: Iterator[Text | Refusal]) -> Iterator[Row | Refusal]:
    """Each line that is not blank as a JSON value."""
    for text in texts:
        if isinstance(text, Refusal):
            yield text
            continue
        number, offset, length, words = text
        if words.isspace():
            continue
        yield json_row(number, offset, length, words)


def json_row(number: int, offset: int | None, length: int, words: str) -> Row | Refusal:
    """One JSON value with its place, or why it is none."""
    try:
        value = parse_json(words)
    except UnicodeEncodeError:
        error = half_a_pair()
    except (ValueError, RecursionError) as fault:
        column = fault.colno if isinstance(fault, json.JSONDecodeError) else 1
        error = RefusedError(
            "broken_json",
            "one JSON object per line",
            f"an error at column {column}",
            "mend or drop the line",
        )
    else:
        return Row(value, number, offset, length, words)
    return refusal(error, Row(None, number, offset, length, words.rstrip("\r\n")))


def json_values(
    stream: io.BufferedReader, codec: str, offset: int, options: ReaderOptions
) -> Iterator[Row | Refusal]:
    """The elements of one JSON array, or JSON objects one after the other, over many lines.

    A broken element costs itself alone as long as its brackets match.
    """
    number = 0
    is_wide = codec.startswith("utf-16")
    for start, data in _values(_chunks(stream, codec), options.max_line_bytes):
        number += 1
        at = None if is_wide else offset + start
        if isinstance(data, int):
            yield _too_long(Row(None, number, at, data), options.max_line_bytes)
            continue
        try:
            words = data.decode("utf-8" if is_wide else codec)
        except UnicodeDecodeError as error:
            yield _bad_encoding(data, error.start, codec, Row(None, number, at, len(data)))
            continue
        yield json_row(number, at, len(data), words)


def _chunks(stream: io.BufferedReader, codec: str) -> Iterator[bytes]:
    """Pieces of the stream in which brackets and quotes are single bytes."""
    if not codec.startswith("utf-16"):
        while piece := stream.read(_CHUNK):
            yield piece
        return
    decoder = codecs.getincrementaldecoder(codec)("surrogatepass")
    while piece := stream.read(_CHUNK):
        yield decoder.decode(piece).encode("utf-8", "surrogatepass")


def _values(chunks: Iterator[bytes], limit: int) -> Iterator[tuple[int, bytes | int]]:
    """(offset, bytes) of each value; the number of bytes stands for those of one too long."""
    held, base_offset = bytearray(), 0  # `held` begins at base_offset
    depth, base, start = 0, -1, -1
    in_string, skip, dropped = False, -1, False
    for chunk in chunks:
        scanned = base_offset + len(held)
        held += chunk
        for match in _STRUCTURE.finditer(held, scanned - base_offset):
            at, mark = base_offset + match.start(), match.group()
            if at == skip:
                continue
            if in_string:
                skip, in_string = (at + 1, True) if mark == b"\\" else (skip, mark != b'"')
            elif mark == b'"':
                in_string = True
            elif mark in b"{[":
                base = base if base >= 0 else int(mark == b"[")
                start = at if depth == base else start
                depth += 1
            elif mark in b"}]":
                depth -= 1
                if depth == base and start >= 0:
                    whole = bytes(held[max(start - base_offset, 0) : at + 1 - base_offset])
                    is_long = dropped or at + 1 - start > limit
                    yield start, at + 1 - start if is_long else whole
                    start, dropped = -1, False
        keep = start if start >= 0 and not dropped else base_offset + len(held)
        dropped = dropped or base_offset + len(held) - keep > limit
        keep = base_offset + len(held) if dropped else keep
        del held[: keep - base_offset]
        base_offset = keep
    if start >= 0:
        yield start, bytes(held) if not dropped else base_offset - start


def csv_rows(
    texts: Iterator[Text | Refusal], options: ReaderOptions, name: str
) -> Iterator[Row | Refusal]:
    """Each row of a CSV file with a header as a mapping of the cells that hold something.

    A line that cannot be read costs its row. Raises RefusedError for a header that cannot be read.
    """
    feed = _CsvFeed(texts)
    csv.field_size_limit(max(csv.field_size_limit(), options.max_line_bytes))
    first = next(feed, "")
    reader = csv.reader(feed.again(first), delimiter=_delimiter(first, name))
    header = next(reader, [])
    if feed.refusals:
        yield from feed.refusals
        return
    feed.begin()
    while True:
        try:
            cells = next(reader, None)
            error = None
        except csv.Error as fault:
            cells, error = [], str(fault)
        if cells is None:
            yield from feed.refusals
            return
        yield from feed.refusals or _csv_row(header, cells, error, feed.row())
        feed.begin()


class _CsvFeed:
    """Lines for the CSV reader that remember where the row they belong to began."""

    def __init__(self, texts: Iterator[Text | Refusal]) -> None:
        self._texts = texts
        self._held: list[str] = []
        self.begin()

    def begin(self) -> None:
        self._of_row: list[Text] = []
        self.refusals: list[Refusal] = []

    def again(self, first: str) -> "_CsvFeed":
        self._held = [first]
        return self

    def __iter__(self) -> "_CsvFeed":
        return self

    def __next__(self) -> str:
        if self._held:
            return self._held.pop()
        text = next(self._texts)
        if isinstance(text, Refusal):
            self.refusals.append(text)
            return "\n"
        self._of_row.append(text)
        return text[3]

    def row(self) -> Row:
        number, offset = (self._of_row[0][0], self._of_row[0][1]) if self._of_row else (1, 0)
        length = sum(text[2] for text in self._of_row)
        return Row(None, number, offset, length, "".join(text[3] for text in self._of_row))


def _delimiter(header: str, name: str) -> str:
    return "\t" if ".tsv" in name else max(",;\t", key=header.count)


def _csv_row(
    header: list[str], cells: list[str], error: str | None, row: Row
) -> Iterator[Row | Refusal]:
    if error is None and not cells:
        return
    if error is not None or len(cells) != len(header):
        found = error or f"{len(cells)}"
        fault = RefusedError(
            "missing_field",
            f"{len(header)} cells as in the header",
            found,
            "quote cells that hold commas, quotes or line breaks",
        )
        yield refusal(fault, row)
        return
    value = {name: _cell(name, cell) for name, cell in zip(header, cells, strict=True)}
    yield Row(value, row.line, row.offset, row.length, row.raw)


def _cell(name: str, cell: str) -> object:
    """A cell's text; None where it is empty, and the number where a program wrote an id as one."""
    if name.lower().endswith("id") and _ROUNDED.fullmatch(cell):
        return float(cell)
    return cell or None
