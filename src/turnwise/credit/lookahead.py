"""Credit from values that were measured by playing dialogues on: how much each turn raised them.

Source: the forward sampling of Wu et al. 2025 (CollabLLM), arXiv:2502.00640; differences of its
values as turn credit are ours.
"""

import torch
from torch import Tensor

from turnwise.arrays import check_same_shape


def lookahead_rewards(value_BK: Tensor, start_B: Tensor, is_turn_BK: Tensor) -> Tensor:
    """Value after each turn's reply minus the value before the turn.

        R_k = V_k − V_{k−1},   V_0 = start,   V_K = y;      Σ_k R_k = y − start

    value_BK: mean outcome of the continuations after turn k's reply; the dialogue's own outcome at
    its last turn; NaN where none could be judged. start_B: before the first turn, the mean of the
    other siblings' outcomes.
    Returns turn_reward_BK in outcome units, 0 where there is no turn. A value that is NaN leaves
    the turns on both of its sides without a credit: NaN. The sum is the law of all others.
    Raises ShapeError if shapes differ.
    """
    before_BK = _before(value_BK, start_B, is_turn_BK)
    return torch.where(is_turn_BK, value_BK - before_BK, 0.0)


def _before(value_BK: Tensor, start_B: Tensor, is_turn_BK: Tensor) -> Tensor:
    """What stood after the previous real turn, the start before the first. Returns BK."""
    check_same_shape(value_BK=value_BK, is_turn_BK=is_turn_BK)
    column_K = torch.arange(1, value_BK.shape[1] + 1, device=value_BK.device)
    # Column 0 is the start, column k + 1 what stood after turn k.
    latest_BK = torch.where(is_turn_BK, column_K, 0).cummax(dim=1).values
    previous_BK = torch.nn.functional.pad(latest_BK, (1, 0))[:, :-1]
    return torch.cat([start_B.unsqueeze(1), value_BK], dim=1).gather(1, previous_BK)
