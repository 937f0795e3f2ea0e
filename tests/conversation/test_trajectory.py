"""A dialogue's spans and outcome are what they say, or it is not built."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis.strategies import floats

from turnwise.conversation import Ending, Message, Outcome, Trajectory, Turn
from turnwise.conversation.trajectory import is_trainable
from turnwise.errors import OutcomeError, TokensError


def turn(start: int, stop: int) -> Turn:
    return Turn(start, stop, (-0.5,) * (stop - start), "stop")


def trajectory(
    *turns: Turn, score: float | None = 1.0, ending: Ending = Ending.TASK_DONE
) -> Trajectory:
    said = (Message("user", "a"), Message("assistant", "b"))
    return Trajectory("t-1", "g", 0, said, tuple(range(10)), turns, Outcome(score), ending)


@given(score=floats(0.0, 1.0))
def test_an_outcome_is_kept_as_it_is(score: float) -> None:
    assert Outcome(score).score == score


@pytest.mark.parametrize("score", [-0.001, 1.001, math.nan, math.inf, -math.inf])
def test_an_outcome_outside_the_range_is_refused_and_never_clamped(score: float) -> None:
    with pytest.raises(OutcomeError, match="never clamped"):
        Outcome(score)


def test_not_judged_is_none_and_no_zero() -> None:
    assert Outcome(None).score is None
    assert not is_trainable(trajectory(turn(1, 3), score=None))
    assert is_trainable(trajectory(turn(1, 3), score=0.0))


def test_a_failed_dialogue_or_one_without_a_token_teaches_nothing() -> None:
    assert not is_trainable(trajectory(turn(1, 3), ending=Ending.SPEAKER_FAILED))
    assert not is_trainable(trajectory())
    assert not is_trainable(trajectory(turn(2, 2)))


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2)])
def test_a_span_runs_forwards(start: int, stop: int) -> None:
    with pytest.raises(TokensError, match="0 <= start <= stop"):
        Turn(start, stop, (), "stop")


def test_a_turn_has_one_log_probability_a_token() -> None:
    with pytest.raises(TokensError, match="3 tokens has 2"):
        Turn(1, 4, (-1.0, -1.0), "stop")


def test_turns_neither_overlap_nor_leave_the_dialogue() -> None:
    trajectory(turn(1, 3), turn(3, 10))  # they may touch
    with pytest.raises(TokensError, match="turn 1 of t-1"):
        trajectory(turn(1, 4), turn(3, 5))
    with pytest.raises(TokensError, match="turn 0 of t-1"):
        trajectory(turn(1, 11))


def test_only_limits_truncate() -> None:
    truncated = {ending for ending in Ending if ending.is_truncated}
    assert truncated == {Ending.TURN_LIMIT, Ending.TOKEN_LIMIT}


def test_a_turn_is_found_behind_what_an_opening_lets_the_assistant_say() -> None:
    said = tuple(Message("assistant" if i % 2 else "user", str(i)) for i in range(6))
    two = replace(trajectory(turn(3, 4), turn(6, 8)), conversation=said)
    assert two.message_of_turn == [3, 5]
    assert trajectory().message_of_turn == []
