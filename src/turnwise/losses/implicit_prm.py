"""The implicit process reward model's loss: outcomes alone teach it.

Its logit is β times the summed log-ratio to the reference plus a learned bias, so that after
training the sum over one turn is that turn's reward. The length penalty is never in its target.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from turnwise.arrays import check_same_shape
from turnwise.errors import ConfigError, EmptyStepError, OutcomeError
from turnwise.losses.checks import check_finite, zero_unwritten

BASE_RATE_RANGE = (0.05, 0.95)  # a first batch of failures only must not start the bias at −∞


def implicit_prm_logits(
    logp_prm_BT: Tensor,
    logp_reference_BT: Tensor,
    turn_of_token_BT: Tensor,
    *,
    beta: float,
    bias: Tensor | float,
) -> Tensor:
    """Logit of success of each dialogue.

        z_b = β · Σ_{t written} (logp_prm − logp_reference) + bias

    Log-probabilities in nats, at temperature 1, from the same kernel; their values do not matter
    where turn_of_token_BT is −1. beta: above 0. bias: a scalar, may require a gradient.
    Returns z_B, differentiable in logp_prm_BT and bias; equal to the bias at a zero adapter.
    Raises ConfigError for beta ≤ 0, LogProbError for a non-finite value where written.
    Source: ITPO, Wang et al. 2026, arXiv:2603.23550; the bias is ours (0 gives the paper's form).
    """
    check_same_shape(
        logp_prm_BT=logp_prm_BT,
        logp_reference_BT=logp_reference_BT,
        turn_of_token_BT=turn_of_token_BT,
    )
    _check_beta(beta)
    written_BT = turn_of_token_BT >= 0
    check_finite(logp_prm_BT, written_BT, "logp_prm_BT")
    check_finite(logp_reference_BT, written_BT, "logp_reference_BT")
    log_ratio_BT = zero_unwritten(logp_prm_BT, written_BT) - zero_unwritten(
        logp_reference_BT, written_BT
    )
    return beta * log_ratio_BT.sum(dim=1) + bias


def implicit_prm_bce(z_B: Tensor, outcome_B: Tensor, is_valid_B: Tensor) -> Tensor:
    """Binary cross-entropy of each dialogue's outcome, soft labels as they are.

        loss_b = −y·log σ(z) − (1 − y)·log(1 − σ(z))

    outcome_B: in [0, 1], NaN where not judged. is_valid_B: bool.
    Returns loss_B, nats, unreduced: divide the sum by the valid dialogues of the optimizer batch.
    0 and without gradient where not valid: a failed judgement is never a label.
    Raises OutcomeError for an outcome outside [0, 1], or NaN in a valid dialogue.
    """
    y_B = _labels(z_B, outcome_B, is_valid_B)
    # Invalid rows get a harmless logit first: the gradient of a NaN would survive the last line.
    safe_z_B = torch.where(is_valid_B, z_B, torch.zeros_like(z_B))
    loss_B = binary_cross_entropy_with_logits(safe_z_B, y_B, reduction="none")
    return torch.where(is_valid_B, loss_B, torch.zeros_like(loss_B))


def prm_token_weights(
    z_B: Tensor,
    outcome_B: Tensor,
    is_valid_B: Tensor,
    turn_of_token_BT: Tensor,
    *,
    beta: float,
    num_valid: int,
) -> Tensor:
    """Constant weights that make a weighted cross-entropy train the implicit PRM.

        w_t = β · (y − σ(z)) · m_t / N

    The gradient of −Σ w_t·log π(a_t) is that of the mean binary cross-entropy, for an engine that
    offers nothing else. z_B: from a forward with the weights before the step. num_valid: N, valid
    dialogues of the whole optimizer batch.
    Returns weight_BT; 0 where not written and in invalid dialogues.
    Raises ConfigError for beta ≤ 0, EmptyStepError for N < 1, OutcomeError as `implicit_prm_bce`.
    """
    _check_beta(beta)
    weight_B = -beta * _error(z_B, outcome_B, is_valid_B) / _at_least_one(num_valid)
    return zero_unwritten(weight_B[:, None].expand(turn_of_token_BT.shape), turn_of_token_BT >= 0)


def bias_gradient(z_B: Tensor, outcome_B: Tensor, is_valid_B: Tensor, *, num_valid: int) -> Tensor:
    """∂ mean loss / ∂ bias = Σ (σ(z) − y) / N, this micro-batch's share, a scalar.

    num_valid: N, valid dialogues of the whole optimizer batch.
    Raises EmptyStepError for N < 1, OutcomeError as `implicit_prm_bce`.
    """
    return _error(z_B, outcome_B, is_valid_B).sum() / _at_least_one(num_valid)


def initial_bias(outcome_B: Tensor) -> float:
    """Where the bias starts: the logit of the first batch's mean outcome, clipped to [.05, .95].

    outcome_B: in [0, 1], NaN where not judged. In [−2.944, 2.944].
    Raises EmptyStepError if nothing was judged, OutcomeError for an outcome outside [0, 1].
    """
    rate = min(max(_base_rate(outcome_B), BASE_RATE_RANGE[0]), BASE_RATE_RANGE[1])
    return math.log(rate / (1.0 - rate))


def base_rate_bce(outcome_B: Tensor) -> float:
    """Binary cross-entropy of always predicting the mean outcome: what a PRM has to beat.

        −ȳ·log ȳ − (1 − ȳ)·log(1 − ȳ)

    outcome_B: in [0, 1], NaN where not judged. Nats, in [0, log 2].
    Raises EmptyStepError if nothing was judged, OutcomeError for an outcome outside [0, 1].
    """
    rate = _base_rate(outcome_B)
    return -sum(p * math.log(p) for p in (rate, 1.0 - rate) if p > 0.0)


def _error(z_B: Tensor, outcome_B: Tensor, is_valid_B: Tensor) -> Tensor:
    """σ(z) − y, 0 where not valid."""
    error_B = z_B.sigmoid() - _labels(z_B, outcome_B, is_valid_B)
    return torch.where(is_valid_B, error_B, torch.zeros_like(error_B))


def _labels(z_B: Tensor, outcome_B: Tensor, is_valid_B: Tensor) -> Tensor:
    """The outcomes in the logits' dtype, 0 where not valid."""
    check_same_shape(z_B=z_B, outcome_B=outcome_B, is_valid_B=is_valid_B)
    _check_range(outcome_B, may_be_nan_B=~is_valid_B)
    return torch.where(is_valid_B, outcome_B, torch.zeros_like(outcome_B)).to(z_B.dtype)


def _base_rate(outcome_B: Tensor) -> float:
    is_judged_B = ~torch.isnan(outcome_B)
    _check_range(outcome_B, may_be_nan_B=~is_judged_B)
    if not bool(is_judged_B.any()):
        raise EmptyStepError(
            f"expected at least one judged dialogue, found none of {outcome_B.numel()}; "
            "skip this step"
        )
    return float(outcome_B[is_judged_B].double().mean().item())


def _check_range(outcome_B: Tensor, *, may_be_nan_B: Tensor) -> None:
    is_in_range_B = (outcome_B >= 0) & (outcome_B <= 1)
    bad_B = ~(is_in_range_B | (torch.isnan(outcome_B) & may_be_nan_B))
    if bool(bad_B.any()):
        b = int(bad_B.nonzero()[0])
        raise OutcomeError(
            f"dialogue {b}: expected an outcome in [0, 1], found {outcome_B[b].item()}; scale the "
            "task's score (it is never clamped), and mark a dialogue without judgement not valid"
        )


def _check_beta(beta: float) -> None:
    if not beta > 0.0:
        raise ConfigError(f"prm.beta: expected a number above 0, got {beta}")


def _at_least_one(num_valid: int) -> int:
    if num_valid < 1:
        raise EmptyStepError(
            f"expected at least one valid dialogue in the step, got {num_valid}; skip this step"
        )
    return num_valid
