"""Readers: any export format as a stream of canonical records and refusals.

A reader judges one record alone, in bounded memory. What it cannot use it hands on with the reason.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pyarrow as pa

from turnwise.conversation import LoggedConversation
from turnwise.errors import RecordError
from turnwise.logs.options import Format, ReaderOptions
from turnwise.logs.readers import langfuse, langsmith, otel, tables
from turnwise.logs.readers.chat import CHAT_READERS, Reader, id_of
from turnwise.logs.readers.own import played
from turnwise.logs.readers.record import Source, outcome_value, up_to_outcome
from turnwise.logs.readers.refused import RefusedError, Row, refusal
from turnwise.logs.readers.sniffing import (
    columns_of,
    format_of,
    is_played,
    no_object,
    renamed,
    rows_of,
    unreadable,
)
from turnwise.logs.readers.store import Store
from turnwise.logs.refusal import Refusal

__all__ = ["RefusedError", "outcome_value", "read_records", "sniffed", "up_to_outcome"]

Item = LoggedConversation | Refusal
_Gather = Callable[[str, Sequence[Row], Source], LoggedConversation]

_GATHERED: Mapping[str, tuple[Callable[[Row, Store], None], _Gather]] = {
    "langsmith": (langsmith.keep, langsmith.conversation),
    "langfuse": (langfuse.keep, langfuse.conversation),
    "otel": (otel.keep, otel.conversation),
    "table": (tables.keep, tables.conversation),
}


def read_records(file: Path, options: ReaderOptions) -> Iterator[Item]:
    """Every conversation of a file, or why it cannot be used.

    file: of any format of `ReaderOptions.format`; a folder is one export over many files.
    Conversations that lie scattered over the file come in the order of their ids, others in that
    of the file. Raises ConfigError for an encoding or time zone that does not exist.
    """
    if file.is_dir():
        files = sorted(one for one in file.rglob("*") if one.is_file() and one.name[0] not in "._")
        yield from _read_all(file, files, options)
    else:
        yield from _read_all(file, [file], options)


def sniffed(file: Path, options: ReaderOptions | None = None) -> Format | None:
    """The format of a file by its first record; None where that tells none."""
    options = options or ReaderOptions()
    try:
        if is_played(file):
            return "trajectories"
        for item in rows_of(file, options):
            if isinstance(item, Row) and isinstance(item.value, dict | list):
                return format_of(columns_of(item, options))
    except (RefusedError, OSError, EOFError, zlib.error, pa.ArrowException):
        return None
    return None


class _Stores(dict[Format, Store]):
    """A store for each format that needs one, made where it is first asked for."""

    def __missing__(self, name: Format) -> Store:
        self[name] = Store()
        return self[name]

    def close(self) -> None:
        for store in self.values():
            store.close()


def _read_all(place: Path, files: Sequence[Path], options: ReaderOptions) -> Iterator[Item]:
    with closing(_Stores()) as stores:
        for file in files:
            name = None if file == place else file.as_posix()
            for item in _guarded(file, options, stores):
                yield replace(item, file=name) if isinstance(item, Refusal) and name else item
        for format_name, store in stores.items():
            yield from _gathered(Source(place, format_name, options), store)


def _guarded(file: Path, options: ReaderOptions, stores: _Stores) -> Iterator[Item]:
    """The records of a file; one that cannot be read on ends with a refusal."""
    try:
        yield from _read(file, options, stores)
    except RefusedError as error:
        yield replace(refusal(error, Row(None, 0)), line=None)
    except RecordError as error:
        yield Refusal("unreadable_file", str(error))
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        yield replace(refusal(unreadable(file, error), Row(None, 0)), line=None)


def _read(file: Path, options: ReaderOptions, stores: _Stores) -> Iterator[Item]:
    if options.format == "trajectories" or (options.format is None and is_played(file)):
        yield from played(file)
        return
    rows = rows_of(file, options)
    for item in rows:
        if isinstance(item, Row) and isinstance(item.value, dict | list):
            break
        yield item if isinstance(item, Refusal) else refusal(no_object(item), item)
    else:
        return
    columns = columns_of(item, options)
    name = options.format or format_of(columns)
    if name == "table":
        tables.check_columns(columns, options)
    every = chain([item], rows)
    if name in _GATHERED:
        yield from _keep(every, name, options, stores)
    else:
        yield from _one_by_one(every, CHAT_READERS[name], Source(file, name, options))


def _one_by_one(rows: Iterable[Row | Refusal], read: Reader, source: Source) -> Iterator[Item]:
    for row in rows:
        if isinstance(row, Refusal):
            yield row
            continue
        named = renamed(row, source.options)
        try:
            yield read(named, source)
        except RefusedError as error:
            yield refusal(error, row, id_of(named))


def _keep(
    rows: Iterable[Row | Refusal], name: Format, options: ReaderOptions, stores: _Stores
) -> Iterator[Refusal]:
    keep, _ = _GATHERED[name]
    for row in rows:
        if isinstance(row, Refusal):
            yield row
            continue
        named = renamed(row, options)
        try:
            keep(named, stores[name])
        except RefusedError as error:
            yield refusal(error, row, id_of(named))


def _gathered(source: Source, store: Store) -> Iterator[Item]:
    _, read = _GATHERED[source.reader]
    for conversation_id, rows in store.conversations():
        try:
            yield read(conversation_id, rows, source)
        except RefusedError as error:
            whole = "\n".join(row.raw or "" for row in rows)
            yield refusal(error, replace(rows[0], raw=whole), conversation_id)
