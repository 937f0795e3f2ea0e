"""Where a conversation is kept and what was trained on it, so that it can be deleted.

A database beside the shards. Deleting a conversation from its shard does not take it out of the
weights: the index names the versions that have seen it, which must be trained again or retired.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from turnwise.conversation import LoggedConversation
from turnwise.errors import RecordError

INDEX_NAME = "index.sqlite"
Kind = Literal["q", "policy"]
_BATCH = 2_000


@dataclass(frozen=True)
class Training:
    """A model that learned from a shard."""

    kind: Kind
    version: str


@dataclass(frozen=True)
class Kept:
    """Where a conversation lies and who has learned from its shard."""

    conversation_id: str
    shard: str  # file name within the folder
    trained: tuple[Training, ...]


class IndexWriter:
    """Notes the shard of each conversation while a folder is written; whole once it is left."""

    def __init__(self, folder: Path) -> None:
        self._database = sqlite3.connect(folder / INDEX_NAME, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode=OFF",
            "PRAGMA synchronous=OFF",
            "CREATE TABLE conversations (id TEXT PRIMARY KEY, customer TEXT, shard TEXT NOT NULL)"
            " WITHOUT ROWID",
            "CREATE TABLE trained (kind TEXT, version TEXT, shard TEXT,"
            " UNIQUE (kind, version, shard))",
            "BEGIN",
        ):
            self._database.execute(statement)
        self._rows: list[tuple[str, str | None, str]] = []

    def add(self, conversation: LoggedConversation, shard: str) -> None:
        self._rows.append((conversation.conversation_id, conversation.customer_key, shard))
        if len(self._rows) >= _BATCH:
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with closing(self._database):
            if kind is None:
                self._flush()
                self._database.execute("CREATE INDEX by_customer ON conversations (customer)")
                self._database.execute("COMMIT")

    def _flush(self) -> None:
        self._database.executemany("INSERT INTO conversations VALUES (?, ?, ?)", self._rows)
        self._rows = []


def note_training(
    folder: Path, kind: Kind, version: str, shards: Iterable[str] | None = None
) -> None:
    """From now on the shards of the folder are known to be in that version's weights.

    shards: file names; None: all of them. Raises RecordError if the folder has no index.
    """
    with _opened(folder) as database:
        if shards is None:
            found = database.execute("SELECT DISTINCT shard FROM conversations")
            shards = [shard for (shard,) in found]
        rows = [(kind, version, shard) for shard in shards]
        database.executemany("INSERT OR IGNORE INTO trained VALUES (?, ?, ?)", rows)


def trained_on(
    folder: Path, *, conversation_id: str | None = None, customer_key: str | None = None
) -> list[Kept]:
    """Where a conversation, or every conversation of a customer, is kept, and which Q and policy
    versions learned from its shard; empty if nothing of it was imported.

    Raises RecordError if the folder has no index.
    """
    column, value = ("id", conversation_id) if conversation_id else ("customer", customer_key)
    with _opened(folder) as database:
        query = f"SELECT id, shard FROM conversations WHERE {column} = ? ORDER BY id"
        return [
            Kept(name, shard, tuple(_trainings(database, shard)))
            for name, shard in database.execute(query, (value,)).fetchall()
        ]


def _trainings(database: sqlite3.Connection, shard: str) -> Iterator[Training]:
    query = "SELECT kind, version FROM trained WHERE shard = ? ORDER BY rowid"
    for kind, version in database.execute(query, (shard,)):
        yield Training(kind, version)


@contextmanager
def _opened(folder: Path) -> Iterator[sqlite3.Connection]:
    path = folder / INDEX_NAME
    if not path.is_file():
        raise RecordError(
            f"expected a deletion index at {path}, found none; `turnwise logs import` writes it"
        )
    database = sqlite3.connect(path)
    try:
        with database:
            yield database
    finally:
        database.close()
