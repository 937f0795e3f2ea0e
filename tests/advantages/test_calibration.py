"""Calibrated values: fitted where there is evidence, the model's own where there is not."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.advantages import (
    JudgedTurns,
    TurnCalibration,
    fit_turn_calibration,
    implicit_values,
    sums_before,
)
from turnwise.errors import ConfigError, ShapeError


def judged(before_N: Tensor, outcome_N: Tensor) -> JudgedTurns:
    before_N1 = before_N.double().unsqueeze(1)
    return JudgedTurns(before_N1, torch.ones_like(before_N1).bool(), outcome_N.double())


def dialogues(seed: int, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Three turns at most; the outcome depends on the first turn's sum."""
    random = torch.Generator().manual_seed(seed)
    turn_sum_BK = torch.randn(size, 3, generator=random)
    is_turn_BK = torch.arange(3) < torch.randint(1, 4, (size, 1), generator=random)
    outcome_B = (torch.rand(size, generator=random) < torch.sigmoid(2 * turn_sum_BK[:, 0])).float()
    return turn_sum_BK, is_turn_BK, outcome_B, torch.ones(size, dtype=torch.bool)


def test_a_balanced_regression_by_hand() -> None:
    # S = ±1 with success rates 3/4 and 1/4: a = 0 and s = ln 3, without the ridge.
    before_N = tensor([1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0]).repeat(8)
    outcome_N = tensor([1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0]).repeat(8)
    fitted = fit_turn_calibration(judged(before_N, outcome_N), bias=5.0, ridge=0.0)
    assert_close(fitted.intercept_K, tensor([0.0], dtype=torch.float64), atol=1e-9, rtol=0)
    assert_close(fitted.slope_K, tensor([math.log(3)], dtype=torch.float64))


def test_the_first_turn_is_given_the_base_rate_whatever_the_bias() -> None:
    # Nothing was said before turn 1, so S_0 = 0: a = logit(1/4), and the ridge takes the slope.
    outcome_N = tensor([1.0, 0.0, 0.0, 0.0]).repeat(16)
    fitted = fit_turn_calibration(judged(torch.zeros(64), outcome_N), bias=1.88)
    assert_close(fitted.intercept_K.sigmoid(), tensor([0.25], dtype=torch.float64))
    assert fitted.slope_K.tolist() == [0.0]


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**31), factor=st.sampled_from([1e-3, 1.0, 30.0]))
def test_fitted_values_have_the_mean_of_the_outcomes(seed: int, factor: float) -> None:
    turn_sum_BK, is_turn_BK, outcome_B, valid_B = dialogues(seed, 300)
    turn_sum_BK = factor * turn_sum_BK
    history = JudgedTurns.none().extended(turn_sum_BK, is_turn_BK, outcome_B, valid_B)
    fitted = fit_turn_calibration(history, bias=3.0)
    value_BK = fitted.values(turn_sum_BK.double(), is_turn_BK)
    gap_BK = torch.where(is_turn_BK, value_BK - outcome_B.unsqueeze(1), 0.0)
    assert_close(gap_BK.mean(dim=0), torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0)
    # The gradient in the slope vanishes too, up to the ridge; steps end where the loss, of order
    # 1 and curved by up to 100, no longer falls in float64: at a gradient of about 1e-7.
    before_BK = sums_before(turn_sum_BK.double(), is_turn_BK)
    slope_K = (gap_BK * before_BK).sum(dim=0) / is_turn_BK.sum(dim=0) + 1e-3 * fitted.slope_K
    assert_close(slope_K, torch.zeros_like(slope_K), atol=1e-6, rtol=0)


def test_separable_outcomes_keep_a_finite_slope() -> None:
    before_N = torch.linspace(-1, 1, 100)
    fitted = fit_turn_calibration(judged(before_N, before_N > 0), bias=0.0)
    assert 1.0 < float(fitted.slope_K) < 100.0
    # At the optimum the loss's pull on the slope equals the ridge's.
    error_N = (
        torch.sigmoid(fitted.slope_K * before_N + fitted.intercept_K) - (before_N > 0).double()
    )
    assert float((error_N * before_N).mean()) == pytest.approx(-1e-3 * float(fitted.slope_K))


