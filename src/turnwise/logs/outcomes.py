"""Outcomes from elsewhere, joined to conversations by id.

Kept on disk while an import runs. Equal outcomes of a conversation count once, unequal ones cost
the conversation; an empty cell is no outcome yet.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace

from turnwise.conversation import EndReason, LoggedConversation, LoggedOutcome
from turnwise.logs.options import OutcomeTable, ReaderOptions
from turnwise.logs.outcome_tables import OutcomeRow, outcome_rows, place_of
from turnwise.logs.readers.fields import moment
from turnwise.logs.readers.record import up_to_outcome
from turnwise.logs.readers.refused import RefusedError
from turnwise.logs.refusal import Code, Refusal


class Outcomes:
    """Every outcome of a table by its conversation's id."""

    def __init__(
        self,
        table: OutcomeTable,
        options: ReaderOptions,
        database: sqlite3.Connection,
        refuse: Callable[[Refusal], None],
    ) -> None:
        """Reads the table. refuse: is given each row that names no conversation.

        Raises LogsError if the table cannot be read or lacks a column.
        """
        self.place = place_of(table)
        self._options = options
        self._cursor = database.cursor()
        self._cursor.execute(
            "CREATE TABLE outcomes (id TEXT PRIMARY KEY, line INT, outcome TEXT, fault TEXT, "
            "used INT DEFAULT 0) WITHOUT ROWID"
        )
        for row in outcome_rows(table, options):
            if isinstance(row, Refusal):
                refuse(row)
            else:
                self._keep(row)

    def _keep(self, row: OutcomeRow) -> None:
        """Faults wait for their conversation."""
        outcome, fault = row.outcome, row.fault
        found = self._cursor.execute(
            "SELECT line, outcome FROM outcomes WHERE id = ?", (row.conversation_id,)
        ).fetchone()
        first = found and found[1] and self._outcome_of(found[1])
        if found and (first is None or (outcome and outcome.value == first.value)):
            return
        if first and outcome:
            values = f"{first.value:g} and {outcome.value:g}"
            lines = f"(lines {found[0]}, {row.line} of {self.place})"
            outcome, fault = None, _two_outcomes(f"{values} {lines}")
        self._cursor.execute(
            "INSERT OR REPLACE INTO outcomes (id, line, outcome, fault) VALUES (?, ?, ?, ?)",
            (
                row.conversation_id,
                row.line,
                outcome and json.dumps(vars(outcome), default=str),
                fault and json.dumps(fault),
            ),
        )

    def joined(self, conversation: LoggedConversation) -> LoggedConversation | Refusal:
        """The conversation with its outcome, as it is where the table has none; or why its
        outcome cannot be used: they differ, it is no number, it lies before the last turn."""
        name, own = conversation.conversation_id, conversation.outcome
        self.mark(name)
        found = self._cursor.execute(
            "SELECT line, outcome, fault FROM outcomes WHERE id = ?", (name,)
        ).fetchone()
        if found is None:
            return conversation
        line, text, fault = found
        if text is None:
            return _refusal(conversation, *json.loads(fault))
        outcome = self._outcome_of(text)
        if own is not None and own.value != outcome.value:
            values = f"{own.value:g} (the conversation) and {outcome.value:g} ({self.place}:{line})"
            return _refusal(conversation, *_two_outcomes(values))
        if own is not None and own.observed_at is not None:
            return conversation
        try:
            return self._with_outcome(conversation, outcome)
        except RefusedError as error:
            return _refusal(conversation, error.code, str(error), error.found)

    def _with_outcome(
        self, conversation: LoggedConversation, outcome: LoggedOutcome
    ) -> LoggedConversation:
        was_open = conversation.end_reason is EndReason.CENSORED
        return replace(
            conversation,
            outcome=outcome,
            steps=tuple(up_to_outcome(conversation.steps, outcome, self._options)),
            end_reason=EndReason.OUTCOME if was_open else conversation.end_reason,
        )

    def mark(self, conversation_id: str) -> None:
        """The conversation was read, whatever became of it: its outcome is no orphan."""
        self._cursor.execute("UPDATE outcomes SET used = 1 WHERE id = ?", (conversation_id,))

    def orphans(self) -> Iterator[Refusal]:
        """Outcomes whose conversation was never read."""
        query = "SELECT id, line FROM outcomes WHERE used = 0 ORDER BY line"
        for name, line in self._cursor.execute(query):
            yield Refusal(
                code="orphan_outcome",
                reason=f'expected a conversation for outcome "{name}", found none; import the '
                "conversation too, or drop the row",
                field="conversation_id",
                found=name,
                line=line,
                conversation_id=name,
            )

    def _outcome_of(self, text: str) -> LoggedOutcome:
        found = json.loads(text)
        found["observed_at"] = moment(found["observed_at"], "observed_at", self._options)
        return LoggedOutcome(**found)


Fault = tuple[Code, str, str]  # code, reason, found


def _two_outcomes(values: str) -> Fault:
    reason = f"expected one outcome per conversation, found {values}; keep one"
    return "two_outcomes", reason, values


def _refusal(conversation: LoggedConversation, code: Code, reason: str, found: str) -> Refusal:
    return Refusal(
        code=code,
        reason=reason,
        field="outcome",
        found=found,
        line=conversation.origin.line if conversation.origin else None,
        conversation_id=conversation.conversation_id,
    )
