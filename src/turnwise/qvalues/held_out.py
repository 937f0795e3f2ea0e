"""What was said of held-out customers, and how surely one model says it better than another.

Axes: `N` held-out decision steps, `M` sampled replies, `C` customers, `S` bootstrap samples. Values
and targets lie in the return range scaled to [0, 1].
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from turnwise.errors import ShapeError
from turnwise.qvalues.calibration import CERTAIN, LossName

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
Words = NDArray[np.str_]

_CELLS = 4_000_000  # numbers of a bootstrap that are in memory at once


@dataclass(frozen=True)
class HeldOut:
    """N decision steps whose return is known, and what models say that never saw the customer."""

    target_N: Array
    q_N: Array  # calibrated on other customers
    v_N: Array  # of the V head, calibrated alike
    turn_mean_N: Array  # mean target of the training customers' steps with this turn index
    shuffled_N: Array  # Q of the same state with a reply of another; NaN where there is none
    customer_N: Words
    conversation_N: Words
    fold_N: Whole  # 0 or 1, the customer's; the other fold's model was asked
    turn_N: Whole  # index of the step in its conversation
    slopes: tuple[float, ...] = ()  # a of the fitted maps
    judge_N: Array | None = None  # the prompted judge, calibrated alike
    spread_N: Array | None = None  # standard deviation of Q over the heads
    sampled_spread_M: Array | None = None  # the same for replies that the policy samples
    residual_N: Array | None = None  # r + γV(s') − Q(s,a); NaN where s' is not known
    groups: Mapping[str, Words] = field(default_factory=dict)  # "tenant" -> each step's
    style: Mapping[str, Array] = field(default_factory=dict)  # "length" -> each reply's

    def __post_init__(self) -> None:
        arrays = {name: x for name, x in vars(self).items() if name.endswith("_N")}
        arrays = {**arrays, **self.groups, **self.style}
        shapes = {name: x.shape for name, x in arrays.items() if x is not None}
        if len(set(shapes.values())) > 1:
            raise ShapeError(f"all arrays of held-out steps share the axis N; got {shapes}")


def losses(value_N: Array, target_N: Array, *, loss: LossName) -> Array:
    """Loss of each held-out step: −y log p − (1 − y) log(1 − p), or (p − y)²."""
    if loss == "square":
        return np.asarray((value_N - target_N) ** 2)
    p_N = np.clip(value_N, CERTAIN, 1 - CERTAIN)
    return np.asarray(-target_N * np.log(p_N) - (1 - target_N) * np.log1p(-p_N))


def mean_interval(
    x_N: Array, customer_N: Words, *, num_samples: int, seed: int
) -> tuple[float, float, float]:
    """Mean of x with its 95 % percentile interval over resampled customers.

        mean = Σ_c sum_c / Σ_c n_c;   a bootstrap sample draws C customers with replacement

    low and high are NaN for fewer than two customers, which say nothing of others; entries of NaN
    are left out.
    Source: Efron & Tibshirani 1993, section 13.3 (percentile interval).
    """
    known_N = np.isfinite(x_N)
    _, index_N = np.unique(customer_N[known_N], return_inverse=True)
    if not len(index_N):
        return math.nan, math.nan, math.nan
    sum_C, count_C = np.bincount(index_N, x_N[known_N]), np.bincount(index_N)
    mean, C = float(sum_C.sum() / count_C.sum()), len(sum_C)
    if C < 2:
        return mean, math.nan, math.nan
    random, means, at_once = np.random.default_rng(seed), [], max(1, _CELLS // C)
    for start in range(0, num_samples, at_once):
        size = min(at_once, num_samples - start)
        drawn_SC = random.multinomial(C, np.full(C, 1 / C), size=size)
        means.append((drawn_SC @ sum_C) / (drawn_SC @ count_C))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return mean, float(low), float(high)
