"""What a judge's numbers become: each turn's share of the outcome."""

import torch
from torch import Tensor

from turnwise.arrays import check_same_shape, last_turn
from turnwise.credit.outcome import uniform_weights


def judge_weights(score_BK: Tensor, is_turn_BK: Tensor, outcome_B: Tensor) -> tuple[Tensor, Tensor]:
    """Weights in proportion to what a judge gave each turn, equal ones where that cannot be used.

        w_k = v_k / Σ v

    score_BK: v ≥ 0 of any unit; read on real turns only, NaN where the judge said nothing (no
    answer, or one for another number of turns). outcome_B: y.
    A dialogue's scores are not valid if one of them is negative or not finite, if all are 0, or if,
    in a dialogue of two turns or more, all but the last are 0 while y ≠ 0: a judge that names the
    end alone repeats the outcome.
    Returns weight_BK of the dtype of score_BK, rows with a turn sum to one, and is_valid_B (False
    for a dialogue without a turn). Law: the unit of a dialogue's scores changes nothing.
    Raises ShapeError if shapes differ. Source: the judge baseline of arXiv:2603.23550.
    """
    check_same_shape(score_BK=score_BK, is_turn_BK=is_turn_BK)
    is_usable_BK = torch.isfinite(score_BK) & (score_BK >= 0)
    kept_BK = torch.where(is_turn_BK & is_usable_BK, score_BK, 0.0)
    largest_B1 = kept_BK.amax(dim=1, keepdim=True)
    is_last_BK = last_turn(is_turn_BK)
    names_the_end_B = (is_turn_BK.sum(1) > 1) & ~(kept_BK * ~is_last_BK).any(1) & (outcome_B != 0)
    is_valid_B = (is_usable_BK | ~is_turn_BK).all(1) & kept_BK.any(1) & ~names_the_end_B
    # Over the largest first: a sum of very large scores would be infinite.
    part_BK = kept_BK / torch.where(largest_B1 > 0, largest_B1, 1.0)
    weight_BK = part_BK / part_BK.sum(dim=1, keepdim=True).clamp(min=1)
    uniform_BK = uniform_weights(is_turn_BK, dtype=score_BK.dtype)
    return torch.where(is_valid_B.unsqueeze(1), weight_BK, uniform_BK), is_valid_B
