"""The one pass over files of logs: what is taken, what is refused and why.

read = taken + quarantined + refused for want of consent, always. A record is a conversation, what
could not become one, or an outcome without a conversation.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from turnwise.conversation import LoggedConversation
from turnwise.errors import LogsError
from turnwise.logs.cautions import Cautions
from turnwise.logs.duplicates import Seen, scratch_database
from turnwise.logs.options import ImportOptions
from turnwise.logs.outcome_tables import place_of
from turnwise.logs.outcomes import Outcomes
from turnwise.logs.privacy import consent_refusal, with_pseudonym
from turnwise.logs.quarantine import Quarantine
from turnwise.logs.readers import read_records
from turnwise.logs.refusal import Refusal
from turnwise.records import logged_to_json


@dataclass(frozen=True)
class Findings:
    """What became of the records of some files."""

    read: int
    imported: int
    quarantined: int
    consent_refused: int
    by_code: dict[str, int]  # refusals, refused consent included
    warnings: dict[str, float]  # see `Cautions.found`
    unreadable: tuple[str, ...]  # files
    customers_dropped: int  # conversations whose customer was not kept: no key
    max_bad: float

    @property
    def bad_share(self) -> float:
        """Quarantined records of all that were read, in [0, 1]."""
        return self.quarantined / max(1, self.read)

    @property
    def is_clean(self) -> bool:
        """Whether at most `max_bad` of the records were bad and every file could be read."""
        return self.bad_share <= self.max_bad and not self.unreadable


class Intake:
    """Reads files once and hands on what may be used, redacted and under pseudonyms."""

    def __init__(
        self,
        options: ImportOptions,
        quarantine: Quarantine,
        on_record: Callable[[], object] | None = None,
    ) -> None:
        """on_record: is called for each record that was read."""
        self._options, self._quarantine, self._on_record = options, quarantine, on_record
        self._now = options.now or datetime.now(UTC)
        self._read = self._imported = self._dropped = 0
        self._cautions = Cautions(options.leak_words)

    def conversations(self, files: Sequence[Path]) -> Iterator[LoggedConversation]:
        """Every conversation that is taken, in the order of the files.

        Raises LogsError if a file does not exist or cannot be understood as the options say, or if
        the outcomes cannot be read.
        """
        for file in files:
            if not file.exists():
                raise LogsError(f"expected logs at {file}, found nothing; is the path right?")
        with closing(scratch_database()) as database:
            self._seen = Seen(database)
            self._outcomes = self._outcomes_in(database)
            for file in files:
                yield from self._file(file)
            if self._outcomes is not None:
                for orphan in self._outcomes.orphans():
                    self._refuse(self._outcomes.place, orphan)

    def _outcomes_in(self, database: sqlite3.Connection) -> Outcomes | None:
        table = self._options.outcomes
        if table is None:
            return None
        place = place_of(table)
        return Outcomes(
            table, self._options.reader, database, lambda refusal: self._refuse(place, refusal)
        )

    def _file(self, file: Path) -> Iterator[LoggedConversation]:
        for record in read_records(file, self._options.reader):
            taken = record if isinstance(record, Refusal) else self._taken(record, str(file))
            if isinstance(taken, Refusal):
                if self._outcomes is not None and taken.conversation_id is not None:
                    self._outcomes.mark(taken.conversation_id)
                self._refuse(str(file), taken)
                continue
            self._count()
            self._imported += 1
            self._cautions.see(taken)
            yield taken

    def _taken(self, conversation: LoggedConversation, file: str) -> LoggedConversation | Refusal:
        """The conversation as it may be written, or why it may not."""
        options = self._options
        refusal = consent_refusal(conversation, is_required=options.require_consent, now=self._now)
        if refusal is not None:
            return refusal
        found = self._outcomes.joined(conversation) if self._outcomes else conversation
        if isinstance(found, LoggedConversation):
            found = self._seen.refusal(found, file) or found
        if isinstance(found, Refusal):
            hidden = with_pseudonym(conversation, options.key)
            return replace(found, raw=logged_to_json(hidden)) if options.quarantine_raw else found
        kept = with_pseudonym(found, options.key)
        self._dropped += found.customer_key is not None and kept.customer_key is None
        return options.redactor.redact(kept) if options.redactor else kept

    def _count(self) -> None:
        self._read += 1
        if self._on_record is not None:
            self._on_record()

    def _refuse(self, file: str, refusal: Refusal) -> None:
        self._count()
        self._quarantine.add(file, refusal)

    def findings(self) -> Findings:
        """What became of everything that was read so far."""
        by_code = dict(sorted(self._quarantine.by_code.items()))
        consent_refused = by_code.get("consent_refused", 0)
        return Findings(
            read=self._read,
            imported=self._imported,
            quarantined=sum(by_code.values()) - consent_refused,
            consent_refused=consent_refused,
            by_code=by_code,
            warnings=self._cautions.found(),
            unreadable=tuple(self._quarantine.unreadable),
            customers_dropped=self._dropped,
            max_bad=self._options.max_bad,
        )
