"""How logs are read: what a reader cannot know by itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

FormatName = Literal[
    "openai", "sharegpt", "trl", "langsmith", "langfuse", "otel", "long", "turnwise", "trajectories"
]
AfterOutcome = Literal["quarantine", "cut"]


def _empty() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True)
class ReaderOptions:
    """Everything that changes what a reader makes of a file."""

    format: FormatName | None = None  # None: told by the first record
    encoding: str | None = None  # None: UTF-8, or UTF-16 with a mark
    max_line_bytes: int = 16 * 2**20
    role_map: Mapping[str, str] = field(default_factory=_empty)  # "bot7" -> "assistant"
    columns: Mapping[str, str] = field(default_factory=_empty)  # field -> column of the file
    timezone: str | None = None  # of times without a zone, e.g. "Europe/Berlin"
    sort_by_time: bool = False
    outcome_map: Mapping[str, float] = field(
        default_factory=lambda: MappingProxyType({})
    )  # "won" -> 1.0
    outcome_name: str | None = None  # which score or feedback is the outcome
    return_range: tuple[float, float] = (0.0, 1.0)
    after_outcome: AfterOutcome = "quarantine"
