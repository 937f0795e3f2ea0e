"""Generalised advantages over turns and over written tokens."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor
from torch.testing import assert_close

from turnwise.advantages import gae_over_tokens, gae_over_turns, reward_to_go
from turnwise.errors import ConfigError


@pytest.mark.parametrize(
    ("discount", "turn_lambda", "expected"),
    [(1.0, 0.9, [0.433, 0.37, 0.3]), (0.9, 0.95, [0.284958, 0.2865, 0.3])],
)
def test_gae_over_turns_by_hand(discount: float, turn_lambda: float, expected: list[float]) -> None:
    # γ 1, λ .9: δ = (.1, .1, .3); .3; .1 + .27; .1 + .333
    reward_BK, value_BK = tensor([[0.0, 0.0, 1.0]]), tensor([[0.5, 0.6, 0.7]])
    is_turn_BK = torch.ones(1, 3, dtype=torch.bool)
    out_BK = gae_over_turns(
        reward_BK, value_BK, is_turn_BK, discount=discount, turn_lambda=turn_lambda
    )
    assert_close(out_BK, tensor([expected]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("turn_BT", "turn_lambda", "expected"),
    [
        ([0, 0, -1, -1, 1, 1], 1.0, [0.8, 0.6, 0, 0, 0.5, 0.4]),
        # Every token a turn of its own: λ acts everywhere.
        ([0, 1, -1, -1, 2, 3], 0.5, [0.325, 0.25, 0, 0, 0.3, 0.4]),
        # λ at the end of the turn only: .4; .1 + .4; .1 + ½·.5; .2 + .35
        ([0, 0, -1, -1, 1, 1], 0.5, [0.55, 0.35, 0, 0, 0.5, 0.4]),
    ],
)
def test_gae_over_tokens_jumps_over_user_text(
    turn_BT: list[int], turn_lambda: float, expected: list[float]
) -> None:
    value_BT = tensor([[0.2, 0.4, 99.0, math.nan, 0.5, 0.6]])
    reward_BT = tensor([[0.0, 0.0, math.nan, 99.0, 0.0, 1.0]])
    out_BT = gae_over_tokens(
        reward_BT, value_BT, tensor([turn_BT]), discount=1.0, turn_lambda=turn_lambda
    )
    assert_close(out_BT, tensor([expected]))


def test_the_discount_acts_where_a_turn_ends() -> None:
    # V = 0, λ = 1: the last reward, halved once on the way into the first turn
    value_BT, turn_BT = torch.zeros(1, 4), tensor([[0, 0, 1, 1]])
    reward_BT = tensor([[0.0, 0.0, 0.0, 1.0]])
    out_BT = gae_over_tokens(reward_BT, value_BT, turn_BT, discount=0.5, turn_lambda=1.0)
    assert_close(out_BT, tensor([[0.5, 0.5, 1.0, 1.0]]))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), discount=st.floats(0, 1))
def test_with_full_trace_it_is_the_return_minus_the_value(seed: int, discount: float) -> None:
    random = torch.Generator().manual_seed(seed)
    reward_BK = torch.randn(3, 5, dtype=torch.float64, generator=random)
    value_BK = torch.randn(3, 5, dtype=torch.float64, generator=random)
    is_turn_BK = torch.rand(3, 5, generator=random) < 0.7
    out_BK = gae_over_turns(reward_BK, value_BK, is_turn_BK, discount=discount, turn_lambda=1.0)
    return_BK = reward_to_go(reward_BK, is_turn_BK, discount=discount)
    assert_close(out_BK, torch.where(is_turn_BK, return_BK - value_BK, 0.0))


def test_without_trace_it_is_each_turns_own_change() -> None:
    # V .5, .6, .7 and an empty column; γ .9: .1 + .54 − .5; 0 + .63 − .6; 1 + 0 − .7
    reward_BK, value_BK = tensor([[0.1, 0.0, 9.0, 1.0]]), tensor([[0.5, 0.6, math.nan, 0.7]])
    is_turn_BK = tensor([[True, True, False, True]])
    out_BK = gae_over_turns(reward_BK, value_BK, is_turn_BK, discount=0.9, turn_lambda=0.0)
    assert_close(out_BK, tensor([[0.14, 0.03, 0.0, 0.3]]))


def test_a_batch_without_tokens_has_no_advantages() -> None:
    none_BT = torch.zeros(2, 0)
    out_BT = gae_over_tokens(none_BT, none_BT, none_BT.long(), discount=1.0, turn_lambda=1.0)
    assert out_BT.shape == (2, 0)
    unwritten_BT = torch.full((1, 2), -1)
    value_BT = torch.ones(1, 2)
    out_BT = gae_over_tokens(value_BT, value_BT, unwritten_BT, discount=1.0, turn_lambda=1.0)
    assert not out_BT.any()


@pytest.mark.parametrize(("discount", "turn_lambda"), [(1.5, 1.0), (1.0, -0.5)])
def test_factors_outside_their_range_are_named(discount: float, turn_lambda: float) -> None:
    one = torch.ones(1, 1)
    name = "discount" if discount > 1 else "turn_lambda"
    with pytest.raises(ConfigError, match=name):
        gae_over_turns(one, one, one > 0, discount=discount, turn_lambda=turn_lambda)
    with pytest.raises(ConfigError, match=name):
        gae_over_tokens(one, one, one.long(), discount=discount, turn_lambda=turn_lambda)
