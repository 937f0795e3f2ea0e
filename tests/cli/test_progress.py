"""What observers show: never anything on stdout but JSON."""

import io
import json

import pytest
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn

from turnwise.cli.progress import Bars, JsonLines, Lines, Quiet, as_text, watching
from turnwise.training.observer import Observer, Silent


def play(observer: Observer) -> None:
    observer.phase("warm start", 2)
    observer.advance("warm start", reward=0.25, turns=3.0)
    observer.advance("warm start", reward=0.5, turns=3.5)
    observer.message("the model is cached")
    observer.phase("evaluate")
    observer.advance("evaluate", 3)
    observer.warning("half of the groups have no signal")


def test_a_silent_observer_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    play(Silent())
    assert capsys.readouterr() == ("", "")


def test_json_lines_hold_every_event() -> None:
    stream = io.StringIO()
    play(JsonLines(stream))
    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [row["event"] for row in rows] == [
        "phase", "advance", "advance", "message", "phase", "advance", "warning",
    ]  # fmt: skip
    assert rows[2]["metrics"] == {"reward": 0.5, "turns": 3.5}
    assert rows[5]["by"] == 3


def test_a_number_that_is_not_finite_is_null_in_json() -> None:
    stream = io.StringIO()
    JsonLines(stream).advance("train", kl=float("nan"), reward=1.0)
    assert json.loads(stream.getvalue())["metrics"] == {"kl": None, "reward": 1.0}


def test_a_quiet_observer_keeps_its_warnings() -> None:
    stream = io.StringIO()
    play(Quiet(stream))
    assert stream.getvalue() == "warning: half of the groups have no signal\n"


def test_a_log_gets_the_end_of_a_phase_but_not_every_step() -> None:
    stream = io.StringIO()
    play(Lines(stream, every_s=1000.0))
    assert stream.getvalue().splitlines() == [
        "warm start: 2 steps",
        "warm start: 2/2  reward 0.500  turns 3.500",
        "the model is cached",
        "evaluate ...",
        "warning: half of the groups have no signal",
    ]


def test_a_log_gets_every_step_that_takes_its_time() -> None:
    stream = io.StringIO()
    lines = Lines(stream, every_s=0.0)
    lines.phase("train", 9)
    lines.advance("train")
    assert stream.getvalue().splitlines()[-1] == "train: 1/9"


def test_bars_show_phase_share_and_numbers() -> None:
    stream = io.StringIO()
    columns = (TextColumn("{task.description}"), MofNCompleteColumn())
    numbers = TextColumn("{task.fields[numbers]}")
    console = Console(file=stream, force_terminal=True, width=100)
    with Progress(*columns, numbers, console=console) as progress:
        bars = Bars(progress)
        play(bars)
        bars.message("[bold]not markup[/bold]")
        bars.end()
    text = stream.getvalue()
    assert "warm start" in text
    assert "2/2" in text
    assert "reward 0.500" in text
    assert "[bold]not markup[/bold]" in text
    assert all(task.finished for task in progress.tasks)


def test_numbers_keep_a_readable_width() -> None:
    metrics = {"reward": 0.41234, "turns": 12.345, "tokens_per_s": 12345.6, "step": 3.0}
    assert as_text(metrics) == "reward 0.412  turns 12.3  tokens/s 12,346  step 3"


def test_progress_never_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with watching() as observer:
        play(observer)
    out, err = capsys.readouterr()
    assert out == ""
    assert "warm start: 2/2" in err
