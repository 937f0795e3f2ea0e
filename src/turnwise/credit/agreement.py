"""Do two scorings agree on what mattered? Rank correlations, stability, best and worst turns.

Axes: `N` scored things, or `N` items of a dialogue: turns or tokens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from turnwise.arrays import check_same_shape
from turnwise.errors import ShapeError

Scores = Sequence[float | None] | NDArray[np.float64]
Array = NDArray[np.float64]

TIE = 1e-6  # exact values come with rounding: closer than this they are equal


def spearman(x_N: Scores, y_N: Scores) -> float:
    """Spearman's rank correlation in [−1, 1], ties by mean rank.

    Pairs with a side that is None, NaN or infinite are left out. NaN if fewer than two pairs are
    left or one side is constant: a constant orders nothing.
    Raises ShapeError if the two differ in length.
    """
    x_N, y_N = _judged_pairs(x_N, y_N)
    if _orders_nothing(x_N) or _orders_nothing(y_N):
        return math.nan
    return float(stats.spearmanr(x_N, y_N).statistic)


def kendall_tau_b(x_N: Scores, y_N: Scores) -> float:
    """Kendall's τ-b in [−1, 1], which corrects for ties.

    Left-out pairs, the constant case (NaN) and errors as in `spearman`.
    """
    x_N, y_N = _judged_pairs(x_N, y_N)
    if _orders_nothing(x_N) or _orders_nothing(y_N):
        return math.nan
    return float(stats.kendalltau(x_N, y_N, variant="b").statistic)


def rank_stability(before_BN: Tensor, after_BN: Tensor, is_item_BN: Tensor) -> float:
    """Mean over dialogues of the rank correlation between two scorings of its items.

    before_BN, after_BN: read where is_item_BN is True; items are turns (BK) or written tokens (BT).
    Returns a number in [−1, 1]; NaN if no dialogue is ordered by both.
    Raises ShapeError if shapes differ.
    Source: the stability curves of ITPO, arXiv:2603.23550.
    """
    check_same_shape(before_BN=before_BN, after_BN=after_BN, is_item_BN=is_item_BN)
    return _mean_of_known(_of_each_row(before_BN, after_BN, is_item_BN))[0]


def _of_each_row(x_BN: Tensor, y_BN: Tensor, is_item_BN: Tensor) -> list[float]:
    """Spearman's correlation over the items of each row."""
    x, y, is_item = (array.detach().cpu().numpy() for array in (x_BN, y_BN, is_item_BN))
    return [spearman(x[b][is_item[b]], y[b][is_item[b]]) for b in range(len(x))]


def _mean_of_known(found_B: Sequence[float]) -> tuple[float, int]:
    kept = [found for found in found_B if not math.isnan(found)]
    return (math.fsum(kept) / len(kept) if kept else math.nan), len(kept)


@dataclass(frozen=True)
class CreditAgreement:
    """How alike two credits order turns: Spearman's correlation, NaN where nothing is ordered."""

    within: float  # mean over dialogues of the correlation among a dialogue's own turns
    num_dialogues: int  # counted in it: both credits tell turns of the dialogue apart
    overall: float  # over the turns of all dialogues together
    by_dialogue: tuple[float, ...]  # the correlation within each


def credit_agreement(first_BK: Tensor, second_BK: Tensor, is_turn_BK: Tensor) -> CreditAgreement:
    """Agreement of two credits of the same turns; a turn that is NaN in one of them is left out.

    Within dialogues is what credit is for: which turn of this dialogue did it. Over all turns the
    outcome counts too, so that two splits of one outcome agree whatever the turns did.
    Numbers closer than 1e-6 of a credit's largest size are equal. Law: symmetric in the two.
    Raises ShapeError if shapes differ.
    """
    check_same_shape(first_BK=first_BK, second_BK=second_BK, is_turn_BK=is_turn_BK)
    first_BK, second_BK = (_without_rounding(x_BK, is_turn_BK) for x_BK in (first_BK, second_BK))
    found_B = _of_each_row(first_BK, second_BK, is_turn_BK)
    first_N, second_N = (x_BK[is_turn_BK].numpy() for x_BK in (first_BK, second_BK))
    return CreditAgreement(
        *_mean_of_known(found_B), spearman(first_N, second_N), by_dialogue=tuple(found_B)
    )


