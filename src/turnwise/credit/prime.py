"""PRIME: the implicit rewards kept on their tokens.

The rewards themselves are `turnwise.credit.itpo.implicit_token_rewards`. The baseline, the mean of
the siblings' totals, is `turnwise.advantages.loo_total` over written tokens in place of turns.
Source: Cui et al. 2025, "Process Reinforcement through Implicit Rewards", arXiv:2502.01456.
"""

import torch
from torch import Tensor


def token_returns(token_reward_BT: Tensor, turn_of_token_BT: Tensor) -> Tensor:
    """Sum of the rewards from each token to the dialogue's end.

        G_t = Σ_{l≥t} r_l      over written tokens; a turn's boundary discounts nothing

    Returns return_BT, 0 where the policy did not write; rewards there do not matter.
    """
    written_BT = turn_of_token_BT >= 0
    kept_BT = torch.where(written_BT, token_reward_BT, 0.0)
    return torch.where(written_BT, kept_BT.flip(1).cumsum(1).flip(1), 0.0)