@pytest.mark.parametrize(
    ("size", "outcome"), [(63, None), (100, 0.0), (100, 1.0)], ids=["few", "failures", "successes"]
)
def test_without_evidence_the_models_own_value_stays(size: int, outcome: float | None) -> None:
    turn_sum_BK, is_turn_BK, outcome_B, valid_B = dialogues(1, size)
    if outcome is not None:
        outcome_B = torch.full_like(outcome_B, outcome)
    history = JudgedTurns.none().extended(turn_sum_BK, is_turn_BK, outcome_B, valid_B)
    fitted = fit_turn_calibration(history, bias=0.7)
    assert fitted.intercept_K.tolist() == [0.7] * 3 and fitted.slope_K.tolist() == [1.0] * 3
    assert_close(
        fitted.values(turn_sum_BK, is_turn_BK), implicit_values(turn_sum_BK, is_turn_BK, 0.7)
    )


def test_evidence_is_counted_turn_by_turn() -> None:
    turn_sum_BK, is_turn_BK, outcome_B, valid_B = dialogues(2, 100)
    assert is_turn_BK[:, 2].sum() < 64 < is_turn_BK[:, 0].sum()
    history = JudgedTurns.none().extended(turn_sum_BK, is_turn_BK, outcome_B, valid_B)
    fitted = fit_turn_calibration(history, bias=0.7)
    assert fitted.intercept_K[0] != 0.7 and fitted.intercept_K[2] == 0.7


def test_turns_never_seen_before_have_the_models_own_value() -> None:
    calibration = TurnCalibration(tensor([0.0]), tensor([2.0]), bias=-1.0)
    turn_sum_BK, is_turn_BK = tensor([[3.0, 1.0]]), torch.ones(1, 2, dtype=torch.bool)
    value_BK = calibration.values(turn_sum_BK, is_turn_BK)
    assert_close(value_BK, torch.sigmoid(tensor([[0.0, 3.0 - 1.0]])))
    fewer = TurnCalibration(torch.zeros(4), torch.ones(4), bias=0.0)
    assert_close(fewer.values(turn_sum_BK, is_turn_BK), torch.sigmoid(tensor([[0.0, 3.0]])))


def test_values_count_turns_and_not_columns() -> None:
    calibration = TurnCalibration(tensor([0.0, 1.0]), tensor([1.0, 2.0]), bias=0.0)
    value_BK = calibration.values(tensor([[9.0, 0.5, 0.1]]), tensor([[False, True, True]]))
    assert_close(value_BK, tensor([[0.0, 0.5, 1 / (1 + math.exp(-2.0))]]))


def test_history_keeps_the_latest_judged_dialogues() -> None:
    history = JudgedTurns.none()
    for start in (0.0, 10.0):
        turn_sum_BK = torch.stack([start + torch.arange(4), torch.ones(4)], dim=1)
        is_turn_BK = torch.ones(4, 2, dtype=torch.bool)
        outcome_B = tensor([0.0, 1.0, math.nan, 0.5])
        history = history.extended(turn_sum_BK, is_turn_BK, outcome_B, ~outcome_B.isnan(), kept=4)
    assert history.outcome_N.tolist() == [0.5, 0.0, 1.0, 0.5]
    assert history.before_NK.tolist() == [[0.0, 3.0], [0.0, 10.0], [0.0, 11.0], [0.0, 13.0]]


def test_history_pads_shorter_dialogues_and_closes_gaps() -> None:
    narrow = JudgedTurns.none().extended(
        tensor([[1.0]]), tensor([[True]]), tensor([1.0]), tensor([True])
    )
    wide = narrow.extended(
        tensor([[2.0, 9.0, 3.0]]), tensor([[True, False, True]]), tensor([0.0]), tensor([True])
    )
    assert wide.before_NK.tolist() == [[0.0, 0.0, 0.0], [0.0, 2.0, 0.0]]
    assert wide.is_turn_NK.tolist() == [[True, False, False], [True, True, False]]


def test_nothing_judged_calibrates_nothing() -> None:
    fitted = fit_turn_calibration(JudgedTurns.none(), bias=-1.0)
    value_BK = fitted.values(tensor([[2.0, 0.0]]), torch.ones(1, 2, dtype=torch.bool))
    assert_close(value_BK, torch.sigmoid(tensor([[-1.0, 1.0]])))


def test_wrong_settings_and_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match="ridge"):
        fit_turn_calibration(JudgedTurns.none(), bias=0.0, ridge=-1.0)
    with pytest.raises(ShapeError):
        JudgedTurns(torch.zeros(2, 1), torch.zeros(2, 1).bool(), torch.zeros(3))
