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
        num_turns = _largest_turn(turn_of_token_BT) + 1
    out_BK = x_BT.new_zeros(x_BT.shape[0], num_turns)
    length_N, row_N, turn_N = _runs(turn_of_token_BT)
    # Sums of integers are made in float64, which is exact below 2^53. "unsafe" leaves out a check
    # of the lengths, which are ours; it cannot take an empty batch.
    summed_BT = x_BT if x_BT.is_floating_point() else x_BT.double()
    sum_N = torch.segment_reduce(summed_BT.flatten(), "sum", lengths=length_N, unsafe=True).to(
        x_BT.dtype
    )
    kept_N = turn_N >= 0
    return out_BK.index_put((row_N[kept_N], turn_N[kept_N]), sum_N[kept_N], accumulate=True)


def turn_length(turn_of_token_BT: Tensor, num_turns: int | None = None) -> Tensor:
    """Number of tokens the policy wrote in each turn. Returns length_BK, int64."""
    if num_turns is None:
        num_turns = _largest_turn(turn_of_token_BT) + 1
    out_BK = turn_of_token_BT.new_zeros(turn_of_token_BT.shape[0], num_turns)
    length_N, row_N, turn_N = _runs(turn_of_token_BT)
    kept_N = turn_N >= 0
    return out_BK.index_put((row_N[kept_N], turn_N[kept_N]), length_N[kept_N], accumulate=True)


def _largest_turn(turn_of_token_BT: Tensor) -> int:
    return int(turn_of_token_BT.max().item()) if turn_of_token_BT.numel() else -1


def _runs(turn_of_token_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Length, row and turn of each stretch of equal turn indices within a row, in reading order.

    There are few of them: sums over stretches need no second array of indices as large as the
    batch, whose making would cost more than the sum.
    """
    flat_N, width = turn_of_token_BT.flatten(), turn_of_token_BT.shape[1]
    if len(flat_N) == 0:
        return flat_N, flat_N, flat_N
    is_change_N = flat_N[1:] != flat_N[:-1]
    is_change_N[width - 1 :: width] = True  # a new row
    start_N = torch.nn.functional.pad(is_change_N.nonzero().squeeze(1) + 1, (1, 0))
    length_N = torch.diff(start_N, append=start_N.new_tensor([len(flat_N)]))
    return length_N, start_N // width, flat_N[start_N]


def turn_end(turn_of_token_BT: Tensor, num_turns: int | None = None) -> Tensor:
    """Position of the last written token of each turn. Returns end_BK, int64; -1 for no token."""
    if num_turns is None:
        num_turns = int(turn_of_token_BT.max().item()) + 1 if turn_of_token_BT.numel() else 0
    position_BT = torch.arange(turn_of_token_BT.shape[1], device=turn_of_token_BT.device).expand_as(
        turn_of_token_BT
    )
    found_BT = torch.where(turn_of_token_BT >= 0, position_BT, torch.full_like(position_BT, -1))
    end_BK = found_BT.new_full((turn_of_token_BT.shape[0], max(num_turns, 1)), -1)
    end_BK = end_BK.scatter_reduce(1, turn_of_token_BT.clamp(min=0), found_BT, reduce="amax")
    return end_BK[:, :num_turns]


def last_turn(is_turn_BK: Tensor) -> Tensor:
    """True at each dialogue's last real turn. Returns bool BK; a row without a turn has none."""
    return is_turn_BK & (is_turn_BK.flip(1).cumsum(1).flip(1) == 1)


def spread_to_tokens(value_BK: Tensor, turn_of_token_BT: Tensor) -> Tensor:
    """Each token's copy of its turn's value; zero where the policy did not write.

    value_BK: K at least the largest turn index + 1. Returns BT of the dtype of value_BK.
    """
    row_B1 = torch.arange(value_BK.shape[0], device=value_BK.device).unsqueeze(1)
    # Index -1 is the column of zeros behind the last turn.
    return torch.nn.functional.pad(value_BK, (0, 1))[row_B1, turn_of_token_BT]


def place_at_turn_ends(value_BK: Tensor, turn_of_token_BT: Tensor) -> Tensor:
    """Each turn's value on the turn's last written token, zero elsewhere. Returns BT."""
    end_BK = turn_end(turn_of_token_BT, value_BK.shape[1])
    out_BT = value_BK.new_zeros(turn_of_token_BT.shape)
    kept_BK = torch.where(end_BK >= 0, value_BK, torch.zeros_like(value_BK))
    return out_BT.scatter_add(1, end_BK.clamp(min=0), kept_BK)
