"""A judge's numbers become weights, or equal shares where they cannot be used."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor
from torch.testing import assert_close

from turnwise.credit import judge_weights
from turnwise.errors import ShapeError

NAN = math.nan


def test_weights_by_hand() -> None:
    score_BK = tensor([[1.0, 3.0, 0.0], [2.0, 2.0, NAN]])
    is_turn_BK = tensor([[True, True, True], [True, True, False]])
    weight_BK, is_valid_B = judge_weights(score_BK, is_turn_BK, tensor([1.0, 0.0]))
    assert_close(weight_BK, tensor([[0.25, 0.75, 0.0], [0.5, 0.5, 0.0]]))
    assert is_valid_B.tolist() == [True, True]


@pytest.mark.parametrize(
    ("scores", "outcome"),
    [
        ([NAN, NAN, NAN], 1.0),  # no usable answer, or one for another number of turns
        ([0.5, NAN, 0.5], 1.0),
        ([0.5, -0.1, 0.5], 1.0),
        ([0.5, math.inf, 0.5], 1.0),
        ([0.0, 0.0, 0.0], 0.0),
        ([0.0, 0.0, 0.7], 1.0),  # the outcome once more
        ([0.0, 0.0, 0.7], 0.3),
    ],
)
def test_an_answer_that_cannot_be_used_gives_equal_shares(
    scores: list[float], outcome: float
) -> None:
    score_BK, every_BK = tensor([scores]), torch.ones(1, 3).bool()
    weight_BK, is_valid_B = judge_weights(score_BK, every_BK, tensor([outcome]))
    assert_close(weight_BK, torch.full((1, 3), 1 / 3))
    assert is_valid_B.tolist() == [False]


def test_the_end_alone_may_be_named_after_a_failure_or_in_a_dialogue_of_one_turn() -> None:
    score_BK = tensor([[0.0, 0.0, 0.7], [0.4, NAN, NAN], [NAN, NAN, NAN]])
    is_turn_BK = tensor([[True] * 3, [True, False, False], [False] * 3])
    weight_BK, is_valid_B = judge_weights(score_BK, is_turn_BK, tensor([0.0, 1.0, 1.0]))
    assert weight_BK.tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert is_valid_B.tolist() == [True, True, False]


def test_very_large_and_very_small_scores_keep_their_proportions() -> None:
    score_BK = tensor([[3e38, 3e38, 3e38], [1e-38, 1e-38, 2e-38]])
    weight_BK, is_valid_B = judge_weights(score_BK, torch.ones(2, 3).bool(), torch.ones(2))
    assert_close(weight_BK, tensor([[1 / 3, 1 / 3, 1 / 3], [0.25, 0.25, 0.5]]))
    assert is_valid_B.all()


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.lists(st.floats(0, 10), min_size=4, max_size=4), min_size=1, max_size=5),
    unit=st.floats(0.1, 100),
    outcome=st.sampled_from([0.0, 1.0]),
)
def test_rows_sum_to_one_and_the_unit_of_scores_does_not_matter(
    rows: list[list[float]], unit: float, outcome: float
) -> None:
    score_BK = tensor([[round(v, 2) for v in row] for row in rows], dtype=torch.float64)
    every_BK, outcome_B = torch.ones_like(score_BK).bool(), torch.full((len(rows),), outcome)
    weight_BK, is_valid_B = judge_weights(score_BK, every_BK, outcome_B)
    assert_close(weight_BK.sum(dim=1), torch.ones(len(rows), dtype=torch.float64))
    again_BK, again_B = judge_weights(unit * score_BK, every_BK, outcome_B)
    assert_close(again_BK, weight_BK)
    assert torch.equal(again_B, is_valid_B)


def test_scores_of_another_number_of_turns_are_refused() -> None:
    with pytest.raises(ShapeError, match="score_BK"):
        judge_weights(torch.ones(1, 2), torch.ones(1, 3).bool(), torch.ones(1))
