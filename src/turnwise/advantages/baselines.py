"""What siblings earned as the measure of what a turn earned.

G are returns (`reward_to_go`), R turn rewards, sums over j run over the other valid siblings, and
turn k is a dialogue's k-th real turn. Every function returns 0 for invalid rows, for columns
without a turn and for groups with fewer than two valid dialogues. Unless stated: arXiv:2603.23550
leaves the baseline open, the choice is ours.
"""

import torch
from torch import Tensor

from turnwise.advantages.groups import (
    STD_FLOOR,
    group_sum,
    has_siblings,
    mean_of_others,
    num_siblings,
    over_group_std,
)
from turnwise.advantages.returns import first_return, reward_to_go, turn_number


def loo_total(
    return_BK: Tensor, is_turn_BK: Tensor, group_of_dialogue_B: Tensor, is_valid_B: Tensor
) -> Tensor:
    """Return of each turn over the siblings' returns of their whole dialogues.

        A_ik = G_ik − mean_{j≠i} G_j1

    Unbiased, as the baseline uses other samples only, but noisy at late turns: without signal
    (equal outcomes) it is not 0 after the first turn. With tokens in place of turns it is the
    baseline of PRIME (arXiv:2502.01456).
    """
    total_B = first_return(return_BK, is_turn_BK)
    baseline_B = mean_of_others(total_B, group_of_dialogue_B, is_valid_B)
    counted_BK = _compared(is_turn_BK, group_of_dialogue_B, is_valid_B)
    return torch.where(counted_BK, return_BK - baseline_B.unsqueeze(1), 0.0)


def loo_turn_index(
    return_BK: Tensor, is_turn_BK: Tensor, group_of_dialogue_B: Tensor, is_valid_B: Tensor
) -> Tensor:
    """Return of each turn over the siblings' returns of the same turn.

        A_ik = G_ik − mean_{j≠i} G_jk,      G_jk = 0 for k > K_j

    Unbiased: whether turn k is reached is decided before turn k, and the baseline uses k and other
    samples only. Not exactly 0 without signal.
    """
    counted_BK = _compared(is_turn_BK, group_of_dialogue_B, is_valid_B)
    others_B1 = (num_siblings(group_of_dialogue_B, is_valid_B) - 1).clamp(min=1).unsqueeze(1)
    kept_BK = torch.where(counted_BK, return_BK, 0.0)
    sum_BK = _sum_by_turn(kept_BK, is_turn_BK, group_of_dialogue_B)
    return torch.where(counted_BK, kept_BK - (sum_BK - kept_BK) / others_B1, 0.0)


def own_turn(
    reward_BK: Tensor, is_turn_BK: Tensor, group_of_dialogue_B: Tensor, is_valid_B: Tensor
) -> Tensor:
    """Reward of each turn over the siblings' rewards of the same turn: turn discount 0.

        A_ik = R_ik − mean_{j≠i} R_jk

    Lowest variance, and all bias of the model that gave R: use it under trust only.
    """
    return loo_turn_index(reward_BK, is_turn_BK, group_of_dialogue_B, is_valid_B)


def turn_index_reward_centring(
    reward_BK: Tensor,
    is_turn_BK: Tensor,
    group_of_dialogue_B: Tensor,
    is_valid_B: Tensor,
    *,
    discount: float = 1.0,
) -> Tensor:
    """Biased. Rewards centred at their turn index and then accumulated.

        A_ik = Σ_{l≥k} γ^(l−k)·(R_il − mean over siblings that have turn l, itself included)

    The number of subtracted means is the dialogue's own K_i, so a policy that decides when to stop
    changes its own baseline: "take another turn" carries a hidden bonus of −E[reward of the later
    turns], times 1 − 1/G. Here for the test and the figure that show it; no preset uses it.
    Raises ConfigError unless discount is in [0, 1].
    Source: MT-GRPO style, Zeng et al. 2025, arXiv:2505.11821.
    """
    counted_BK = _compared(is_turn_BK, group_of_dialogue_B, is_valid_B)
    kept_BK = torch.where(counted_BK, reward_BK, 0.0)
    sum_BK = _sum_by_turn(kept_BK, is_turn_BK, group_of_dialogue_B)
    present_BK = _sum_by_turn(counted_BK.to(kept_BK.dtype), is_turn_BK, group_of_dialogue_B)
    centred_BK = torch.where(counted_BK, kept_BK - sum_BK / present_BK.clamp(min=1), 0.0)
    return reward_to_go(centred_BK, counted_BK, discount=discount)


def standardised_returns(
    return_BK: Tensor,
    is_turn_BK: Tensor,
    group_of_dialogue_B: Tensor,
    is_valid_B: Tensor,
    *,
    floor: float = STD_FLOOR,
) -> Tensor:
    """Return of each turn in standard deviations of the group's whole dialogues (itpo × grpo).

        A_ik = (G_ik − mean_j G_j1) / std_j G_j1      (all j, std with n − 1);  std < floor: 0

    Raises ConfigError if floor is negative.
    """
    total_B = first_return(torch.where(is_valid_B.unsqueeze(1), return_BK, 0.0), is_turn_BK)
    n_B = num_siblings(group_of_dialogue_B, is_valid_B).clamp(min=1)
    mean_B = group_sum(total_B, group_of_dialogue_B) / n_B
    counted_BK = _compared(is_turn_BK, group_of_dialogue_B, is_valid_B)
    centred_BK = torch.where(counted_BK, return_BK - mean_B.unsqueeze(1), 0.0)
    return over_group_std(centred_BK, total_B, group_of_dialogue_B, is_valid_B, floor=floor)


def _compared(is_turn_BK: Tensor, group_of_dialogue_B: Tensor, is_valid_B: Tensor) -> Tensor:
    return is_turn_BK & has_siblings(group_of_dialogue_B, is_valid_B).unsqueeze(1)


def _sum_by_turn(kept_BK: Tensor, is_turn_BK: Tensor, group_of_dialogue_B: Tensor) -> Tensor:
    """Sum over siblings of what stands at the same turn number, at each dialogue's own columns."""
    number_BK = turn_number(is_turn_BK)
    aligned_BK = torch.zeros_like(kept_BK).scatter_add(1, number_BK, kept_BK)
    return group_sum(aligned_BK, group_of_dialogue_B).gather(1, number_BK)
