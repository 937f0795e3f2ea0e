"""Credit from a Q-function: what each reply is worth beyond what was to be expected there."""

import torch
from torch import Tensor

from turnwise.arrays import check_same_shape


def qvalue_turn_rewards(q_BK: Tensor, v_BK: Tensor, is_turn_BK: Tensor) -> Tensor:
    """Value of each reply minus the value of its state.

        R_k = Q(s_k, a_k) − V(s_k)

    In return units; values do not matter where there is no turn. It is centred already (its mean
    under the policy is 0), so it is used as the advantage, without a baseline.
    Returns turn_reward_BK, 0 where there is no turn. Raises ShapeError if shapes differ.
    Source: Jiang et al. 2025, arXiv:2511.21638.
    """
    check_same_shape(q_BK=q_BK, v_BK=v_BK, is_turn_BK=is_turn_BK)
    return torch.where(is_turn_BK, q_BK - v_BK, 0.0)
