"""Values that are probabilities: the linear map of a Q-function's scores, and how well it does.

Axes: `N` held-out decision steps, `M` equal-mass bins. Targets and values lie in the return range
scaled to [0, 1]; scores are log-odds where values are probabilities (loss "log"), else values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import expit, logit

from turnwise.errors import ShapeError

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
LossName = Literal["log", "square"]  # of bce and a verdict; of mse and hl-gauss

NUM_BINS = 10
NUM_SPLITS = 5
RIDGE = 1e-6  # beside the mean loss, towards a = 1, b = 0: separable scores keep a finite map
NEWTON_STEPS = 100
SMALL_STEP = 1e-9
CERTAIN = 1e-7  # probabilities stay this far from 0 and 1


@dataclass(frozen=True)
class LinearMap:
    """score -> a·score + b; strictly increasing, so no two replies change places, where a > 0."""

    a: float
    b: float


IDENTITY = LinearMap(1.0, 0.0)


def fit_linear_map(score_N: Array, target_N: Array, *, loss: LossName) -> LinearMap:
    """The map that brings scores closest to their targets.

        a, b = argmin  mean_n ℓ(a·score_n + b, y_n) + ridge·((a − 1)² + b²)/2

    ℓ: log-loss of σ(a·score + b) against the soft label y, or half the squared error.
    score_N: float, any scale. target_N: in [0, 1]. A slope a ≤ 0 is returned as it is: scores that
    fall where targets rise are for the gate to refuse.
    Raises ShapeError if the two differ in shape or are empty.
    Source: Platt 1999; with a ridge instead of smoothed labels.
    """
    score_N, y_N = np.asarray(score_N, np.float64), np.asarray(target_N, np.float64)
    if score_N.shape != y_N.shape or score_N.size == 0:
        raise ShapeError(
            f"expected a target for each of 1 or more scores, found {y_N.shape} and "
            f"{score_N.shape}; calibrate on steps whose target is known"
        )
    at_2 = np.array([1.0, 0.0])
    for _ in range(NEWTON_STEPS):
        step_2 = _newton_step(score_N, y_N, at_2, loss)
        at_2 = at_2 + step_2
        if np.abs(step_2).max() < SMALL_STEP:
            break
    return LinearMap(float(at_2[0]), float(at_2[1]))


def _newton_step(x_N: Array, y_N: Array, at_2: Array, loss: LossName) -> Array:
    """The step of a and b, halved until it lowers the loss; 0 where nothing does."""
    z_N = at_2[0] * x_N + at_2[1]
    p_N = expit(z_N) if loss == "log" else z_N
    curve_N = p_N * (1 - p_N) if loss == "log" else np.ones_like(z_N)
    side_2N = np.stack([x_N, np.ones_like(x_N)])
    gradient_2 = side_2N @ (p_N - y_N) / len(x_N) + RIDGE * (at_2 - [1.0, 0.0])
    hessian_22 = (side_2N * curve_N) @ side_2N.T / len(x_N) + RIDGE * np.eye(2)
    full_2 = -np.linalg.solve(hessian_22, gradient_2)
    before = _objective(x_N, y_N, at_2, loss)
    for size in 0.5 ** np.arange(20):
        if _objective(x_N, y_N, at_2 + size * full_2, loss) <= before:
            return np.asarray(size * full_2)
    return np.zeros(2)


def _objective(x_N: Array, y_N: Array, at_2: Array, loss: LossName) -> float:
    z_N = at_2[0] * x_N + at_2[1]
    loss_N = np.logaddexp(0, z_N) - y_N * z_N if loss == "log" else (z_N - y_N) ** 2 / 2
    return float(loss_N.mean() + RIDGE * ((at_2[0] - 1) ** 2 + at_2[1] ** 2) / 2)


def scores(value_N: Array, *, loss: LossName) -> Array:
    """What a map is fitted on: log-odds of probabilities, or the values themselves."""
    return log_odds(value_N) if loss == "log" else np.asarray(value_N, np.float64)


def values(score_N: Array, *, loss: LossName) -> Array:
    """The inverse of `scores`."""
    return np.asarray(expit(score_N) if loss == "log" else score_N)


def log_odds(value_N: Array) -> Array:
    """log p/(1 − p), of probabilities kept off 0 and 1."""
    return np.asarray(logit(np.clip(np.asarray(value_N, np.float64), CERTAIN, 1 - CERTAIN)))


def split_maps(
    score_N: Array, target_N: Array, customer_N: NDArray[np.str_], *, loss: LossName
) -> tuple[Whole, list[LinearMap]]:
    """For reports: each step's split, and each split's map, fitted on the other splits alone.

    score_N: NaN where nothing was said. Customers stay whole; they are dealt to `NUM_SPLITS` splits
    in the order of their names. With one customer there is nobody else to learn from: the map
    changes nothing.
    """
    _, index_N = np.unique(customer_N, return_inverse=True)
    split_N = index_N.astype(np.int64) % NUM_SPLITS
    maps = []
    for split in range(NUM_SPLITS):
        others_N = (split_N != split) & np.isfinite(score_N)
        is_fitted = bool(others_N.any())
        maps.append(
            fit_linear_map(score_N[others_N], target_N[others_N], loss=loss)
            if is_fitted
            else IDENTITY
        )
    return split_N, maps


def mapped(value_N: Array, split_N: Whole, maps: Sequence[LinearMap], *, loss: LossName) -> Array:
    """Values after each step's own split's map."""
    a_N = np.array([one.a for one in maps])[split_N]
    b_N = np.array([one.b for one in maps])[split_N]
    return values(a_N * scores(value_N, loss=loss) + b_N, loss=loss)


@dataclass(frozen=True)
class Reliability:
    """What was predicted and what came true in bins of equally many steps; the diagram's data."""

    predicted_M: tuple[float, ...]  # mean value of each bin, rising
    came_true_M: tuple[float, ...]  # mean target
    count_M: tuple[int, ...]
    ece: float  # Σ_m n_m/N · |predicted − came true|
    brier: float  # mean squared difference of value and target
    reliability: float  # Σ_m n_m/N · (predicted − came true)²; 0 is best
    resolution: float  # Σ_m n_m/N · (came true − mean target)²; the more the better
    uncertainty: float  # variance of the targets


