"""The reward model as value function: numbers by hand, and what trust may rely on."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.advantages import (
    calibration_gap,
    group_offset_values,
    has_siblings,
    implicit_value_advantages,
    implicit_values,
    leave_one_out,
    same_for_all_turns,
    sums_before,
)
from turnwise.errors import ConfigError, ShapeError

IS_TURN_BK = torch.arange(4) < tensor([[3], [1], [4], [2], [0]])
GROUP_B = tensor([0, 0, 0, 1, 1])
VALID_B = tensor([True, True, True, True, False])
OUTCOME_B = tensor([1.0, 0.0, 0.5, 1.0, math.nan], dtype=torch.float64)
SEEDS = st.integers(0, 2**31)


def turn_sums(seed: int) -> Tensor:
    noise_BK = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed)).double()
    return torch.where(IS_TURN_BK, noise_BK, math.nan)


def close(actual: Tensor, expected: list[float]) -> None:
    assert_close(actual, tensor([expected], dtype=actual.dtype), atol=5e-6, rtol=0)


REWARD_BK = tensor([[1.0, -0.5, 2.0]], dtype=torch.float64)
THREE_BK, ONE_B = torch.ones(1, 3, dtype=torch.bool), torch.ones(1, dtype=torch.float64)


def test_values_by_hand() -> None:
    # σ(−1), σ(1 − 1), σ(.5 − 1)
    close(implicit_values(REWARD_BK, THREE_BK, -1.0), [0.26894, 0.5, 0.37754])


@pytest.mark.parametrize(
    ("turn_lambda", "expected"),
    [
        (0.0, [0.23106, -0.12246, 0.62246]),
        (0.95, [0.67649, 0.46888, 0.62246]),
        (1.0, [0.73106, 0.5, 0.62246]),
    ],
)
def test_advantages_by_hand(turn_lambda: float, expected: list[float]) -> None:
    value_BK = implicit_values(REWARD_BK, THREE_BK, -1.0)
    out_BK = implicit_value_advantages(
        value_BK, ONE_B, THREE_BK, ONE_B > 0, discount=1.0, turn_lambda=turn_lambda
    )
    close(out_BK, expected)


def test_a_discount_shrinks_what_lies_ahead() -> None:
    # γ ½, V all .4: ½·.4 − .4 twice, then 1 − .4
    value_BK = torch.full((1, 3), 0.4, dtype=torch.float64)
    out_BK = implicit_value_advantages(
        value_BK, ONE_B, THREE_BK, ONE_B > 0, discount=0.5, turn_lambda=0.0
    )
    close(out_BK, [-0.2, -0.2, 0.6])


def test_the_siblings_mean_takes_the_place_of_the_first_value() -> None:
    # Siblings' outcomes 0 and .5: mean .25
    value_BK = implicit_values(REWARD_BK, THREE_BK, -1.0).expand(3, 3)
    outcome_B = tensor([1.0, 0.0, 0.5], dtype=torch.float64)
    group_B, valid_B = tensor([6, 6, 6]), torch.ones(3, dtype=torch.bool)
    is_turn_BK = torch.ones(3, 3, dtype=torch.bool)
    offset_BK = group_offset_values(value_BK, outcome_B, is_turn_BK, group_B, valid_B)
    close(offset_BK[:1], [0.25, 0.48106, 0.35860])
    out_BK = implicit_value_advantages(
        offset_BK, outcome_B, is_turn_BK, valid_B, discount=1.0, turn_lambda=1.0
    )
    close(out_BK[:1], [0.75, 0.51894, 0.64140])


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, bias=st.floats(-3, 3), turn_lambda=st.floats(0, 1))
def test_residuals_add_up_and_nothing_leaks(seed: int, bias: float, turn_lambda: float) -> None:
    value_BK = implicit_values(turn_sums(seed), IS_TURN_BK, bias)
    residual_BK, advantage_BK = (
        implicit_value_advantages(
            value_BK, OUTCOME_B, IS_TURN_BK, VALID_B, discount=1.0, turn_lambda=trace
        )
        for trace in (0.0, turn_lambda)
    )
    assert_close(residual_BK.sum(dim=1)[:4], (OUTCOME_B - value_BK[:, 0])[:4])
    for out_BK in (residual_BK, advantage_BK):
        assert not out_BK[~IS_TURN_BK].any() and not out_BK[~VALID_B].any()


@settings(deadline=None, max_examples=40)
@given(bias=st.floats(-3, 3))
def test_an_untrained_model_with_full_trace_is_plain_leave_one_out(bias: float) -> None:
    compared_B = has_siblings(GROUP_B, VALID_B)
    value_BK = implicit_values(torch.zeros(5, 4, dtype=torch.float64), IS_TURN_BK, bias)
    offset_BK = group_offset_values(value_BK, OUTCOME_B, IS_TURN_BK, GROUP_B, VALID_B)
    advantage_BK = implicit_value_advantages(
        offset_BK, OUTCOME_B, IS_TURN_BK, compared_B, discount=1.0, turn_lambda=1.0
    )
    expected_B = leave_one_out(OUTCOME_B, GROUP_B, VALID_B)
    assert_close(advantage_BK, same_for_all_turns(expected_B, IS_TURN_BK), atol=1e-12, rtol=0)


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, turn_lambda=st.floats(0, 1), discount=st.floats(0, 1), at=st.integers(0, 4))
def test_an_empty_turn_changes_nothing(
    seed: int, turn_lambda: float, discount: float, at: int
) -> None:
    def advantages(sum_BK: Tensor, is_turn_BK: Tensor) -> Tensor:
        value_BK = implicit_values(sum_BK, is_turn_BK, 0.3)
        return implicit_value_advantages(
            value_BK, OUTCOME_B, is_turn_BK, VALID_B, discount=discount, turn_lambda=turn_lambda
        )

    columns = [*range(at), 4, *range(at, 4)]
    pad = torch.nn.functional.pad
    sum_BK = pad(turn_sums(seed), (0, 1), value=9.0)[:, columns]
    out_BK = advantages(sum_BK, pad(IS_TURN_BK, (0, 1))[:, columns])
    kept = [k for k in range(5) if k != at]
    assert_close(out_BK[:, kept], advantages(turn_sums(seed), IS_TURN_BK))


def test_the_value_of_a_turn_does_not_know_the_turn() -> None:
    sum_BK = turn_sums(0)
    changed_BK = sum_BK.clone()
    changed_BK[:, 1] += 1.0
    assert_close(sums_before(changed_BK, IS_TURN_BK)[:, :2], sums_before(sum_BK, IS_TURN_BK)[:, :2])
    assert_close(
        sums_before(changed_BK, IS_TURN_BK)[2, 2:], sums_before(sum_BK, IS_TURN_BK)[2, 2:] + 1.0
    )


def test_the_calibration_gap_by_hand() -> None:
    # Turn 1: (.5 − 1 + .5 − 0)/2; turn 2: .75 − 1; nobody has a third
    value_BK = tensor([[0.5, 0.75, 0.0], [0.5, 0.0, 0.0]])
    is_turn_BK = tensor([[True, True, False], [True, False, False]])
    gaps = calibration_gap(value_BK, tensor([1.0, 0.0]), is_turn_BK, torch.ones(2).bool())
    assert gaps == (0.0, -0.25, None)


def test_wrong_settings_and_shapes_are_refused() -> None:
    for discount, turn_lambda, name in ((2.0, 0.5, "discount"), (1.0, 2.0, "turn_lambda")):
        with pytest.raises(ConfigError, match=name):
            implicit_value_advantages(
                REWARD_BK, ONE_B, THREE_BK, ONE_B > 0, discount=discount, turn_lambda=turn_lambda
            )
    with pytest.raises(ShapeError):
        implicit_values(REWARD_BK, THREE_BK[:, :2], 0.0)
