"""`metrics.jsonl`: one JSON object a line, appended as a run goes on.

Every row has "step" and "kind" ("train" or "eval"). Names with a slash are numbers; a number that
is not finite is written as null, because JSON has no other word for it.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from turnwise.errors import RecordError
from turnwise.records.atomic import refused, write_text_atomically

Value = float | int | str | None
Row = dict[str, Value]


def append_metrics(path: Path, row: Mapping[str, Value]) -> None:
    """Add one line and hand it to the system; the file is made if there is none.

    Raises RecordError for a value that is not a number, text or None, and if the last line of the
    file was cut (a row glued to it would be lost); RunFolderError if the system refuses, with the
    file as it was.
    """
    line = (_line(row) + "\n").encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            _check_whole(path, size)
            _append_whole(file.fileno(), line, size)
    except OSError as error:
        raise refused(path, error) from error


def read_metrics(path: Path, *, allow_cut_tail: bool = False) -> list[Row]:
    """All rows of a metrics file in the order they were written.

    allow_cut_tail: leave out a last line that was cut while being written, as a killed run
    leaves it.
    Raises RecordError if there is no such file, or naming the first line that is not a row.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise RecordError(
            f"expected metrics at {path}, found no file; is this the folder of a run?"
        ) from error
    *lines, tail = text.split(b"\n")
    rows = [_row(path, number, line) for number, line in enumerate(lines, start=1)]
    if tail and not allow_cut_tail:
        raise RecordError(
            f"line {len(lines) + 1} of {path} was cut while it was being written "
            f"({len(tail)} bytes, no line end); resuming the run drops it"
        )
    return rows


def keep_metrics_up_to(path: Path, step: int) -> None:
    """Drop the rows after `step`, and a cut last line: a resumed run writes them again.

    A missing file stays missing. Raises RecordError for a broken line before the last.
    """
    if not path.exists():
        return
    rows = read_metrics(path, allow_cut_tail=True)
    kept = [row for row in rows if _step(path, row) <= step]
    write_text_atomically(path, "".join(_line(row) + "\n" for row in kept))


def rows_of(rows: Sequence[Row], kind: str) -> list[Row]:
    """The rows of one kind, "train" or "eval"."""
    return [row for row in rows if row.get("kind") == kind]


def _line(row: Mapping[str, Value]) -> str:
    plain: Row = {}
    for key, value in row.items():
        if value is not None and not isinstance(value, (float, int, str)):
            raise RecordError(
                f"expected a number, text or None as metric {key!r}, got "
                f"{type(value).__name__} {value!r}; convert it with float()"
            )
        plain[key] = None if isinstance(value, float) and not math.isfinite(value) else value
    return json.dumps(plain, ensure_ascii=False, allow_nan=False)


def _check_whole(path: Path, size: int) -> None:
    if size == 0:
        return
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            raise RecordError(
                f"the last line of {path} was cut while it was being written; drop it with "
                "keep_metrics_up_to before adding rows, as resuming does"
            )


def _append_whole(descriptor: int, line: bytes, size: int) -> None:
    try:
        written = 0
        while written < len(line):
            written += os.write(descriptor, line[written:])
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _row(path: Path, number: int, line: bytes) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise RecordError(
            f"line {number} of {path} is not JSON ({error}); the file was damaged after it was "
            "written, remove that line to read the rest"
        ) from error
    if not isinstance(row, dict):
        raise RecordError(
            f"line {number} of {path} is not a JSON object but {type(row).__name__}; remove it "
            "to read the rest"
        )
    return row


def _step(path: Path, row: Row) -> float:
    step = row.get("step")
    if not isinstance(step, (int, float)):
        raise RecordError(f'expected a number as "step" in every row of {path}, found {step!r}')
    return step
