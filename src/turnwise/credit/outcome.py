"""Credit that looks at the outcome alone: trajectory, uniform, random."""

import torch
from torch import Tensor

from turnwise.arrays import last_turn
from turnwise.credit.keyed_noise import keyed_log_gamma
from turnwise.credit.ranges import check_positive
from turnwise.errors import OutcomeError


def check_outcomes(outcome_B: Tensor) -> None:
    """Raises OutcomeError, with the dialogue, for an outcome that is neither in [0, 1] nor NaN.

    NaN stands for a dialogue that could not be judged; nothing is ever clamped.
    """
    is_wrong_B = ~(((outcome_B >= 0) & (outcome_B <= 1)) | outcome_B.isnan())
    for b in is_wrong_B.nonzero()[:1].flatten().tolist():
        raise OutcomeError(
            f"dialogue {b}: expected an outcome in [0, 1] or NaN (not judged), got "
            f"{outcome_B[b].item()}; scale the task's score, it is never clamped"
        )


def outcome_on_last_turn(outcome_B: Tensor, is_turn_BK: Tensor) -> Tensor:
    """The outcome on the dialogue's last real turn, zero elsewhere (`trajectory`).

    outcome_B: NaN (not judged) gives zeros. Returns turn_reward_BK; rows with a turn sum to the
    outcome.
    """
    return torch.where(last_turn(is_turn_BK), outcome_B.nan_to_num(nan=0.0).unsqueeze(1), 0.0)


def shared_outcome(outcome_B: Tensor, weight_BK: Tensor) -> Tensor:
    """Turn rewards of every credit that is a split of the outcome.

        R_k = w_k·y,   Σ_k R_k = y

    outcome_B: NaN (not judged) gives zeros. weight_BK: rows sum to one. Returns turn_reward_BK.
    """
    return outcome_B.nan_to_num(nan=0.0).unsqueeze(1) * weight_BK


def uniform_weights(is_turn_BK: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """w_k = 1/K_i on real turns, 0 elsewhere. Returns weight_BK."""
    num_turns_B1 = is_turn_BK.sum(dim=1, keepdim=True).clamp(min=1)
    return is_turn_BK.to(dtype) / num_turns_B1


def dirichlet_weights(
    is_turn_BK: Tensor,
    *,
    alpha: float,
    seed: int,
    step: int,
    dialogue_key_B: Tensor,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Random shares of the outcome: the control for "any dense split helps".

        w ~ Dirichlet(α·1) over the dialogue's real turns

    dialogue_key_B: int64, any number that names the dialogue for ever. The noise is a function of
    (seed, step, key, number of the turn) and of nothing else, so that neither the order of rows nor
    their division among workers changes a weight.
    Returns weight_BK, rows sum to one; 0 where there is no turn.
    Raises ConfigError unless alpha > 0.
    Source: the control of arXiv:2603.23550, whose α is not reported; 1 is uniform on the simplex.
    """
    check_positive("alpha", alpha)
    turn_BK = (is_turn_BK.cumsum(1) - 1).clamp(min=0)
    log_gamma_BK = keyed_log_gamma(
        turn_BK, dialogue_key_B.unsqueeze(1), alpha=alpha, seed=seed, step=step
    )
    masked_BK = log_gamma_BK.masked_fill(~is_turn_BK, -torch.inf)
    has_turn_B1 = is_turn_BK.any(dim=1, keepdim=True)
    return (masked_BK.where(has_turn_B1, 0.0).softmax(dim=1) * is_turn_BK).to(dtype)
