"""What the published code of ITPO does to its arrays before any credit: for comparison only."""

import torch
from torch import Tensor

from turnwise.arrays import check_same_shape


def turns_from_mask_runs(written_BT: Tensor) -> Tensor:
    """Turn indices rebuilt from runs of written tokens, as the published code does.

    Wrong where two turns touch (one turn comes out) and where a tool result splits a turn (two
    come out); the recorded `turn_of_token_BT` has neither fault. Returns int64 BT, -1 elsewhere.
    """
    before_BT = torch.nn.functional.pad(written_BT, (1, 0))[:, :-1]
    run_BT = (written_BT & ~before_BT).cumsum(dim=1) - 1
    return torch.where(written_BT, run_BT, -1)


def without_last_token(token_reward_BT: Tensor, length_B: Tensor, *, budget: int) -> Tensor:
    """Token rewards with that of a truncated dialogue's last token set to 0.

    length_B: tokens of each dialogue; budget: the length a row has in the published code. Only a
    dialogue that fills its row loses a reward. Returns BT.
    """
    check_same_shape(length_B=length_B, row_B=token_reward_BT[:, 0])
    position_T = torch.arange(token_reward_BT.shape[1], device=token_reward_BT.device)
    is_lost_BT = (position_T == budget - 1) & (length_B >= budget).unsqueeze(1)
    return token_reward_BT.masked_fill(is_lost_BT, 0.0)
