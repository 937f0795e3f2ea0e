"""What a job's observer shows: bars at a terminal, lines in a log, JSON for programs, or little.

Progress goes to stderr, so that stdout holds results alone; JSON events are results.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from turnwise.training.observer import Observer

LINE_EVERY_S = 10.0  # a log gets one line of a phase in this time


def as_text(metrics: dict[str, float]) -> str:
    """Numbers in a form that keeps its width: "reward 0.412  turns 3.10"."""
    return "  ".join(f"{name.replace('_per_s', '/s')} {_short(x)}" for name, x in metrics.items())


def _short(number: float) -> str:
    if abs(number) >= 100 or number == int(number):
        return f"{number:,.0f}"
    return f"{number:.3f}" if abs(number) < 10 else f"{number:.1f}"


@dataclass
class Bars:
    """Bars for a person at a terminal: phase, share done, newest numbers, time left."""

    progress: Progress
    _task: TaskID | None = None

    def phase(self, name: str, total: int | None = None) -> None:
        """A new bar; the one before it stays as it ended."""
        self.end()
        self._task = self.progress.add_task(name, total=total, numbers="")

    def advance(self, phase: str, by: int = 1, **metrics: float) -> None:
        """The bar moves; numbers that are not given stay."""
        if self._task is None:
            self.phase(phase)
        assert self._task is not None
        self.progress.advance(self._task, by)
        if metrics:
            self.progress.update(self._task, numbers=as_text(metrics))

    def message(self, text: str) -> None:
        """A line above the bars."""
        self.progress.console.print(text, markup=False, highlight=False)

    def warning(self, text: str) -> None:
        """A yellow line above the bars."""
        self.progress.console.print(f"warning: {text}", style="yellow", markup=False)

    def end(self) -> None:
        """The bar of the phase stops its clock; a phase without a known total is done now."""
        if self._task is None:
            return
        task = next(one for one in self.progress.tasks if one.id == self._task)
        if task.total is None:
            self.progress.update(
                self._task, total=max(task.completed, 1), completed=task.completed or 1
            )
        self.progress.stop_task(self._task)


@dataclass
class Lines:
    """Plain lines for a log: one when a phase begins, then one every few seconds."""

    stream: TextIO
    every_s: float = LINE_EVERY_S
    _total: int | None = None
    _done: int = 0
    _next_s: float = 0.0

    def phase(self, name: str, total: int | None = None) -> None:
        """A line, and the clock starts anew."""
        self._total, self._done = total, 0
        self._next_s = time.monotonic() + self.every_s
        self._write(f"{name} ..." if total is None else f"{name}: {total} steps")

    def advance(self, phase: str, by: int = 1, **metrics: float) -> None:
        """A line if it is time for one, or the phase is done."""
        self._done += by
        if self._done == self._total or time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + self.every_s
            share = f"{self._done}/{self._total}" if self._total else str(self._done)
            self._write(f"{phase}: {share}  {as_text(metrics)}".rstrip())

    def message(self, text: str) -> None:
        """The line itself."""
        self._write(text)

    def warning(self, text: str) -> None:
        """The line, marked."""
        self._write(f"warning: {text}")

    def _write(self, line: str) -> None:
        self.stream.write(line + "\n")
        self.stream.flush()


@dataclass
class JsonLines:
    """One JSON object per event, for programs: {"event": "advance", "phase": ..., ...}."""

    stream: TextIO
    _start_s: float = field(default_factory=time.monotonic)

    def phase(self, name: str, total: int | None = None) -> None:
        """{"event": "phase", "phase": name, "total": total}"""
        self.event("phase", phase=name, total=total)

    def advance(self, phase: str, by: int = 1, **metrics: float) -> None:
        """{"event": "advance", "phase": phase, "by": by, "metrics": {...}}; not finite = null"""
        numbers = {name: x if isfinite(x) else None for name, x in metrics.items()}
        self.event("advance", phase=phase, by=by, metrics=numbers)

    def message(self, text: str) -> None:
        """{"event": "message", "text": text}"""
        self.event("message", text=text)

    def warning(self, text: str) -> None:
        """{"event": "warning", "text": text}"""
        self.event("warning", text=text)

    def event(self, name: str, **values: object) -> None:
        """One line; `elapsed_s` counts from the start of the job."""
        row = {"event": name, "elapsed_s": round(time.monotonic() - self._start_s, 3)} | values
        self.stream.write(json.dumps(row, default=str) + "\n")
        self.stream.flush()


@dataclass
class Quiet:
    """Warnings only."""

    stream: TextIO

    def phase(self, name: str, total: int | None = None) -> None:
        """Nothing is shown."""

    def advance(self, phase: str, by: int = 1, **metrics: float) -> None:
        """Nothing is shown."""

    def message(self, text: str) -> None:
        """Nothing is shown."""

    def warning(self, text: str) -> None:
        """A line."""
        self.stream.write(f"warning: {text}\n")


@contextmanager
def watching(*, quiet: bool = False, json: bool = False) -> Iterator[Observer]:
    """The observer that fits the options and where stderr goes; bars are cleaned up at the end."""
    if json:
        yield JsonLines(sys.stdout)
    elif quiet:
        yield Quiet(sys.stderr)
    elif not sys.stderr.isatty():
        yield Lines(sys.stderr)
    else:
        with _bars() as progress:
            bars = Bars(progress)
            yield bars
            bars.end()


@contextmanager
def working(text: str) -> Iterator[None]:
    """A spinner at a terminal for a job that nobody watches step by step; nothing in a log."""
    with Console(stderr=True).status(text):
        yield


def _bars() -> Progress:
    return Progress(
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
        console=Console(stderr=True),
    )
