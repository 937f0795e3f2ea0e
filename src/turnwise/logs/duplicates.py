"""Conversations that were read before: the same text again, or the same id with other text.

Digests of 128 bits, kept on disk; memory does not grow with the logs.
"""

import sqlite3
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

from turnwise.conversation import LoggedConversation
from turnwise.errors import RunFolderError
from turnwise.logs.refusal import Code, Refusal

_CACHE_KIB = 64 * 1024


def text_digest(conversation: LoggedConversation) -> bytes:
    """128 bits of who said what: NFC, white space collapsed.

    Roles, texts, proposals and tool calls count; ids, times and everything else do not.
    """
    parts = list[str]()
    for step in conversation.steps:
        parts += (step.role, _collapsed(step.content))
        if step.proposed is not None:
            parts += ("proposed", _collapsed(step.proposed))
        for call in step.tool_calls:
            parts += ("call", call.name, _collapsed(call.arguments))
    # Lengths tell parts apart whatever is in them.
    edges = ",".join([str(len(part)) for part in parts])
    return _digest(edges + "".join(parts))


def _collapsed(text: str) -> str:
    return " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def scratch_database() -> sqlite3.Connection:
    """A nameless database on disk that goes with its process, even a killed one; its cache is
    bounded."""
    database = sqlite3.connect("", isolation_level=None)
    for setting in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}"):
        database.execute(f"PRAGMA {setting}")
    database.execute("BEGIN")
    return database


@contextmanager
def disk_faults_shown() -> Iterator[None]:
    """Raises RunFolderError where SQLite has no room or right to write."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise RunFolderError(
            f"could not keep on disk what an import remembers ({error}); nothing was changed. Free "
            "space, or name a roomier folder in the environment variable SQLITE_TMPDIR"
        ) from error


class Seen:
    """Every conversation taken so far, by the digests of its text and of its id."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._cursor = database.cursor()
        self._files = list[str]()
        for table in ("texts", "ids"):
            self._cursor.execute(
                f"CREATE TABLE {table} (digest BLOB PRIMARY KEY, file INT, line INT) WITHOUT ROWID"
            )

    def refusal(self, conversation: LoggedConversation, file: str) -> Refusal | None:
        """Why the conversation is not new; None if it is, and from now on it is known."""
        if not self._files or self._files[-1] != file:
            self._files.append(file)
        place = (len(self._files) - 1, conversation.origin.line if conversation.origin else None)
        text, name = text_digest(conversation), _digest(conversation.conversation_id)
        if not self._add("texts", text, place):
            first = self._place("texts", text)
            return _refusal(
                "duplicate_conversation",
                f"expected new content, found the same text as {first}; keep one",
                conversation,
            )
        if not self._add("ids", name, place):
            self._cursor.execute("DELETE FROM texts WHERE digest = ?", (text,))
            return _refusal(
                "id_clash",
                f"expected one content per id, found {conversation.conversation_id!r} again with "
                f"other text than {self._place('ids', name)}; give each conversation its own id",
                conversation,
            )
        return None

    def _add(self, table: str, digest: bytes, place: tuple[int, int | None]) -> bool:
        self._cursor.execute(
            f"INSERT INTO {table} VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (digest, *place)
        )
        return self._cursor.rowcount == 1

    def _place(self, table: str, digest: bytes) -> str:
        found = self._cursor.execute(f"SELECT file, line FROM {table} WHERE digest = ?", (digest,))
        file, line = found.fetchone()
        return self._files[file] if line is None else f"{self._files[file]}:{line}"


def _refusal(code: Code, reason: str, conversation: LoggedConversation) -> Refusal:
    return Refusal(
        code=code,
        reason=reason,
        field="conversation_id" if code == "id_clash" else None,
        found=conversation.conversation_id,
        line=conversation.origin.line if conversation.origin else None,
        conversation_id=conversation.conversation_id,
    )
