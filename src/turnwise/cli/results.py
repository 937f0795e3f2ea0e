"""What the jobs of the command line return."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


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
class DryRun:
    """What a run would do, in plain words."""

    lines: list[str]
    warnings: list[str]