def reliability(value_N: Array, target_N: Array, *, num_bins: int = NUM_BINS) -> Reliability:
    """Calibration in bins of equal mass; equal values may stand in two bins.

        Brier = reliability − resolution + uncertainty     (exactly, if a bin's values are equal
                                                            and targets are 0 or 1 or equal in it)

    Fewer steps than bins give as many bins as steps.
    Raises ShapeError if the two differ in shape or are empty.
    Source: Murphy 1973; Nguyen & O'Connor 2015 (equal mass).
    """
    if value_N.shape != target_N.shape or value_N.size == 0:
        raise ShapeError(
            f"expected a target for each of 1 or more values, found {target_N.shape} and "
            f"{value_N.shape}; give the held-out steps whose target is known"
        )
    order_N = np.argsort(value_N, kind="stable")
    bins = np.array_split(order_N, min(num_bins, len(order_N)))
    predicted_M = np.array([value_N[one].mean() for one in bins])
    came_true_M = np.array([target_N[one].mean() for one in bins])
    share_M = np.array([len(one) for one in bins]) / len(order_N)
    return Reliability(
        tuple(predicted_M.tolist()),
        tuple(came_true_M.tolist()),
        tuple(len(one) for one in bins),
        ece=float(share_M @ np.abs(predicted_M - came_true_M)),
        brier=float(((value_N - target_N) ** 2).mean()),
        reliability=float(share_M @ (predicted_M - came_true_M) ** 2),
        resolution=float(share_M @ (came_true_M - target_N.mean()) ** 2),
        uncertainty=float(target_N.var()),
    )


def isotonic_curve(value_N: Array, target_N: Array) -> list[tuple[float, float]]:
    """The rising step curve closest to the targets, one (value, mean target) where it jumps.

    For reports only: its flat steps erase differences between replies.
    """
    x_N, index_N, count_N = np.unique(value_N, return_inverse=True, return_counts=True)
    mean_N = np.bincount(index_N, target_N) / count_N
    fitted_N = isotonic_regression(mean_N, weights=count_N.astype(np.float64)).x
    is_edge_N = np.ones(len(x_N), bool)
    is_edge_N[1:-1] = (np.diff(fitted_N)[:-1] > 0) | (np.diff(fitted_N)[1:] > 0)
    return list(zip(x_N[is_edge_N].tolist(), fitted_N[is_edge_N].tolist(), strict=True))
