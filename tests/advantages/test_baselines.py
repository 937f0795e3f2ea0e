"""Turn baselines: numbers by hand, and laws that hold for all of them."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.advantages import (
    leave_one_out,
    loo_total,
    loo_turn_index,
    own_turn,
    reward_to_go,
    standardised_returns,
    turn_index_reward_centring,
)
from turnwise.credit import token_returns

Baseline = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
BASELINES: list[Baseline] = [
    loo_total,
    loo_turn_index,
    own_turn,
    standardised_returns,
    turn_index_reward_centring,
]
# Groups 0 and 1 with three and two siblings, and one dialogue that was not judged.
IS_TURN_BK = torch.arange(3) < tensor([[3], [1], [2], [3], [2], [1]])
GROUP_B = tensor([0, 1, 0, 1, 0, 1])
VALID_B = tensor([True, True, True, True, True, False])
SEEDS = st.integers(0, 2**31)


def returns(seed: int) -> Tensor:
    """Random numbers; NaN where the dialogue is not valid or there is no turn."""
    noise_BK = torch.randn(6, 3, generator=torch.Generator().manual_seed(seed)).double()
    return torch.where(IS_TURN_BK & VALID_B.unsqueeze(1), noise_BK, math.nan)


def test_own_turn_by_hand() -> None:
    # Two siblings: each minus the other; turn 2 of the longer one minus 0.
    reward_BK = tensor([[1.0, 3.0], [0.5, 0.0]])
    is_turn_BK = tensor([[True, True], [True, False]])
    args = is_turn_BK, tensor([0, 0]), tensor([True, True])
    assert_close(own_turn(reward_BK, *args), tensor([[0.5, 3.0], [-0.5, 0.0]]))
    return_BK = reward_to_go(reward_BK, is_turn_BK, discount=0.0)
    assert_close(loo_turn_index(return_BK, *args), own_turn(reward_BK, *args))


def test_standardised_returns_by_hand() -> None:
    # Totals 2 and 1: mean 1.5, std √.5
    return_BK = tensor([[2.0, 0.5], [1.0, 0.0]])
    is_turn_BK = tensor([[True, True], [True, False]])
    out_BK = standardised_returns(return_BK, is_turn_BK, tensor([4, 4]), tensor([True, True]))
    assert_close(out_BK, tensor([[0.5, -1.0], [-0.5, 0.0]]) / math.sqrt(0.5))


def test_returns_of_equal_totals_are_exactly_silent_when_standardised() -> None:
    return_BK = tensor([[1.0, 0.25], [1.0, 0.75]])
    args = torch.ones(2, 2).bool(), tensor([0, 0]), tensor([True, True])
    assert not standardised_returns(return_BK, *args).any()


def test_tokens_in_place_of_turns_give_the_baseline_of_prime() -> None:
    # Token rewards (1, –, 2) and (.5, –, –): totals 3 and .5
    reward_BT = tensor([[1.0, 9.0, 2.0], [0.5, 9.0, 9.0]])
    turn_BT = tensor([[0, -1, 1], [0, -1, -1]])
    return_BT = token_returns(reward_BT, turn_BT)
    assert_close(return_BT, tensor([[3.0, 0.0, 2.0], [0.5, 0.0, 0.0]]))
    advantage_BT = loo_total(return_BT, turn_BT >= 0, tensor([0, 0]), tensor([True, True]))
    assert_close(advantage_BT, tensor([[2.5, 0.0, 1.5], [-2.5, 0.0, 0.0]]))


def test_with_one_turn_every_leave_one_out_is_the_same() -> None:
    x_B = tensor([0.1, 0.9, 0.4], dtype=torch.float64)
    group_B, valid_B = tensor([2, 2, 2]), torch.ones(3, dtype=torch.bool)
    expected_B1 = leave_one_out(x_B, group_B, valid_B).unsqueeze(1)
    for baseline in (loo_total, loo_turn_index, own_turn):
        out_B1 = baseline(x_B.unsqueeze(1), torch.ones(3, 1).bool(), group_B, valid_B)
        assert_close(out_B1, expected_B1)


@pytest.mark.parametrize("baseline", BASELINES)
@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, order=st.permutations(range(6)))
def test_order_of_rows_does_not_matter(baseline: Baseline, seed: int, order: list[int]) -> None:
    x_BK = returns(seed)
    out_BK = baseline(x_BK, IS_TURN_BK, GROUP_B, VALID_B)[order]
    shuffled = x_BK[order], IS_TURN_BK[order], -9 * GROUP_B[order], VALID_B[order]
    assert_close(baseline(*shuffled), out_BK, atol=1e-12, rtol=0)


@pytest.mark.parametrize("baseline", BASELINES)
@settings(deadline=None, max_examples=25)
@given(seed=SEEDS)
def test_invalid_rows_and_absent_turns_get_zero_and_do_no_harm(
    baseline: Baseline, seed: int
) -> None:
    x_BK = returns(seed)
    out_BK = baseline(x_BK, IS_TURN_BK, GROUP_B, VALID_B)
    assert not out_BK[~VALID_B].any() and not out_BK[~IS_TURN_BK].any()
    kept = x_BK[VALID_B], IS_TURN_BK[VALID_B], GROUP_B[VALID_B], VALID_B[VALID_B]
    assert_close(baseline(*kept), out_BK[VALID_B])
    assert out_BK[VALID_B][:, 0].all()


@pytest.mark.parametrize("baseline", BASELINES)
@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, at=st.integers(0, 3), row=st.integers(0, 5))
def test_turns_are_counted_and_not_columns(
    baseline: Baseline, seed: int, at: int, row: int
) -> None:
    # One dialogue has an empty turn in the middle: its turns stand one column later than others'.
    x_BK = returns(seed)
    wide_BK = torch.nn.functional.pad(x_BK, (0, 1), value=math.nan)
    wide_turn_BK = torch.nn.functional.pad(IS_TURN_BK, (0, 1))
    columns = [*range(at), 3, *range(at, 3)]
    wide_BK[row], wide_turn_BK[row] = wide_BK[row, columns], wide_turn_BK[row, columns]
    out_BK = baseline(wide_BK, wide_turn_BK, GROUP_B, VALID_B)
    out_BK[row] = out_BK[row].clone()[[k for k in range(4) if k != at] + [at]]
    expected_BK = baseline(x_BK, IS_TURN_BK, GROUP_B, VALID_B)
    assert_close(out_BK[:, :3], expected_BK, atol=1e-12, rtol=0)


@pytest.mark.parametrize("baseline", BASELINES)
def test_a_dialogue_without_siblings_gets_zero(baseline: Baseline) -> None:
    out_BK = baseline(returns(0), IS_TURN_BK, torch.arange(6), VALID_B)
    assert not out_BK.any()


def test_discounted_centring_accumulates_with_the_discount() -> None:
    # Centred rewards ±.5 at both turns; γ ½
    reward_BK = tensor([[1.0, 1.0], [0.0, 0.0]])
    args = torch.ones(2, 2).bool(), tensor([0, 0]), tensor([True, True])
    out_BK = turn_index_reward_centring(reward_BK, *args, discount=0.5)
    assert_close(out_BK, tensor([[0.75, 0.5], [-0.75, -0.5]]))
