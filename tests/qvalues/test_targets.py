"""Targets of Q by hand: where the outcome is paid, which steps have one, one sweep of FQE."""

import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from turnwise.advantages import reward_to_go
from turnwise.errors import ShapeError
from turnwise.qvalues import (
    fqe_target,
    has_monte_carlo_target,
    rewards_with_outcome,
)

STEPS = tensor([[True, True, True], [True, True, False], [False, False, False]])


def test_the_outcome_is_paid_on_the_last_step() -> None:
    reward = tensor([[0.0, 0.1, 0.2], [0.0, 0.0, 9.0], [9.0, 9.0, 9.0]])
    found = rewards_with_outcome(reward, tensor([1.0, 0.5, 0.7]), STEPS)
    assert_close(found, tensor([[0.0, 0.1, 1.2], [0.0, 0.5, 0.0], [0.0, 0.0, 0.0]]))


def test_a_return_shrinks_once_per_turn_on_its_way_to_the_start() -> None:
    paid = rewards_with_outcome(torch.zeros(1, 3), tensor([1.0]), STEPS[:1])
    assert_close(reward_to_go(paid, STEPS[:1], discount=0.9), tensor([[0.81, 0.9, 1.0]]))


def test_an_unknown_outcome_is_never_a_zero() -> None:
    paid = rewards_with_outcome(torch.zeros(1, 3), tensor([math.nan]), STEPS[:1])
    assert reward_to_go(paid, STEPS[:1], discount=0.9).isnan().all()


def test_a_return_counts_where_the_policy_alone_went_on() -> None:
    steps = torch.ones(4, 3, dtype=torch.bool)
    on_policy = tensor(
        [[True, True, True], [True, False, True], [False, True, True], [True, True, True]]
    )
    found = has_monte_carlo_target(steps, on_policy, tensor([False, False, False, True]))
    # Row 1 deviates at its second step: from there on. Row 2 at its first: everywhere. Row 3 is
    # censored: nowhere.
    assert found.tolist() == [[True] * 3, [False, True, True], [True] * 3, [False] * 3]


def test_a_foreign_step_that_does_not_exist_hides_nothing() -> None:
    on_policy = tensor([[True, True, False]])
    found = has_monte_carlo_target(STEPS[1:2], on_policy, tensor([False]))
    assert found.tolist() == [[True, True, False]]


def test_one_step_of_fitted_q_evaluation_by_hand() -> None:
    # .1 + .9·(.4 + .6)/2 = .55; on the last step the reward alone, whatever stands behind it.
    next_value = tensor([[[0.4, 0.6], [math.nan, math.nan]]]).mean(dim=2)
    found = fqe_target(tensor([[0.1, 0.1]]), next_value, tensor([[False, True]]), discount=0.9)
    assert_close(found, tensor([[0.55, 0.1]]))
    with pytest.raises(ShapeError):
        fqe_target(torch.zeros(1, 2), torch.zeros(2), torch.zeros(1, 2), discount=0.9)
