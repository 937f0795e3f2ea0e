"""Generalised advantage estimation over the steps that the policy took.

Source: Schulman et al. 2016, arXiv:1506.02438. Ours: user text is jumped over, and both factors act
at the end of a turn only.
"""

import torch
from torch import Tensor

from turnwise.advantages.ranges import check_share
from turnwise.arrays import check_same_shape, place_at_turn_ends, turn_length


def generalised_advantages(
    reward_BN: Tensor,
    value_BN: Tensor,
    is_step_BN: Tensor,
    *,
    discount_BN: Tensor,
    trace_BN: Tensor,
) -> Tensor:
    """Exponentially weighted sum of the surprises from each step on; `N` counts columns.

        δ_t = r_t + γ_t·V_next(t) − V_t,      A_t = δ_t + γ_t·λ_t·A_next(t)

    next(t) is the next column that is a step; after the last one V = A = 0. value_BN: read before
    step t; its values elsewhere do not matter. trace_BN: λ_t.
    Returns BN, 0 where there is no step.
    """
    check_same_shape(reward_BN=reward_BN, value_BN=value_BN, is_step_BN=is_step_BN)
    out_BN = torch.zeros_like(value_BN)
    value_B = advantage_B = value_BN.new_zeros(value_BN.shape[0])
    for t in reversed(range(value_BN.shape[1])):
        is_step_B, discount_B = is_step_BN[:, t], discount_BN[:, t]
        surprise_B = reward_BN[:, t] + discount_B * value_B - value_BN[:, t]
        here_B = surprise_B + discount_B * trace_BN[:, t] * advantage_B
        out_BN[:, t] = torch.where(is_step_B, here_B, 0.0)
        advantage_B = torch.where(is_step_B, here_B, advantage_B)
        value_B = torch.where(is_step_B, value_BN[:, t], value_B)
    return out_BN


def gae_over_turns(
    reward_BK: Tensor, value_BK: Tensor, is_turn_BK: Tensor, *, discount: float, turn_lambda: float
) -> Tensor:
    """Advantages with one value for each turn, read before its first token.

    Returns advantage_BK, 0 where there is no turn. Laws: with λ = 1 it is `reward_to_go` minus V;
    with λ = 0 it is each turn's own change, δ_k = r_k + γ·V_{k+1} − V_k: the credit `value`.
    Raises ConfigError unless discount and turn_lambda are in [0, 1].
    """
    check_share("discount", discount)
    check_share("turn_lambda", turn_lambda)
    return generalised_advantages(
        reward_BK,
        value_BK,
        is_turn_BK,
        discount_BN=torch.full_like(value_BK, discount),
        trace_BN=torch.full_like(value_BK, turn_lambda),
    )


def gae_over_tokens(
    reward_BT: Tensor,
    value_BT: Tensor,
    turn_of_token_BT: Tensor,
    *,
    discount: float,
    turn_lambda: float,
) -> Tensor:
    """Advantages with one value for each written token, read before it.

    γ = λ = 1 inside a turn, `discount` and `turn_lambda` where a turn ends; user text is jumped
    over. Returns advantage_BT, 0 where the policy did not write.
    Raises ConfigError unless discount and turn_lambda are in [0, 1].
    """
    check_share("discount", discount)
    check_share("turn_lambda", turn_lambda)
    one_BK = torch.ones_like(turn_length(turn_of_token_BT), dtype=value_BT.dtype)
    is_end_BT = place_at_turn_ends(one_BK, turn_of_token_BT)
    return generalised_advantages(
        reward_BT,
        value_BT,
        turn_of_token_BT >= 0,
        discount_BN=1 - is_end_BT * (1 - discount),
        trace_BN=1 - is_end_BT * (1 - turn_lambda),
    )
