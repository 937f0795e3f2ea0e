"""Sums over segments and the way from turns to tokens. Knows no reinforcement learning.

Axes: `B` dialogues, `K` turns, `T` token positions. `turn_of_token_BT` holds the turn index
0..K-1 where the policy wrote the token and -1 elsewhere: mask and index in one array.
"""

import torch
from torch import Tensor

from turnwise.errors import ShapeError


def check_same_shape(**arrays: Tensor) -> None:
    """Raises ShapeError naming every array unless all have the same shape."""
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise ShapeError(f"expected arrays of one shape, got {shapes}; build them from one batch")


def turn_sum(x_BT: Tensor, turn_of_token_BT: Tensor, num_turns: int | None = None) -> Tensor:
    """Sum of a token quantity over each turn: one segment sum, no loop over rows or turns.

        out_bk = Σ_{t : turn_of_token_bt = k} x_bt

    x_BT: any float or integer dtype; its values where the turn is -1 do not matter (they may be
    NaN). turn_of_token_BT: int64 in -1..K-1. num_turns: K; by default the largest turn index + 1.
    Returns BK of the dtype of x_BT; 0 for a turn without a token.
    Raises ShapeError if the two arrays differ in shape.
    """
    check_same_shape(x_BT=x_BT, turn_of_token_BT=turn_of_token_BT)
    if num_turns is None:
        num_turns = int(turn_of_token_BT.max().item()) + 1 if turn_of_token_BT.numel() else 0
    written_BT = turn_of_token_BT >= 0
    kept_BT = torch.where(written_BT, x_BT, torch.zeros_like(x_BT))
    out_BK = kept_BT.new_zeros(x_BT.shape[0], max(num_turns, 1))
    return out_BK.scatter_add(1, turn_of_token_BT.clamp(min=0), kept_BT)[:, :num_turns]


def turn_length(turn_of_token_BT: Tensor, num_turns: int | None = None) -> Tensor:
    """Number of tokens the policy wrote in each turn. Returns length_BK, int64."""
    return turn_sum(torch.ones_like(turn_of_token_BT), turn_of_token_BT, num_turns)


def turn_end(turn_of_token_BT: Tensor, num_turns: int | None = None) -> Tensor:
    """Position of the last written token of each turn. Returns end_BK, int64; -1 for no token."""
    if num_turns is None:
        num_turns = int(turn_of_token_BT.max().item()) + 1 if turn_of_token_BT.numel() else 0
    position_BT = torch.arange(
        turn_of_token_BT.shape[1], device=turn_of_token_BT.device
    ).expand_as(turn_of_token_BT)
    found_BT = torch.where(turn_of_token_BT >= 0, position_BT, torch.full_like(position_BT, -1))
    end_BK = found_BT.new_full((turn_of_token_BT.shape[0], max(num_turns, 1)), -1)
    end_BK = end_BK.scatter_reduce(1, turn_of_token_BT.clamp(min=0), found_BT, reduce="amax")
    return end_BK[:, :num_turns]


def spread_to_tokens(value_BK: Tensor, turn_of_token_BT: Tensor) -> Tensor:
    """Each token's copy of its turn's value; zero where the policy did not write.

    value_BK: K at least the largest turn index + 1. Returns BT of the dtype of value_BK.
    """
    written_BT = turn_of_token_BT >= 0
    if value_BK.shape[1] == 0:
        return value_BK.new_zeros(turn_of_token_BT.shape)
    spread_BT = value_BK.gather(1, turn_of_token_BT.clamp(min=0))
    return torch.where(written_BT, spread_BT, torch.zeros_like(spread_BT))


def place_at_turn_ends(value_BK: Tensor, turn_of_token_BT: Tensor) -> Tensor:
    """Each turn's value on the turn's last written token, zero elsewhere. Returns BT."""
    end_BK = turn_end(turn_of_token_BT, value_BK.shape[1])
    out_BT = value_BK.new_zeros(turn_of_token_BT.shape)
    kept_BK = torch.where(end_BK >= 0, value_BK, torch.zeros_like(value_BK))
    return out_BT.scatter_add(1, end_BK.clamp(min=0), kept_BK)
