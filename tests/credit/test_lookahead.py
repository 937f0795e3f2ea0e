"""Turn credit from measured values: what a turn added."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor
from torch.testing import assert_close

from turnwise.credit import lookahead_rewards
from turnwise.errors import ShapeError

NAN = math.nan


def test_credit_by_hand() -> None:
    # .3 before; .5 after turn 0; an empty turn; .25 after turn 2; the outcome 1
    value_BK = tensor([[0.5, NAN, 0.25, 1.0]])
    is_turn_BK = tensor([[True, False, True, True]])
    reward_BK = lookahead_rewards(value_BK, tensor([0.3]), is_turn_BK)
    assert_close(reward_BK, tensor([[0.2, 0.0, -0.25, 0.75]]))


def test_an_unknown_value_leaves_both_its_neighbours_without_credit() -> None:
    value_BK = tensor([[0.5, NAN, 0.25, 1.0]])
    reward_BK = lookahead_rewards(value_BK, tensor([0.3]), torch.ones(1, 4).bool())
    assert reward_BK.isnan().tolist() == [[False, True, True, False]]
    assert reward_BK[0, 3].item() == pytest.approx(0.75)


rows = st.lists(
    st.tuples(
        st.floats(0, 1), st.lists(st.floats(0, 1), min_size=4, max_size=4), st.integers(1, 4)
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None, max_examples=60)
@given(rows=rows)
def test_credits_sum_to_the_outcome_minus_the_start(
    rows: list[tuple[float, list[float], int]],
) -> None:
    start_B = tensor([start for start, _, _ in rows], dtype=torch.float64)
    value_BK = tensor([values for _, values, _ in rows], dtype=torch.float64)
    number_B = tensor([number for _, _, number in rows])
    is_turn_BK = torch.arange(4) < number_B.unsqueeze(1)
    outcome_B = value_BK.gather(1, number_B.unsqueeze(1) - 1).squeeze(1)
    reward_BK = lookahead_rewards(value_BK, start_B, is_turn_BK)
    assert_close(reward_BK.sum(dim=1), outcome_B - start_B, atol=1e-12, rtol=0)
    assert not reward_BK[~is_turn_BK].any()


def test_arrays_of_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match="value_BK"):
        lookahead_rewards(torch.ones(1, 2), torch.ones(1), torch.ones(1, 3).bool())
