"""The estimator of ITPO's published code, with its defects: for comparison only.

Source: github.com/Graph-COM/ITPO, `recipe/itpo/itpo_core_algos.py`, lines 12-37 and 156-192 at
commit b1245e8, written from its equations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from turnwise.advantages.groups import group_sum, num_siblings
from turnwise.arrays import check_same_shape
from turnwise.errors import GroupError, TokensError


@dataclass(frozen=True)
class RewardSource:
    """Rewards that share a baseline."""

    reward_BT: Tensor  # what the tokens earned; read at reward positions only
    is_reward_BT: Tensor  # bool, where a reward stands (it may be 0): turn ends, or all written
    coefficient: float = 1.0  # meaningless with one source, since advantages are scaled at the end


def masked_rloo(
    sources: Sequence[RewardSource],
    written_BT: Tensor,
    group_of_dialogue_B: Tensor,
    is_valid_B: Tensor,
    *,
    on_empty: Literal["raise", "propagate"] = "raise",
) -> Tensor:
    """Returns over a per-position baseline, before `whiten_with_shift`.

        r' = n/(n − 1)·r − Σ_j μ_j/(n − 1)      on reward positions;  μ_j = row j's mean there
        A_t = Σ over sources of coefficient·Σ_{l≥t} r'_l

    At the first token this is Σ_k R_ik − K_i·mean_{j≠i} μ_j. Defect: the baseline is multiplied by
    the number of turns, a hidden bonus for short dialogues where the mean reward is positive and
    for long ones where it is negative; after the first turn it is no leave-one-out at all.

    is_valid_B: judged dialogues (those without a written token count as valid here). Groups are
    gathered by id; their rows need not be neighbours. on_empty: what a dialogue without a reward
    position does; "propagate" gives NaN as published, which `whiten_with_shift` spreads to all.
    Returns BT, 0 where not written and in rows that are not valid.
    Raises GroupError for groups of unequal size or of one, and for a dialogue without a reward
    position; TokensError, with dialogue and position, for a reward where nothing was written.
    """
    for source in sources:
        check_same_shape(
            reward_BT=source.reward_BT, is_reward_BT=source.is_reward_BT, written_BT=written_BT
        )
        _check_placed(source, written_BT)
        if on_empty == "raise":
            _check_not_empty(source.is_reward_BT, is_valid_B)
    num_valid_B = num_siblings(group_of_dialogue_B, is_valid_B)
    _check_equal_sizes(num_valid_B[is_valid_B])
    total_BT = sum(
        (_centred(source, num_valid_B, group_of_dialogue_B, is_valid_B) for source in sources),
        torch.zeros(written_BT.shape, device=written_BT.device),
    )
    to_go_BT = total_BT.flip(1).cumsum(1).flip(1)
    return torch.where(written_BT & is_valid_B.unsqueeze(1), to_go_BT, 0.0)


def _centred(
    source: RewardSource, num_valid_B: Tensor, group_of_dialogue_B: Tensor, is_valid_B: Tensor
) -> Tensor:
    counted_BT = source.is_reward_BT & is_valid_B.unsqueeze(1)
    reward_BT = torch.where(counted_BT, source.reward_BT, 0.0)
    mean_B = reward_BT.sum(dim=1) / counted_BT.sum(dim=1)  # 0/0 is NaN on purpose: "propagate"
    sum_B1 = group_sum(torch.where(is_valid_B, mean_B, 0.0), group_of_dialogue_B).unsqueeze(1)
    n_B1 = num_valid_B.unsqueeze(1)
    centred_BT = (n_B1 * reward_BT - sum_B1) / (n_B1 - 1)
    # A product and not a choice: the published NaN reaches every token of the group.
    in_group_BT = torch.where(is_valid_B.unsqueeze(1), centred_BT, 0.0)
    return source.coefficient * in_group_BT * counted_BT


def _check_placed(source: RewardSource, written_BT: Tensor) -> None:
    stray_BT = source.is_reward_BT & ~written_BT
    for b, t in stray_BT.nonzero()[:1].tolist():
        raise TokensError(
            f"dialogue {b}, position {t}: expected rewards on tokens that the policy wrote, found "
            f"{source.reward_BT[b, t].item()} elsewhere; place rewards by turn_of_token_BT"
        )


def _check_not_empty(is_reward_BT: Tensor, is_valid_B: Tensor) -> None:
    is_empty_B = is_valid_B & ~is_reward_BT.any(dim=1)
    for b in is_empty_B.nonzero()[:1].flatten().tolist():
        raise GroupError(
            f"dialogue {b}: expected a written token in every dialogue, found none; drop its whole "
            'group, or set on_empty="propagate" to get the published NaN'
        )


def _check_equal_sizes(num_valid_N: Tensor) -> None:
    sizes = torch.unique(num_valid_N).tolist()
    if len(sizes) > 1 or sizes == [1]:
        raise GroupError(
            f"masked_rloo expects groups of one size, 2 or more, found sizes {sizes}; drop whole "
            "groups, or use baseline loo_total"
        )
