"""The rows of an outcome table: a file of any kind the readers know, or a table of PostgreSQL.

What a URL holds besides host and database never reaches a message.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

import duckdb
import pyarrow as pa

from turnwise.conversation import LoggedOutcome
from turnwise.errors import CapabilityError, ConfigError, LogsError
from turnwise.logs.options import OutcomeTable, ReaderOptions
from turnwise.logs.readers.fields import exact_id, wrong
from turnwise.logs.readers.record import outcome_of
from turnwise.logs.readers.refused import RefusedError, Row, refusal
from turnwise.logs.readers.sniffing import rows_of
from turnwise.logs.refusal import Code, Refusal

_VALUE_COLUMNS = ("value", "outcome", "score", "label", "reward")
_FIELDS = ("name", "observed_at", "window_h", "source", "confidence")
_SCHEMES = ("postgresql", "postgres")
_EXTENSION = "postgres_scanner"
_ROWS = 10_000  # at a time


@dataclass(frozen=True)
class OutcomeRow:
    """What one row of the table says of a conversation: an outcome, or why it is none."""

    conversation_id: str
    line: int
    outcome: LoggedOutcome | None
    fault: tuple[Code, str, str] | None = None  # code, reason, found


def place_of(table: OutcomeTable) -> str:
    """The table as a message may name it: of a URL host, database and table only.

    Raises ConfigError for a URL whose parts cannot be told apart, or of another kind of database.
    """
    if not _is_url(table.location):
        return table.location
    url, name = urlsplit(table.location), _table_name(table)
    if not _is_clear(url):
        raise ConfigError(
            "expected outcomes at postgresql://USER:PASSWORD@HOST/DATABASE?table=SCHEMA.TABLE, "
            "found a URL that cannot be told apart so; write /, #, ?, @ and : of a password as "
            "%2F, %23, %3F, %40 and %3A"
        )
    host = url.netloc.rpartition("@")[2]
    return f"postgresql://{host}{url.path}" + (f" table {name}" if name else "")


def outcome_rows(table: OutcomeTable, options: ReaderOptions) -> Iterator[OutcomeRow | Refusal]:
    """The table's rows that hold an outcome, and refusals of those that name no conversation.

    Raises LogsError if the table cannot be read or lacks the column of ids or of values.
    """
    columns = _Columns(table, options)
    for row in _rows(table, options):
        if isinstance(row, Refusal):
            yield row
            continue
        try:
            found = columns.read(row)
        except RefusedError as error:
            yield refusal(error, row)
            continue
        if found is not None:
            yield found
    columns.check()


class _Columns:
    """Which columns of a table mean what; knows those it has met."""

    def __init__(self, table: OutcomeTable, options: ReaderOptions) -> None:
        self._place, self._options = place_of(table), options
        self._id = table.columns.get("conversation_id", table.on)
        named = [table.columns[key] for key in ("outcome", "value") if key in table.columns]
        own = [options.outcome_name] if options.outcome_name else []
        self._values = named or [*own, *_VALUE_COLUMNS]
        self._others = {name: table.columns.get(name, name) for name in _FIELDS}
        self._met: dict[str, None] = {}
        self._has_id = self._has_value = False

    def read(self, row: Row) -> OutcomeRow | None:
        """None for a row without an outcome. Raises RefusedError for one without a usable id."""
        facts = row.value if isinstance(row.value, Mapping) else {}
        self._met.update(dict.fromkeys(facts))
        self._has_id |= self._id in facts
        if not self._has_id:
            self.check()
        name = exact_id(facts.get(self._id), self._id)
        if name is None:
            raise wrong(self._id, "the id of a conversation", None)
        column = next((one for one in self._values if one in facts), None)
        self._has_value |= column is not None
        value = facts.get(column) if column else None
        others = {ours: facts.get(theirs) for ours, theirs in self._others.items()}
        wanted = self._options.outcome_name
        is_other = wanted not in (None, column) and others["name"] not in (None, wanted)
        if column is None or value is None or value == "" or is_other:
            return None
        facts = {**others, "value": float(value) if isinstance(value, Decimal) else value}
        try:
            outcome = outcome_of(facts, wanted or column, self._options, column)
        except RefusedError as error:
            fault = error.code, f"{error} ({self._place}:{row.line})", error.found
            return OutcomeRow(name, row.line, None, fault)
        return OutcomeRow(name, row.line, outcome)

    def check(self) -> None:
        """Raises LogsError if rows were read and none had the column of ids, or of values."""
        lacking = {
            "conversation_id": not self._has_id and "--on COLUMN",
            "the outcome": not self._has_value and "--map outcome=COLUMN",
        }
        for field, advice in lacking.items():
            if self._met and advice:
                raise LogsError(
                    f"{self._place}: missing_column: expected a column for {field}, found columns "
                    f"[{', '.join(self._met)}]; name it with {advice}"
                )


def _rows(table: OutcomeTable, options: ReaderOptions) -> Iterable[Row | Refusal]:
    if _is_url(table.location):
        return _postgres_rows(table)
    return _file_rows(Path(table.location), replace(options, columns={}))


def _file_rows(file: Path, options: ReaderOptions) -> Iterator[Row | Refusal]:
    try:
        yield from rows_of(file, options)
    except (RefusedError, OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise LogsError(
            f"expected outcomes in {file}, found no file that can be read to its end: {error}; "
            "export it again"
        ) from error


def _is_url(location: str) -> bool:
    """Whether it is a URL of PostgreSQL. Raises ConfigError for one of anything else."""
    scheme, mark, _ = location.partition("://")
    if mark and scheme not in _SCHEMES:
        raise ConfigError(
            f"expected outcomes in a file or at postgresql://…, found a URL that begins with "
            f"{scheme}://; write postgresql:// for PostgreSQL, or export the table to CSV"
        )
    return bool(mark)


def _is_clear(url: SplitResult) -> bool:
    """Whether no part of a password can stand where host, port and database are looked for."""
    try:
        _ = url.port
    except ValueError:
        return False
    return not url.fragment and "@" not in url.path


def _table_name(table: OutcomeTable) -> str | None:
    return table.table or dict(parse_qsl(urlsplit(table.location).query)).get("table")


def _postgres_rows(table: OutcomeTable) -> Iterator[Row]:
    name = _table_name(table)
    if name is None:
        raise ConfigError(
            f"expected a table of {place_of(table)}, found none; add ?table=SCHEMA.TABLE"
        )
    url = urlsplit(table.location)
    rest = [pair for pair in parse_qsl(url.query) if pair[0] != "table"]
    dsn = url._replace(query=urlencode(rest)).geturl()
    target = ".".join(_quoted(part, '"') for part in ["outcomes_db", *_parts(name)])
    with closing(_duckdb()) as database:
        try:
            database.execute(f"LOAD {_quoted(_extension(), chr(39))}")
            database.execute(
                f"ATTACH {_quoted(dsn, chr(39))} AS outcomes_db (TYPE postgres, READ_ONLY)"
            )
            yield from _arrow_rows(
                database.execute(f"SELECT {_columns(database, target)} FROM {target}")
            )
        except duckdb.Error as error:
            raise LogsError(
                f"expected outcomes in {place_of(table)}, found an error: "
                f"{_without_secrets(str(error), table.location, dsn)}; check host, database, "
                "table and rights"
            ) from None  # the original holds the URL


def _duckdb() -> duckdb.DuckDBPyConnection:
    """A database in memory that asks no network for anything."""
    return duckdb.connect(
        config={
            "autoinstall_known_extensions": False,
            "memory_limit": "512MB",
            "threads": 1,
            "temp_directory": "",
        }
    )


def _arrow_rows(source: duckdb.DuckDBPyConnection) -> Iterator[Row]:
    line = 0
    for batch in source.to_arrow_reader(_ROWS):
        for row in batch.to_pylist():
            line += 1
            yield Row(row, line)


def _parts(name: str) -> list[str]:
    """Schema and table."""
    schema, _, table = name.rpartition(".")
    return [schema or "public", table]


def _quoted(text: str, mark: str) -> str:
    return mark + text.replace(mark, mark * 2) + mark


def _columns(database: duckdb.DuckDBPyConnection, target: str) -> str:
    """All columns; ids of any exact type as text."""
    kinds = database.execute(f"DESCRIBE {target}").fetchall()
    exact = [_quoted(name, '"') for name, kind, *_ in kinds if kind in ("UUID", "HUGEINT")]
    casts = ", ".join(f"CAST({name} AS VARCHAR) AS {name}" for name in exact)
    return f"* REPLACE ({casts})" if casts else "*"


def _extension() -> str:
    """DuckDB's PostgreSQL reader as a file. Raises CapabilityError if it is not installed."""
    spec = find_spec(f"duckdb_extension_{_EXTENSION}")
    version = f"v{duckdb.__version__}"
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder) / "extensions" / version / f"{_EXTENSION}.duckdb_extension"
        if file.is_file():
            return str(file)
    raise CapabilityError(
        f"expected DuckDB's extension {_EXTENSION} {version} for outcomes in PostgreSQL, found "
        "none; pip install 'turnwise[postgres]', or export the table to CSV"
    )


def _without_secrets(message: str, *urls: str) -> str:
    """The message without the URLs, and without user names and passwords in them."""
    secrets = list(urls)
    for url in map(urlsplit, urls):
        parts = [url.netloc.rpartition("@")[0], url.username, url.password]
        parts += [value for key, value in parse_qsl(url.query) if "password" in key]
        secrets += [form for part in parts if part for form in (part, unquote(part))]
    for secret in sorted(secrets, key=len, reverse=True):
        message = message.replace(secret, "***")
    return message
