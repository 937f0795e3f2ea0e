"""Rows of a file whose conversations lie scattered over it, gathered in bounded memory.

A private database that the system deletes with the process, even a killed one: what it holds was
not redacted yet.
"""

import json
import sqlite3
from collections.abc import Iterator
from itertools import groupby

from turnwise.logs.readers.refused import Row

_TABLES = """
CREATE TABLE rows (
    key TEXT, thread TEXT, payload TEXT, line INTEGER, start INTEGER, length INTEGER
);
CREATE TABLE threads (key TEXT PRIMARY KEY, thread TEXT) WITHOUT ROWID;
"""
_GATHERED = """
SELECT coalesce(rows.thread, threads.thread, rows.key) AS conversation,
       payload, line, start, length
FROM rows LEFT JOIN threads ON threads.key = rows.key
ORDER BY conversation, rows.rowid
"""


class Store:
    """Rows by the conversation they belong to."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")  # on disk, nameless
        self._database.executescript(_TABLES)

    def close(self) -> None:
        self._database.close()

    def add(self, row: Row, key: str, thread: str | None = None) -> None:
        """Keep a row. `thread`: its conversation; without one, that of any row of the same key, or
        the key itself."""
        payload = json.dumps(row.value, ensure_ascii=False, default=str)  # times become text
        values = (key, thread, payload, row.line, row.offset, row.length)
        self._database.execute("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?)", values)
        if thread is not None:
            self._database.execute("INSERT OR IGNORE INTO threads VALUES (?, ?)", (key, thread))

    def conversations(self) -> Iterator[tuple[str, list[Row]]]:
        """Each conversation's id and its rows in the order they were added."""
        found = self._database.execute(_GATHERED)
        for conversation, rows in groupby(found, key=lambda one: str(one[0])):
            yield (
                conversation,
                [
                    Row(json.loads(payload), line, start, length, payload)
                    for _, payload, line, start, length in rows
                ],
            )
