"""Comparisons among siblings: dialogues of one problem, found by their group id.

Group ids are int64 of any value, rows come in any order. Only valid dialogues enter a statistic or
get one; what an invalid row holds (NaN included) does not matter, and its result is 0.
"""

import torch
from torch import Tensor

from turnwise.advantages.ranges import check_not_negative

STD_FLOOR = 1e-4  # outcome units: below it a group is without signal


def group_sum(x: Tensor, group_of_dialogue_B: Tensor) -> Tensor:
    """Each dialogue's copy of the sum over its group. x: B or B with further axes."""
    groups, index_B = torch.unique(group_of_dialogue_B, return_inverse=True)
    total = x.new_zeros(len(groups), *x.shape[1:]).index_add(0, index_B, x)
    return total[index_B]


def num_siblings(group_of_dialogue_B: Tensor, is_valid_B: Tensor) -> Tensor:
    """Number n of valid dialogues in each dialogue's group, itself included. Returns int64 B."""
    return group_sum(is_valid_B.long(), group_of_dialogue_B)


def has_siblings(group_of_dialogue_B: Tensor, is_valid_B: Tensor) -> Tensor:
    """True where a dialogue is valid and there is another valid one to compare it with."""
    return is_valid_B & (num_siblings(group_of_dialogue_B, is_valid_B) >= 2)


def mean_of_others(x_B: Tensor, group_of_dialogue_B: Tensor, is_valid_B: Tensor) -> Tensor:
    """Mean of the other valid siblings.

        out_i = Σ_{j≠i} x_j / (n − 1)

    Returns B; 0 where there is nobody to compare with (`has_siblings` tells where).
    """
    low_B, above_B = above_lowest(x_B, group_of_dialogue_B, is_valid_B)
    others_B = _others(above_B, group_of_dialogue_B, is_valid_B)
    return torch.where(has_siblings(group_of_dialogue_B, is_valid_B), low_B + others_B, 0.0)


def leave_one_out(x_B: Tensor, group_of_dialogue_B: Tensor, is_valid_B: Tensor) -> Tensor:
    """Each dialogue's excess over the mean of its other valid siblings.

        A_i = x_i − Σ_{j≠i} x_j / (n − 1)

    Returns B in the unit of x. Laws: every group sums to zero; a constant added to a group changes
    nothing; equal values give exactly 0. Fewer than two valid siblings: 0.
    Source: RLOO, Ahmadian et al. 2024, arXiv:2402.14740.
    """
    _, above_B = above_lowest(x_B, group_of_dialogue_B, is_valid_B)
    others_B = _others(above_B, group_of_dialogue_B, is_valid_B)
    return torch.where(has_siblings(group_of_dialogue_B, is_valid_B), above_B - others_B, 0.0)


def group_centred(x_B: Tensor, group_of_dialogue_B: Tensor, is_valid_B: Tensor) -> Tensor:
    """Each dialogue's distance from the mean of its group's valid dialogues, itself included.

        out_i = x_i − mean_j x_j

    Returns B, 0 where invalid. Laws: every group sums to zero; equal values give exactly 0.
    """
    _, above_B = above_lowest(x_B, group_of_dialogue_B, is_valid_B)
    n_B = num_siblings(group_of_dialogue_B, is_valid_B).clamp(min=1)
    mean_B = group_sum(above_B, group_of_dialogue_B) / n_B
    return torch.where(is_valid_B, above_B - mean_B, 0.0)


def group_std(x_B: Tensor, group_of_dialogue_B: Tensor, is_valid_B: Tensor) -> Tensor:
    """Standard deviation over the valid siblings, divided by n − 1.

    Returns B, the same for all siblings; 0 for an invalid row or fewer than two valid siblings.
    """
    centred_B = group_centred(x_B, group_of_dialogue_B, is_valid_B)
    freedom_B = (num_siblings(group_of_dialogue_B, is_valid_B) - 1).clamp(min=1)
    std_B = (group_sum(centred_B.square(), group_of_dialogue_B) / freedom_B).sqrt()
    return torch.where(has_siblings(group_of_dialogue_B, is_valid_B), std_B, 0.0)


def over_group_std(
    x: Tensor,
    unit_B: Tensor,
    group_of_dialogue_B: Tensor,
    is_valid_B: Tensor,
    *,
    floor: float = STD_FLOOR,
) -> Tensor:
    """A quantity in standard deviations of another within the group: exactly 0 below the floor.

        out_i = x_i / std_j unit_j      (std with n − 1);  std < floor: 0

    x: B or BK, centred before. unit_B: for a length penalty beside a standardised outcome this is
    the outcome. Raises ConfigError if floor is negative.
    """
    check_not_negative("floor", floor)
    std_B = group_std(unit_B, group_of_dialogue_B, is_valid_B)
    has_signal_B = (std_B >= floor) & (std_B > 0)
    factor_B = has_signal_B / torch.where(has_signal_B, std_B, 1.0)
    kept = torch.where(_as(has_signal_B, x), x, 0.0)
    return kept * _as(factor_B, x)


def group_standardise(
    x_B: Tensor, group_of_dialogue_B: Tensor, is_valid_B: Tensor, *, floor: float = STD_FLOOR
) -> Tensor:
    """Each dialogue's distance from its group's mean in standard deviations.

        A_i = (x_i − mean_j x_j) / std_j x_j      (std with n − 1);  std < floor: exactly 0

    Returns B; every group sums to zero. Fewer than two valid siblings: 0.
    Raises ConfigError if floor is negative.
    Source: GRPO, Shao et al. 2024, arXiv:2402.03300. The floor is ours: without it a group of
    nearly equal outcomes trains at full strength on nothing.
    """
    centred_B = group_centred(x_B, group_of_dialogue_B, is_valid_B)
    return over_group_std(centred_B, x_B, group_of_dialogue_B, is_valid_B, floor=floor)


def above_lowest(
    x_B: Tensor, group_of_dialogue_B: Tensor, is_valid_B: Tensor
) -> tuple[Tensor, Tensor]:
    """The lowest valid value of each dialogue's group, and the excess over it (0 where invalid).

    Equal siblings become exact zeros here, which makes "no signal" exactly 0 in all that follows.
    """
    groups, index_B = torch.unique(group_of_dialogue_B, return_inverse=True)
    entered_B = torch.where(is_valid_B, x_B, torch.inf)
    low_P = x_B.new_full((len(groups),), torch.inf).scatter_reduce(0, index_B, entered_B, "amin")
    return low_P[index_B], torch.where(is_valid_B, x_B - low_P[index_B], 0.0)


def _others(above_B: Tensor, group_of_dialogue_B: Tensor, is_valid_B: Tensor) -> Tensor:
    others_B = (num_siblings(group_of_dialogue_B, is_valid_B) - 1).clamp(min=1)
    return (group_sum(above_B, group_of_dialogue_B) - above_B) / others_B


def _as(x_B: Tensor, like: Tensor) -> Tensor:
    return x_B.reshape(-1, *[1] * (like.dim() - 1))
