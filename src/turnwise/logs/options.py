"""What the readers and the importer are told.

A reader gives the customer's id as it found it, in `customer_key`: the importer puts a pseudonym
there, or drops it. Ids, consent and end reasons are the readers' business, what needs more than one
record is the importer's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Literal

from turnwise.logs.redaction import Redactor

Format = Literal[
    "openai",
    "sharegpt",
    "trl",
    "langsmith",
    "langfuse",
    "otel",
    "table",  # Parquet or CSV in columns of one's own
    "turnwise",  # the canonical record
    "trajectories",  # dialogues of a run
]
AfterOutcome = Literal["quarantine", "cut"]

_NO_NAMES: Mapping[str, str] = MappingProxyType({})
_NO_NUMBERS: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class ReaderOptions:
    """How the records of a file are to be understood."""

    format: Format | None = None  # None: sniffed
    encoding: str | None = None  # None: UTF-8, or UTF-16 with a mark
    max_line_bytes: int = 16 * 2**20
    role_map: Mapping[str, str] = field(default_factory=lambda: _NO_NAMES)  # "bot7" -> "assistant"
    columns: Mapping[str, str] = field(
        default_factory=lambda: _NO_NAMES
    )  # our field -> their column
    timezone: str | None = None  # IANA name for times without a zone
    sort_by_time: bool = False
    outcome_map: Mapping[str, float] = field(default_factory=lambda: _NO_NUMBERS)  # "won" -> 1
    outcome_name: str | None = None  # which score is the outcome, where a product keeps several
    return_range: tuple[float, float] = (0.0, 1.0)  # an outcome outside is `bad_outcome`
    after_outcome: AfterOutcome = "quarantine"  # cut: turns after the outcome are dropped


@dataclass(frozen=True)
class OutcomeTable:
    """Outcomes that are kept apart from the conversations, one or more rows each."""

    location: str  # a CSV, JSON lines or Parquet file, or a postgresql:// URL
    on: str = "conversation_id"  # column of the conversation's id
    columns: Mapping[str, str] = field(default_factory=lambda: _NO_NAMES)  # our field -> theirs
    table: str | None = None  # "deals" or "crm.deals"; in a URL also as ?table=


# Words that give the result away where they stand before a reply.
LEAK_WORDS = (
    "closed won",
    "closed lost",
    "deal won",
    "deal lost",
    "outcome:",
    "label:",
    "reward:",
    "converted:",
    "churned",
)


@dataclass(frozen=True)
class ImportOptions:
    """How logs are imported; how single records are read stands in `reader`."""

    reader: ReaderOptions = field(default_factory=ReaderOptions)
    outcomes: OutcomeTable | None = None
    require_consent: bool = False  # unknown consent is refused too
    key: bytes | None = field(default=None, repr=False)  # None: customers are not kept
    redactor: Redactor | None = None
    quarantine_raw: bool = False
    max_bad: float = 0.01  # share of the records read
    leak_words: tuple[str, ...] = LEAK_WORDS
    per_shard: int = 50_000  # conversations
    now: datetime | None = None  # what may be kept until earlier is refused; None: the clock
