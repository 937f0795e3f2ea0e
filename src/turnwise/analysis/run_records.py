"""Everything a run wrote, read once; what is missing or broken is named, not fatal."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from turnwise.errors import RecordError
from turnwise.records import Record, RunFolder, read_metrics, read_trajectories, rows_of

Row = Mapping[str, object]
Point = tuple[float, float]  # step, value

T = TypeVar("T")


@dataclass(frozen=True)
class RunRecords:
    """The records of one run, as far as they exist."""

    name: str
    train: Sequence[Row]  # metrics of training steps, by step
    evals: Sequence[Row]  # metrics of evaluations, by step
    comparison: Row  # the last evaluation against the start; empty if there is none
    before: Sequence[Row]  # every dialogue of the first evaluation: id, sample, score, parts
    after: Sequence[Row]  # the same of the last one; empty if there is only one
    start: Sequence[Record]  # dialogues of the evaluation before training
    end: Sequence[Record]  # dialogues of the last evaluation
    training: Sequence[Record]  # dialogues of the last training step that was saved
    config: str  # the text of config.toml
    env: Row
    missing: Sequence[str]  # what is not there, in words

    @property
    def num_steps(self) -> int:
        return int(max((number(row, "step") or 0.0 for row in self.train), default=0.0))


def read_run(folder: RunFolder) -> RunRecords:
    """All records of a run. Nothing raises: a part that cannot be read is listed in `missing`."""
    missing: list[str] = []
    rows = _metrics(folder.metrics, missing)
    train, evals = (sorted(rows_of(rows, kind), key=_step) for kind in ("train", "eval"))
    last = int(_step(evals[-1])) if evals else 0
    training = sorted(folder.trajectories.glob("step_*.parquet"))
    no_config = "config.toml: there is none"
    return RunRecords(
        name=folder.path.resolve().name,
        train=_or_missing(train, "training steps in metrics.jsonl: there are none yet", missing),
        evals=_or_missing(evals, "evaluations in metrics.jsonl: there are none yet", missing),
        comparison=_comparison(folder.comparison, last, missing) if last else {},
        before=_scenarios(folder.evaluation(0), missing),
        after=_scenarios(folder.evaluation(last), missing) if last else (),
        start=_dialogues(folder.evaluation_dialogues(0), "before training", missing),
        end=_dialogues(folder.evaluation_dialogues(last), "after training", missing)
        if last
        else (),
        training=_dialogues(training[-1] if training else None, "of training", missing),
        config=_text(folder.config) or _or_missing("", no_config, missing),
        env=_json(folder.env, missing),
        missing=tuple(missing),
    )


def number(row: Row, key: str) -> float | None:
    """The finite number at `key`, None if there is none."""
    value = row.get(key)
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    return None


def series(rows: Sequence[Row], key: str) -> list[Point]:
    """(step, value) of the rows in which `key` is a finite number."""
    points = ((number(row, "step"), number(row, key)) for row in rows)
    return [(step, value) for step, value in points if step is not None and value is not None]


def suffixes(rows: Sequence[Row], prefix: str) -> list[str]:
    """What follows `prefix` in the names of metrics: numbers in their order, then words."""
    found = {key[len(prefix) :] for row in rows for key in row if key.startswith(prefix)}
    return sorted(found, key=lambda word: (0, int(word), "") if word.isdigit() else (1, 0, word))


def _step(row: Row) -> float:
    return number(row, "step") or 0.0


def _metrics(path: Path, missing: list[str]) -> list[dict[str, float | int | str | None]]:
    try:
        return read_metrics(path)
    except RecordError as error:
        missing.append(str(error))
    return _read(missing, lambda: read_metrics(path, allow_cut_tail=True)) if path.exists() else []


def _read(missing: list[str], read: Callable[[], list[T]]) -> list[T]:
    try:
        return read()
    except RecordError as error:
        if str(error) not in missing:
            missing.append(str(error))
        return []


def _or_missing(value: T, message: str, missing: list[str]) -> T:
    if not value:
        missing.append(message)
    return value


def _dialogues(path: Path | None, which: str, missing: list[str]) -> Sequence[Record]:
    if path is None or not path.exists():
        missing.append(f"dialogues {which} in trajectories/: none were saved")
        return ()
    return _read(missing, lambda: read_trajectories(path))


def _comparison(path: Path, last: int, missing: list[str]) -> Row:
    found = _json(path, missing)
    step = number(found, "step")
    if step is not None and step != last:
        missing.append(f"eval/comparison.json is of step {step:.0f}, the last evaluation of {last}")
        return {}
    return found


def _scenarios(path: Path, missing: list[str]) -> Sequence[Row]:
    rows = _json(path, missing).get("scenarios")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _json(path: Path, missing: list[str]) -> Row:
    text = _text(path)
    name = f"{path.parent.name}/{path.name}" if path.parent.name == "eval" else path.name
    if not text:
        missing.append(f"{name}: there is none")
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        missing.append(f"{name} is not JSON: {error}")
        return {}
    return found if isinstance(found, dict) else {}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
