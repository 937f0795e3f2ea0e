"""Logged conversations on disk: `turnwise.log/1` as Parquet and as JSON lines with the same fields.

One row a conversation. Everything streams: a reader holds one batch of rows, a writer one row
group. What comes back equals what went in; log-probabilities of tokens are float32.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from turnwise.conversation import LOG_SCHEMA, LoggedConversation
from turnwise.errors import ConfigError, RecordError
from turnwise.records.atomic import write_atomically
from turnwise.records.log_rows import (
    SCHEMA,
    VERSION_KEY,
    Row,
    logged_from_row,
    logged_to_row,
    values_of,
)

_ROWS_PER_GROUP = 1_000
_TEXT_PER_GROUP = 32 * 2**20  # characters: a row group stays bounded where conversations are long
_ROWS_READ = 256  # at a time


class LogWriter:
    """Writes conversations one after the other to a Parquet file; holds one row group.

    The file is whole only after `close`. Raises RecordError for what the columns cannot hold.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = pq.ParquetWriter(path, SCHEMA, compression="zstd", write_page_checksum=True)
        self._rows: list[Row] = []
        self._text = 0

    def write(self, conversation: LoggedConversation) -> None:
        self._rows.append(logged_to_row(conversation))
        self._text += sum(len(step.content) for step in conversation.steps)
        if len(self._rows) >= _ROWS_PER_GROUP or self._text >= _TEXT_PER_GROUP:
            self._flush()

    def close(self) -> None:
        if self._file.is_open:
            self._flush()
            self._file.close()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(_table(self._rows, self._path))
        self._rows, self._text = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()  # what is buffered is not worth a second error


def _table(rows: list[Row], path: Path) -> pa.Table:
    try:
        return pa.Table.from_pylist(rows, schema=SCHEMA)
    except (pa.ArrowException, OverflowError, UnicodeError) as error:
        raise RecordError(
            f"expected conversations that fit the columns of {path.name}, got one that does not: "
            f"{error}; text must be Unicode, token ids whole numbers of at most 32 bits"
        ) from error


def write_logged(path: Path, conversations: Iterable[LoggedConversation]) -> None:
    """One Parquet file of the conversations, whole or not at all; holds one row group.

    Raises RecordError for what the columns cannot hold; RunFolderError if the system refuses.
    """

    def write(beside: Path) -> None:
        with LogWriter(beside) as file:
            for conversation in conversations:
                file.write(conversation)

    write_atomically(path, write)


def write_logged_jsonl(path: Path, conversations: Iterable[LoggedConversation]) -> None:
    """The same fields as one JSON object a line, whole or not at all.

    Raises RecordError for a number that JSON does not know; RunFolderError if the system refuses.
    """

    def write(beside: Path) -> None:
        with beside.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(logged_to_json(conversation) + "\n" for conversation in conversations)

    write_atomically(path, write)


def read_logged(*paths: Path) -> Iterator[LoggedConversation]:
    """The conversations of canonical Parquet or `.jsonl` files, and of folders that an import
    wrote, in the order they were written; never holds a file whole.

    Raises RecordError if there is no such file, or if it is cut, damaged, no file of logged
    conversations or of another schema version.
    """
    for path in paths:
        for file in _files_of(path):
            if file.suffix == ".jsonl":
                yield from _read_jsonl(file)
            else:
                yield from _read_parquet(file)


def _files_of(path: Path) -> list[Path]:
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise RecordError(
            f"expected logged conversations at {path}, found none; write them with "
            "`turnwise logs import`"
        )
    return files


def _read_parquet(path: Path) -> Iterator[LoggedConversation]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check_version(path, (file.schema_arrow.metadata or {}).get(VERSION_KEY, b"").decode())
            for batch in file.iter_batches(_ROWS_READ):
                for row in values_of(batch.to_struct_array()):
                    yield logged_from_row(row)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(
            f"{path} is not a whole Parquet file ({error}); it was cut or damaged. Import the "
            "logs again"
        ) from error


def _read_jsonl(path: Path) -> Iterator[LoggedConversation]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                _check_version(path, row.get("schema", ""))
                conversation = logged_from_row(row)
            except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
                raise RecordError(
                    f"{path}:{number}: expected one conversation in the fields of {LOG_SCHEMA}, "
                    f"found {error!r}; `turnwise logs import` says more and goes on"
                ) from error
            yield conversation


def _check_version(path: Path, found: str) -> None:
    if found != LOG_SCHEMA:
        raise RecordError(
            f"expected schema version {LOG_SCHEMA!r} in {path}, found {found or None!r}; import "
            "it with `turnwise logs import`, or read it with the turnwise that wrote it"
        )


def logged_to_json(conversation: LoggedConversation) -> str:
    """The conversation as one line of JSON. Raises RecordError for NaN and infinities."""
    row = {"schema": LOG_SCHEMA, **logged_to_row(conversation)}
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False, default=datetime.isoformat)
    except ValueError as error:
        raise RecordError(
            f"expected finite numbers in conversation {conversation.conversation_id!r}: {error}"
        ) from error
