"""Rows of metrics come back as they were written, and a cut line is never half believed."""

import math
import resource
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.errors import RecordError, RunFolderError
from turnwise.records import append_metrics, keep_metrics_up_to, read_metrics, rows_of

values = st.none() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, width=64) | st.text()
rows = st.dictionaries(st.text(min_size=1), values, max_size=5)


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """The system refuses to let a file grow beyond `num_bytes`, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@given(table=st.lists(rows, max_size=4))
@settings(deadline=None)
def test_rows_come_back_in_order(table: list[dict[str, float | int | str | None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        path.touch()
        for row in table:
            append_metrics(path, row)
        expected = [
            {k: None if isinstance(v, float) and math.isinf(v) else v for k, v in row.items()}
            for row in table
        ]
        assert read_metrics(path) == expected


def test_a_number_that_is_not_finite_is_null(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_metrics(path, {"step": 1, "entropy": math.nan, "kl/reference": math.inf})
    assert path.read_text() == '{"step": 1, "entropy": null, "kl/reference": null}\n'


def test_a_value_that_is_no_number_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="metric 'turns'.*list"):
        append_metrics(tmp_path / "metrics.jsonl", {"turns": [1]})  # type: ignore[dict-item]  # the mistake under test


def test_a_cut_last_line_is_named_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in range(3):
        append_metrics(path, {"step": step})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(RecordError, match="line 3 of .*was cut"):
        read_metrics(path)
    assert read_metrics(path, allow_cut_tail=True) == [{"step": 0}, {"step": 1}]


def test_no_row_is_glued_to_a_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "rew')
    with pytest.raises(RecordError, match="was cut"):
        append_metrics(path, {"step": 2})
    keep_metrics_up_to(path, 10)
    append_metrics(path, {"step": 2})
    assert read_metrics(path) == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize("line", ["{not json}", "[1, 2]"])
def test_a_broken_line_in_the_middle_is_named_whatever_is_allowed(
    tmp_path: Path, line: str
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n' + line + '\n{"step": 3}\n')
    with pytest.raises(RecordError, match="line 2 of"):
        read_metrics(path, allow_cut_tail=True)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="found no file"):
        read_metrics(tmp_path / "metrics.jsonl")


def test_resuming_keeps_what_the_checkpoint_knows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in range(6):
        append_metrics(path, {"step": step, "kind": "train"})
    append_metrics(path, {"step": 3, "kind": "eval"})
    keep_metrics_up_to(path, 3)
    kept = read_metrics(path)
    assert [row["step"] for row in kept] == [0, 1, 2, 3, 3]
    assert [row["step"] for row in rows_of(kept, "eval")] == [3]


def test_resuming_without_metrics_writes_none(tmp_path: Path) -> None:
    keep_metrics_up_to(tmp_path / "metrics.jsonl", 3)
    assert list(tmp_path.iterdir()) == []


def test_a_row_without_a_step_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_metrics(path, {"reward/mean": 1.0})
    with pytest.raises(RecordError, match="step"):
        keep_metrics_up_to(path, 3)


def test_a_full_disk_leaves_the_rows_before_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_metrics(path, {"step": 1})
    with files_of_at_most(20), pytest.raises(RunFolderError, match="could not write"):
        append_metrics(path, {"step": 2, "note": "longer than what is left"})
    append_metrics(path, {"step": 2})
    assert read_metrics(path) == [{"step": 1}, {"step": 2}]
