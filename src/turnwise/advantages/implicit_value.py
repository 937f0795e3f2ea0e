"""The implicit reward model as the value function: no critic.

Turn sums R are prequential here: scored before the dialogue's own outcome was used in training.
Only then do the values know nothing of the outcome they are compared with. The values do not move
on user tokens, so news in a reply shows in the next turn's tokens and credit for a good question
may come one turn late. The end of a dialogue is terminal, truncated or not. Source: ours.
"""

import torch
from torch import Tensor

from turnwise.advantages.gae import gae_over_turns
from turnwise.advantages.groups import mean_of_others
from turnwise.advantages.returns import first_return, sums_before, turn_number
from turnwise.arrays import last_turn


def implicit_values(turn_sum_BK: Tensor, is_turn_BK: Tensor, bias: float | Tensor) -> Tensor:
    """Chance of success before each turn, as the reward model has it.

        V_k = σ(S_{k−1} + b)

    turn_sum_BK: prequential turn rewards, in logits. bias: the model's b, which is not the logit of
    the base rate (`TurnCalibration` mends that). Returns value_BK in [0, 1], 0 where no turn is.
    """
    value_BK = torch.sigmoid(sums_before(turn_sum_BK, is_turn_BK) + bias)
    return torch.where(is_turn_BK, value_BK, 0.0)


def group_offset_values(
    value_BK: Tensor,
    outcome_B: Tensor,
    is_turn_BK: Tensor,
    group_of_dialogue_B: Tensor,
    is_valid_B: Tensor,
) -> Tensor:
    """Values that start at what the siblings reached: the problem's difficulty is taken out.

        V_ik ← mean_{j≠i} y_j + V_ik − V_i1

    With values that never move this is plain leave-one-out. Returns value_BK. Where there are no
    siblings the first term is 0 and the result useless: give `has_siblings` as `is_valid_B` to
    `implicit_value_advantages`, which makes those advantages 0.
    """
    others_B = mean_of_others(outcome_B, group_of_dialogue_B, is_valid_B)
    shift_B = others_B - first_return(value_BK, is_turn_BK)
    return torch.where(is_turn_BK, value_BK + shift_B.unsqueeze(1), 0.0)


def implicit_value_advantages(
    value_BK: Tensor,
    outcome_B: Tensor,
    is_turn_BK: Tensor,
    is_valid_B: Tensor,
    *,
    discount: float,
    turn_lambda: float,
) -> Tensor:
    """Advantages of the turns from values that never saw the dialogue's own outcome.

        δ_k = γ·V_{k+1} − V_k  (k < K),    δ_K = y − V_K;      A_k = Σ_{l≥k} (γλ)^(l−k) δ_l

    λ = 1: outcome minus a state-dependent baseline, unbiased. λ = 0: each turn's own change, biased
    as far as V is not the chance of success under the present policy.
    Returns advantage_BK, 0 in invalid rows and where there is no turn. Law: Σ_k δ_k = y − V_1 for
    γ = 1. Raises ConfigError unless discount and turn_lambda are in [0, 1].
    """
    valid_BK = is_turn_BK & is_valid_B.unsqueeze(1)
    reward_BK = torch.where(last_turn(valid_BK), outcome_B.unsqueeze(1), 0.0)
    return gae_over_turns(reward_BK, value_BK, valid_BK, discount=discount, turn_lambda=turn_lambda)


def calibration_gap(
    value_BK: Tensor, outcome_B: Tensor, is_turn_BK: Tensor, is_valid_B: Tensor
) -> tuple[float | None, ...]:
    """Mean of V − y at each turn, above 0 where values promise too much; None without a turn."""
    counted_BK = is_turn_BK & is_valid_B.unsqueeze(1)
    gap_BK = torch.where(counted_BK, value_BK - outcome_B.unsqueeze(1), 0.0)
    number_BK = turn_number(is_turn_BK)
    sum_K = torch.zeros_like(gap_BK).scatter_add(1, number_BK, gap_BK).sum(dim=0).tolist()
    count_K = torch.zeros_like(gap_BK).scatter_add(1, number_BK, counted_BK.to(gap_BK.dtype))
    counts = count_K.sum(dim=0).tolist()
    return tuple(gap / n if n else None for gap, n in zip(sum_K, counts, strict=True))
