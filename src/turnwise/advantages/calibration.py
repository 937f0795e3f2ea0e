"""Values that mean what they say: two numbers for each turn, fitted on earlier dialogues.

The reward model's bias absorbs drift and its sums grow with training: σ(S + b) is no probability.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from turnwise.advantages.ranges import check_not_negative
from turnwise.advantages.returns import sums_before, turn_number
from turnwise.arrays import check_same_shape

KEPT = 512  # dialogues remembered
LEAST = 64  # dialogues with turn k below which its two numbers are not fitted
RIDGE = 1e-3  # on the slope, beside the mean loss of a dialogue
NEWTON_STEPS = 40
SMALL_STEP = 1e-10


@dataclass(frozen=True)
class JudgedTurns:
    """What the reward model said before each turn of earlier dialogues, and how they ended."""

    before_NK: Tensor  # float64, S_{k−1}, column k for the k-th real turn; 0 without one
    is_turn_NK: Tensor  # bool
    outcome_N: Tensor  # float64 in [0, 1]

    def __post_init__(self) -> None:
        check_same_shape(before_NK=self.before_NK, is_turn_NK=self.is_turn_NK)
        check_same_shape(outcome_N=self.outcome_N, row_N=self.is_turn_NK.sum(dim=1))

    @classmethod
    def none(cls) -> "JudgedTurns":
        """Before the first iteration."""
        none_NK = torch.zeros(0, 0, dtype=torch.float64)
        return cls(none_NK, none_NK.bool(), none_NK.sum(dim=1))

    def extended(
        self,
        turn_sum_BK: Tensor,
        is_turn_BK: Tensor,
        outcome_B: Tensor,
        is_valid_B: Tensor,
        *,
        kept: int = KEPT,
    ) -> "JudgedTurns":
        """With the valid dialogues of one more iteration; the oldest beyond `kept` are forgotten.

        turn_sum_BK: prequential turn rewards, detached here.
        """
        valid = [x[is_valid_B].detach().cpu() for x in (turn_sum_BK, is_turn_BK, outcome_B)]
        turn_sum_NK, is_turn_NK, outcome_N = valid
        before_NK = sums_before(turn_sum_NK.double(), is_turn_NK)
        number_NK = turn_number(is_turn_NK)
        aligned_NK = torch.zeros_like(before_NK).scatter_add(1, number_NK, before_NK)
        present_NK = torch.zeros_like(before_NK).scatter_add(1, number_NK, is_turn_NK.double())
        return JudgedTurns(
            _stacked(self.before_NK, aligned_NK)[-kept:],
            _stacked(self.is_turn_NK, present_NK > 0)[-kept:],
            torch.cat([self.outcome_N, outcome_N.double()])[-kept:],
        )


def _stacked(above_NK: Tensor, below_NK: Tensor) -> Tensor:
    width = max(above_NK.shape[1], below_NK.shape[1])
    pad = torch.nn.functional.pad
    return torch.cat([pad(x_NK, (0, width - x_NK.shape[1])) for x_NK in (above_NK, below_NK)])


@dataclass(frozen=True)
class TurnCalibration:
    """Calibrated values V_k = σ(a_k + s_k·S_{k−1})."""

    intercept_K: Tensor  # a
    slope_K: Tensor  # s
    bias: float  # a of turns beyond K, whose s is 1: the reward model's own

    def values(self, turn_sum_BK: Tensor, is_turn_BK: Tensor) -> Tensor:
        """Chance of success before each turn. Returns value_BK in [0, 1], 0 where no turn is."""
        number_BK = turn_number(is_turn_BK)
        longer = (0, max(is_turn_BK.shape[1] - len(self.slope_K), 0))
        pad = torch.nn.functional.pad
        a_K, s_K = (
            pad(self.intercept_K, longer, value=self.bias),
            pad(self.slope_K, longer, value=1),
        )
        before_BK = sums_before(turn_sum_BK, is_turn_BK)
        a_K, s_K = a_K.to(before_BK), s_K.to(before_BK)
        value_BK = torch.sigmoid(a_K[number_BK] + s_K[number_BK] * before_BK)
        return torch.where(is_turn_BK, value_BK, 0.0)


def fit_turn_calibration(
    judged: JudgedTurns, *, bias: float, ridge: float = RIDGE, least: int = LEAST
) -> TurnCalibration:
    """Ridge logistic regression of outcomes on S_{k−1}, one for each turn index.

        a_k, s_k = argmin  mean_i BCE(σ(a + s·S_i,k−1), y_i) + ridge·s²/2

    over the dialogues that have turn k. The intercept is free, so that the mean value of a fitted
    turn is the mean outcome. Fewer than `least` such dialogues, or all outcomes 0 or all 1:
    a_k = bias, s_k = 1, the uncalibrated value. judged: dialogues of earlier iterations only, or
    the values know what they are compared with.
    Raises ConfigError if ridge is negative.
    """
    check_not_negative("ridge", ridge)
    y_NK = judged.outcome_N.unsqueeze(1).expand_as(judged.before_NK)
    count_K = judged.is_turn_NK.sum(dim=0)
    mean_K = torch.where(judged.is_turn_NK, y_NK, 0.0).sum(dim=0) / count_K.clamp(min=1)
    is_fitted_K = (count_K >= least) & (mean_K > 0) & (mean_K < 1)
    weight_NK = judged.is_turn_NK * is_fitted_K / count_K.clamp(min=1)
    a_K = torch.where(is_fitted_K, mean_K, 0.5).logit()
    s_K = torch.zeros_like(a_K)
    for _ in range(NEWTON_STEPS):
        step_2K = _newton_step(judged.before_NK, y_NK, weight_NK, torch.stack([a_K, s_K]), ridge)
        a_K, s_K = a_K + step_2K[0], s_K + step_2K[1]
        if not bool((step_2K.abs() > SMALL_STEP).any()):
            break
    intercept_K = torch.where(is_fitted_K, a_K, bias)
    return TurnCalibration(intercept_K, torch.where(is_fitted_K, s_K, 1.0), bias)


def _newton_step(
    x_NK: Tensor, y_NK: Tensor, weight_NK: Tensor, at_2K: Tensor, ridge: float
) -> Tensor:
    """The step of each column, halved until it lowers that column's loss (0 where none does)."""
    a_K, s_K = at_2K
    p_NK = torch.sigmoid(a_K + s_K * x_NK)
    error_NK, curve_NK = weight_NK * (p_NK - y_NK), weight_NK * p_NK * (1 - p_NK)
    g0_K, g1_K = error_NK.sum(0), (error_NK * x_NK).sum(0) + ridge * s_K
    h00_K, h01_K = curve_NK.sum(0), (curve_NK * x_NK).sum(0)
    h11_K = (curve_NK * x_NK.square()).sum(0) + ridge
    det_K = (h00_K * h11_K - h01_K.square()).clamp(min=1e-30)
    full_2K = torch.stack([h01_K * g1_K - h11_K * g0_K, h01_K * g0_K - h00_K * g1_K]) / det_K
    sizes_S = torch.cat([torch.zeros(1), 0.5 ** torch.arange(20)]).to(full_2K)
    tried_S2K = at_2K + sizes_S[:, None, None] * full_2K
    logit_SNK = tried_S2K[:, :1] + tried_S2K[:, 1:] * x_NK
    # BCE with logits, in the form that cannot overflow.
    bce_SNK = torch.nn.functional.softplus(logit_SNK) - y_NK * logit_SNK
    loss_SK = (weight_NK * bce_SNK).sum(1) + ridge * tried_S2K[:, 1].square() / 2
    return sizes_S[loss_SK.argmin(dim=0)] * full_2K
