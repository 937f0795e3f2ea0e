"""From rewards to returns, and from one number of a dialogue to its turns.

Columns are steps of a dialogue: turns, or with K = T its written tokens. A column where
`is_turn_BK` is False does not exist: it is skipped, discounts nothing, and holds 0 in the result.
"""

import torch
from torch import Tensor

from turnwise.advantages.ranges import check_share
from turnwise.arrays import check_same_shape


def turn_number(is_turn_BK: Tensor) -> Tensor:
    """Number of real turns before each column, a real turn's own index. Returns int64 BK."""
    return is_turn_BK.cumsum(dim=1) - is_turn_BK.long()


def reward_to_go(reward_BK: Tensor, is_turn_BK: Tensor, *, discount: float) -> Tensor:
    """Discounted sum of the rewards from each turn to the last.

        G_k = Σ_{l≥k} γ^(l−k) r_l

    γ discounts per turn, never per token. Returns return_BK, 0 where there is no turn.
    Raises ConfigError unless discount is in [0, 1]; ShapeError if the arrays differ in shape.
    """
    check_share("discount", discount)
    check_same_shape(reward_BK=reward_BK, is_turn_BK=is_turn_BK)
    to_go_B, columns = reward_BK.new_zeros(reward_BK.shape[0]), []
    for reward_B, is_turn_B in zip(
        reversed(reward_BK.unbind(1)), reversed(is_turn_BK.unbind(1)), strict=True
    ):
        to_go_B = torch.where(is_turn_B, reward_B + discount * to_go_B, to_go_B)
        columns.append(to_go_B)
    return torch.stack(columns[::-1], dim=1) * is_turn_BK if columns else reward_BK.clone()


def sums_before(reward_BK: Tensor, is_turn_BK: Tensor) -> Tensor:
    """S_{k−1}: what the turns before each turn add up to. Returns BK, 0 where there is no turn."""
    check_same_shape(reward_BK=reward_BK, is_turn_BK=is_turn_BK)
    kept_BK = torch.where(is_turn_BK, reward_BK, 0.0)
    return torch.where(is_turn_BK, kept_BK.cumsum(dim=1) - kept_BK, 0.0)


def first_return(return_BK: Tensor, is_turn_BK: Tensor) -> Tensor:
    """G_1: the return at the first real turn; 0 for a dialogue without one. Returns B."""
    is_first_BK = is_turn_BK & (turn_number(is_turn_BK) == 0)
    return torch.where(is_first_BK, return_BK, 0.0).sum(dim=1)


def same_for_all_turns(x_B: Tensor, is_turn_BK: Tensor) -> Tensor:
    """A_ik = x_i on real turns: a dialogue's one advantage for all it said. Returns BK."""
    return torch.where(is_turn_BK, x_B.unsqueeze(1), 0.0)


def redistribute_direct(x_B: Tensor, weight_BK: Tensor, is_turn_BK: Tensor) -> Tensor:
    """A dialogue's centred outcome divided among its turns, neutral in their number.

        A_ik = x_i·K_i·w_ik

    x_B: centred before. weight_BK: rows sum to one. Returns BK, 0 where there is no turn. Laws: the
    mean over a dialogue's turns is x; equal weights give x on every turn; x = 0 gives exactly 0.
    Note: w depends on the dialogue's own later tokens, so this shapes credit and is no pure
    baseline.
    """
    num_turns_B = is_turn_BK.sum(dim=1)
    return same_for_all_turns(x_B * num_turns_B, is_turn_BK) * weight_BK


def redistribute_to_go(
    x_B: Tensor, weight_BK: Tensor, is_turn_BK: Tensor, *, discount: float
) -> Tensor:
    """A dialogue's centred outcome, each turn with what it and the later turns are given.

        A_ik = x_i·Σ_{l≥k} γ^(l−k) w_il

    With γ = 1 the first turn gets all of x whatever the weights say, the last one w_K·x.
    Returns BK, 0 where there is no turn. Raises ConfigError unless discount is in [0, 1].
    """
    to_go_BK = reward_to_go(weight_BK, is_turn_BK, discount=discount)
    return same_for_all_turns(x_B, is_turn_BK) * to_go_BK
