"""Returns over turns, and an outcome divided among them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.advantages import (
    first_return,
    redistribute_direct,
    redistribute_to_go,
    reward_to_go,
    same_for_all_turns,
    turn_number,
)
from turnwise.credit import uniform_weights
from turnwise.errors import ConfigError, ShapeError

ROWS = st.lists(st.tuples(st.floats(-5, 5), st.booleans()), min_size=1, max_size=6)


def row(turns: list[tuple[float, bool]]) -> tuple[Tensor, Tensor]:
    """One dialogue; what is no turn holds a number that must not matter."""
    x_BK = tensor([[x if is_turn else 1e9 for x, is_turn in turns]], dtype=torch.float64)
    return x_BK, tensor([[is_turn for _, is_turn in turns]])


def test_reward_to_go_by_hand() -> None:
    # γ ½: 3; 2 + 1.5; 1 + 1.75
    reward_BK, is_turn_BK = tensor([[1.0, 2.0, 3.0]]), torch.ones(1, 3, dtype=torch.bool)
    assert_close(reward_to_go(reward_BK, is_turn_BK, discount=0.5), tensor([[2.75, 3.5, 3.0]]))
    assert_close(reward_to_go(reward_BK, is_turn_BK, discount=1.0), tensor([[6.0, 5.0, 3.0]]))
    assert_close(reward_to_go(reward_BK, is_turn_BK, discount=0.0), reward_BK)


def test_an_empty_turn_discounts_nothing() -> None:
    reward_BK = tensor([[7.0, 1.0, 99.0, 2.0]])
    is_turn_BK = tensor([[False, True, False, True]])
    return_BK = reward_to_go(reward_BK, is_turn_BK, discount=0.5)
    assert_close(return_BK, tensor([[0.0, 2.0, 0.0, 2.0]]))
    assert turn_number(is_turn_BK).tolist() == [[0, 0, 1, 1]]
    assert first_return(return_BK, is_turn_BK).tolist() == [2.0]


def test_a_batch_without_columns_has_no_returns() -> None:
    none_BK = torch.zeros(2, 0)
    assert reward_to_go(none_BK, none_BK.bool(), discount=1.0).shape == (2, 0)
    assert first_return(none_BK, none_BK.bool()).tolist() == [0.0, 0.0]


@settings(deadline=None, max_examples=60)
@given(turns=ROWS, discount=st.floats(0, 1), at=st.integers(0, 6))
def test_a_column_without_a_turn_anywhere_changes_nothing(
    turns: list[tuple[float, bool]], discount: float, at: int
) -> None:
    at = min(at, len(turns))
    there_BK = reward_to_go(*row(turns), discount=discount)
    padded_BK = reward_to_go(*row([*turns[:at], (0.0, False), *turns[at:]]), discount=discount)
    columns = [k for k in range(len(turns) + 1) if k != at]
    assert_close(padded_BK[:, columns], there_BK)
    assert padded_BK[0, at] == 0


@settings(deadline=None, max_examples=60)
@given(turns=ROWS, x=st.floats(-1, 1))
def test_redistribution_is_neutral_in_the_number_of_turns(
    turns: list[tuple[float, bool]], x: float
) -> None:
    raw_BK, is_turn_BK = row(turns)
    weight_BK = (raw_BK.abs() + 1e-3) * is_turn_BK
    weight_BK = weight_BK / weight_BK.sum(dim=1, keepdim=True).clamp(min=1e-9)
    x_B = tensor([x], dtype=torch.float64)
    direct_BK = redistribute_direct(x_B, weight_BK, is_turn_BK)
    if is_turn_BK.any():
        assert_close(direct_BK[is_turn_BK].mean(), x_B[0])
        to_go_BK = redistribute_to_go(x_B, weight_BK, is_turn_BK, discount=1.0)
        assert_close(first_return(to_go_BK, is_turn_BK), x_B)
    assert not direct_BK[~is_turn_BK].any()


def test_equal_weights_give_plain_leave_one_out() -> None:
    is_turn_BK = torch.arange(4) < tensor([[1], [2], [4]])
    x_B = tensor([0.5, -0.25, 1.0])
    direct_BK = redistribute_direct(x_B, uniform_weights(is_turn_BK), is_turn_BK)
    assert_close(direct_BK, same_for_all_turns(x_B, is_turn_BK))


def test_redistribution_to_go_by_hand() -> None:
    # Weights .5, .3, .2 with γ ½: .5 + .15 + .05; .3 + .1; .2
    weight_BK, is_turn_BK = tensor([[0.5, 0.3, 0.2]]), torch.ones(1, 3, dtype=torch.bool)
    to_go_BK = redistribute_to_go(tensor([2.0]), weight_BK, is_turn_BK, discount=0.5)
    assert_close(to_go_BK, tensor([[1.4, 0.8, 0.4]]))


def test_no_signal_gives_exactly_zero() -> None:
    is_turn_BK = torch.ones(1, 3, dtype=torch.bool)
    weight_BK = tensor([[0.7, 0.2, 0.1]])
    assert not redistribute_direct(torch.zeros(1), weight_BK, is_turn_BK).any()
    assert not redistribute_to_go(torch.zeros(1), weight_BK, is_turn_BK, discount=1.0).any()


@pytest.mark.parametrize("discount", [-0.1, 1.1, float("nan")])
def test_a_discount_outside_its_range_is_named(discount: float) -> None:
    with pytest.raises(ConfigError, match="discount"):
        reward_to_go(torch.zeros(1, 1), torch.ones(1, 1).bool(), discount=discount)


def test_arrays_of_different_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match="reward_BK"):
        reward_to_go(torch.zeros(1, 2), torch.ones(1, 1).bool(), discount=1.0)
