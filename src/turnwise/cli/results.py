"""What the jobs of the command line return, and how it is written down."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # tables are shown by commands that need no torch
    from turnwise.analysis import CreditStudy


@dataclass(frozen=True)
class TrainResult:
    """A finished run."""

    run_folder: Path
    report: Path
    summary: Mapping[str, object]  # start, end and their paired comparison


@dataclass(frozen=True)
class EvalResult:
    """Scores with 95 % intervals; `comparison` only where two were played."""

    name: str
    summary: Mapping[str, float]
    against: Mapping[str, float] | None
    comparison: Mapping[str, object] | None


@dataclass(frozen=True)
class CreditResult:
    """Saved dialogues with the credit of several methods."""

    folder: Path  # credit.parquet, agreement.json and the page
    source: str  # the file that was read
    model: str  # the run or model that credited
    left_out: Mapping[str, int]  # dialogues by the reason
    study: "CreditStudy"

    @property
    def page(self) -> Path:
        return self.folder / "credit.html"


@dataclass(frozen=True)
class DryRun:
    """What a run would do, in plain words."""

    lines: list[str]
    warnings: list[str]


def without_nan(value: object) -> object:
    """The value with null for every number that is not finite, for which JSON has no other word."""
    if isinstance(value, Mapping):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def as_json_line(value: object) -> str:
    """JSON that every reader takes: a number that is not finite becomes null."""
    return json.dumps(without_nan(value))


def with_nan(value: object) -> object:
    """The numbers that `without_nan` wrote: nothing is not a number again."""
    if isinstance(value, Mapping):
        return {key: with_nan(inner) for key, inner in value.items()}
    return nan if value is None else value
