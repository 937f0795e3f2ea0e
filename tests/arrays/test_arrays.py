"""Sums over turns and the way back to tokens."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.arrays import (
    last_turn,
    place_at_turn_ends,
    spread_to_tokens,
    turn_end,
    turn_length,
    turn_sum,
)
from turnwise.errors import ShapeError

# Two turns that touch; a turn split by a tool result; a turn index that no token has.
TURN_BT = tensor([[-1, 0, 0, 1, -1, -1], [0, -1, 0, 2, 2, -1]])
X_BT = tensor([[math.nan, 1.0, 2.0, 4.0, 9.0, math.inf], [1.0, 9.0, 2.0, 4.0, 8.0, 9.0]])
SHAPES = st.tuples(st.integers(0, 4), st.integers(0, 9))


def turns(seed: int, shape: tuple[int, int]) -> Tensor:
    return torch.randint(-1, 4, shape, generator=torch.Generator().manual_seed(seed))


def test_sums_lengths_and_ends_by_hand() -> None:
    assert turn_sum(X_BT, TURN_BT).tolist() == [[3.0, 4.0, 0.0], [3.0, 0.0, 12.0]]
    assert turn_sum(X_BT, TURN_BT, 4).shape == (2, 4)
    assert turn_length(TURN_BT).tolist() == [[2, 1, 0], [2, 0, 2]]
    assert turn_end(TURN_BT).tolist() == [[2, 3, -1], [2, -1, 4]]
    is_turn_BK = tensor([[True, True, False], [True, False, True], [False, False, False]])
    assert last_turn(is_turn_BK).nonzero().tolist() == [[0, 1], [1, 2]]


def test_values_reach_their_tokens_by_hand() -> None:
    value_BK = tensor([[1.0, 2.0, math.nan], [3.0, math.nan, 4.0]])
    spread_BT = spread_to_tokens(value_BK, TURN_BT)
    assert spread_BT.tolist() == [[0.0, 1.0, 1.0, 2.0, 0.0, 0.0], [3.0, 0.0, 3.0, 4.0, 4.0, 0.0]]
    placed_BT = place_at_turn_ends(value_BK, TURN_BT)
    assert placed_BT.tolist() == [[0.0, 0.0, 1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0, 4.0, 0.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), shape=SHAPES)
def test_sums_are_those_of_a_loop(dtype: torch.dtype, seed: int, shape: tuple[int, int]) -> None:
    turn_BT = turns(seed, shape)
    x_BT = torch.arange(turn_BT.numel()).reshape(shape).to(dtype)
    looped = [torch.where(turn_BT == k, x_BT, 0).sum(dim=1) for k in range(4)]
    assert torch.equal(turn_sum(x_BT, turn_BT, 4), torch.stack(looped, dim=1))
    lengths = [(turn_BT == k).sum(dim=1) for k in range(4)]
    assert torch.equal(turn_length(turn_BT, 4), torch.stack(lengths, dim=1))


def test_gradients_reach_written_tokens_and_only_those() -> None:
    x_BT = torch.ones(2, 6, dtype=torch.float64, requires_grad=True)
    weight_BK = tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=torch.float64)
    (turn_sum(x_BT, TURN_BT) * weight_BK).sum().backward()
    assert x_BT.grad is not None
    assert_close(x_BT.grad, spread_to_tokens(weight_BK, TURN_BT))
    value_BK = weight_BK.clone().requires_grad_()
    spread_to_tokens(value_BK, TURN_BT).sum().backward()
    assert value_BK.grad is not None
    assert_close(value_BK.grad, turn_length(TURN_BT).double())


def test_a_batch_without_a_turn_has_no_sums() -> None:
    unwritten_BT = torch.full((2, 3), -1)
    assert turn_sum(torch.ones(2, 3), unwritten_BT).shape == (2, 0)
    assert turn_end(unwritten_BT).shape == (2, 0)
    assert not spread_to_tokens(torch.zeros(2, 0), unwritten_BT).any()
    assert turn_length(torch.zeros(2, 0, dtype=torch.int64)).shape == (2, 0)


def test_arrays_of_different_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match="turn_of_token_BT"):
        turn_sum(torch.ones(2, 3), TURN_BT)
