"""Parquet files row by row, and tables with one message a row."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from turnwise.conversation import LOG_SCHEMA, LoggedConversation
from turnwise.logs.options import ReaderOptions
from turnwise.logs.readers.chat import other_version
from turnwise.logs.readers.fields import Object, exact_id, first, mapping, whole
from turnwise.logs.readers.messages import CONTENT_KEYS, ROLE_KEYS, TIME_KEYS, indexed_steps
from turnwise.logs.readers.record import Source, conversation_of
from turnwise.logs.readers.refused import RefusedError, Row
from turnwise.logs.readers.store import Store
from turnwise.records.log_rows import VERSION_KEY

_ROWS_READ = 256  # at a time
_NO_FACTS: Object = {}
_ID_COLUMNS = ("conversation_id", "thread_id", "session_id", "chat_id")
_INDEX_COLUMNS = ("index", "i", "turn_index", "message_index", "position")
# Columns that speak of the whole conversation; a message's own reward is no outcome.
_OF_ALL = ("customer_key", "customer_id", "customer", "user_id", "tenant", "language", "consent")
_OUTCOMES = ("outcome", "score", "label")


def parquet_rows(file: Path) -> Iterator[Row]:
    """Each row of a Parquet file as plain values; times of nanoseconds are cut to microseconds.

    Raises pyarrow.ArrowException or OSError if the file is cut, RefusedError for a canonical file
    of another version.
    """
    with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        schema = parquet.schema_arrow
        version = (schema.metadata or {}).get(VERSION_KEY)
        if version is not None and version.decode() != LOG_SCHEMA:
            raise other_version(version.decode())
        plain = pa.schema([field.with_type(_readable(field.type)) for field in schema])
        line = 0
        for batch in parquet.iter_batches(batch_size=_ROWS_READ):
            table = pa.Table.from_batches([batch]).cast(plain, safe=False)
            for value in table.to_pylist(maps_as_pydicts="strict"):
                line += 1
                yield Row(value, line)


def _readable(kind: pa.DataType) -> pa.DataType:
    """The type with every time in microseconds, which is what Python's times hold."""
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz=kind.tz)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_readable(field.type)) for field in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_readable(kind.value_type))
    return kind


def column(columns: Sequence[str], wanted: Sequence[str]) -> str:
    """The first of the wanted columns that is there. Raises RefusedError if there is none."""
    found = next((name for name in wanted if name in columns), None)
    if found is None:
        raise RefusedError(
            "missing_column",
            f"a column for {wanted[0]}",
            f"the columns [{', '.join(columns)}]",
            f"map it with --map {wanted[0]}=COLUMN",
            wanted[0],
        )
    return found


def check_columns(columns: Sequence[str], options: ReaderOptions) -> None:
    """Raises RefusedError if a table of messages lacks what orders or identifies them."""
    column(columns, _ID_COLUMNS)
    column(columns, ROLE_KEYS)
    column(columns, CONTENT_KEYS)
    if not (options.sort_by_time and any(name in columns for name in TIME_KEYS)):
        column(columns, _INDEX_COLUMNS)


def keep(row: Row, store: Store) -> None:
    """Put a message beside the others of its conversation. Raises RefusedError without its id."""
    value = mapping(row.value, "the row") or _NO_FACTS
    name = column(list(value), _ID_COLUMNS)
    found = exact_id(value[name], name)
    if found is None:
        raise RefusedError("missing_field", f"an id in {name}", "nothing", "fill it in", name)
    store.add(row, found)


def conversation(conversation_id: str, rows: Sequence[Row], source: Source) -> LoggedConversation:
    """The conversation whose messages these rows are."""
    values = [mapping(row.value, "the row") or _NO_FACTS for row in rows]
    facts: dict[str, object] = {"conversation_id": conversation_id}
    for name in _OF_ALL:
        facts[name] = next((value[name] for value in values if value.get(name) is not None), None)
    wanted = (*_OUTCOMES, source.options.outcome_name or _OUTCOMES[0])
    for name in wanted:
        facts[name] = [value[name] for value in values if value.get(name) is not None] or None
    messages = sorted((_indexed(value) for value in values), key=_position)
    indexed = indexed_steps(messages, source.options)
    return conversation_of(facts, indexed, rows[0], source)


def _indexed(value: Object) -> dict[str, object]:
    name = next((name for name in _INDEX_COLUMNS if name in value), None)
    index = None if name is None else whole(value[name], name)
    words = first(value, *CONTENT_KEYS)  # an empty cell is an empty turn
    return {**value, "content": "" if words is None else words, "index": index, "i": None}


def _position(message: Mapping[str, object]) -> int:
    index = message["index"]
    return index if isinstance(index, int) else 0
