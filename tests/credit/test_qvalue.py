"""Credit from a Q-function by hand."""

import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from turnwise.credit import qvalue_turn_rewards
from turnwise.errors import ShapeError


def test_a_replys_credit_is_its_value_above_its_states() -> None:
    q, v = tensor([[0.7, 0.2, math.nan]]), tensor([[0.5, 0.5, 1.0]])
    found = qvalue_turn_rewards(q, v, tensor([[True, True, False]]))
    assert_close(found, tensor([[0.2, -0.3, 0.0]]))


def test_values_of_other_turns_are_refused() -> None:
    with pytest.raises(ShapeError):
        qvalue_turn_rewards(torch.zeros(1, 2), torch.zeros(1, 3), torch.ones(1, 2) > 0)