def _without_rounding(x_BK: Tensor, is_turn_BK: Tensor) -> Tensor:
    """Multiples of TIE times the largest size."""
    known_BK = x_BK.detach().cpu().double()
    sizes_N = known_BK[is_turn_BK].abs()
    sizes_N = sizes_N[sizes_N.isfinite()]
    unit = TIE * float(sizes_N.max()) if len(sizes_N) else 0.0
    return (known_BK / unit).round() if unit > 0 else known_BK


@dataclass(frozen=True)
class TurnAgreement:
    """How often a scoring's best and worst turns are the truth's; NaN if no dialogue counted."""

    best: float
    worst: float
    best_chance: float  # of a turn drawn at random: mean of 1/K where the truth has one best turn
    worst_chance: float


def best_turn_agreement(score_BK: Tensor, truth_BK: Tensor, is_turn_BK: Tensor) -> TurnAgreement:
    """Share of dialogues whose best (worst) scored turn is the truth's best (worst).

        agreement = mean over dialogues of |S ∩ T| / |S|,   chance = mean of |T| / K

    S, T: the turns with the highest score and truth; both have one member unless there are ties,
    which a draw among equals decides. Truths closer than 1e-6 are equal. A dialogue counts unless
    it has fewer than two turns, a number that is not finite, or one truth for all its turns.
    Returns numbers in [0, 1]. Law: an increasing function of the scores changes nothing.
    Raises ShapeError if shapes differ.
    """
    check_same_shape(score_BK=score_BK, truth_BK=truth_BK, is_turn_BK=is_turn_BK)
    spread_B = _top(truth_BK, is_turn_BK) + _top(-truth_BK, is_turn_BK)
    is_known_B = (torch.isfinite(score_BK + truth_BK) | ~is_turn_BK).all(dim=1)
    counted_B = is_known_B & (is_turn_BK.sum(dim=1) >= 2) & (spread_B > TIE)
    score_NK, truth_NK, is_turn_NK = (x[counted_B] for x in (score_BK, truth_BK, is_turn_BK))
    best, best_chance = _hits(score_NK, truth_NK, is_turn_NK)
    worst, worst_chance = _hits(-score_NK, -truth_NK, is_turn_NK)
    return TurnAgreement(best, worst, best_chance, worst_chance)


def _top(x_BK: Tensor, is_turn_BK: Tensor) -> Tensor:
    return torch.where(is_turn_BK, x_BK, -torch.inf).amax(dim=1)


def _hits(score_BK: Tensor, truth_BK: Tensor, is_turn_BK: Tensor) -> tuple[float, float]:
    """Mean share of the highest scores that are highest in truth, and of all turns that are."""
    is_top_BK = is_turn_BK & (score_BK >= _top(score_BK, is_turn_BK).unsqueeze(1))
    is_true_BK = is_turn_BK & (truth_BK >= _top(truth_BK, is_turn_BK).unsqueeze(1) - TIE)
    hit_B = (is_top_BK & is_true_BK).sum(dim=1) / is_top_BK.sum(dim=1)
    chance_B = is_true_BK.sum(dim=1) / is_turn_BK.sum(dim=1)
    return float(hit_B.double().mean()), float(chance_B.double().mean())


def _judged_pairs(x_N: Scores, y_N: Scores) -> tuple[Array, Array]:
    if len(x_N) != len(y_N):
        raise ShapeError(
            f"expected two scorings of the same things, got {len(x_N)} and {len(y_N)} numbers; "
            "build both from one list"
        )
    x_N, y_N = np.asarray(x_N, dtype=np.float64), np.asarray(y_N, dtype=np.float64)
    judged_N = np.isfinite(x_N) & np.isfinite(y_N)
    return x_N[judged_N], y_N[judged_N]


def _orders_nothing(x_N: Array) -> bool:
    return len(x_N) < 2 or bool((x_N == x_N[0]).all())
