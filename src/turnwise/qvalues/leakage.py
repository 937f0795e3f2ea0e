"""Whether a Q-function pays for style: how long a reply is, how it looks, what it asks.

Axes: `N` decision steps.
"""

import unicodedata
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Whole = NDArray[np.int64]


def emoji_count(text: str) -> int:
    """Pictographs in a text; what modifies or joins them does not count."""
    return sum(unicodedata.category(c) == "So" for c in text)


STYLES: Mapping[str, Callable[[str], float]] = {
    "length": len,
    "emoji": emoji_count,
    "question marks": lambda text: text.count("?") + text.count("\N{FULLWIDTH QUESTION MARK}"),
}


def partial_correlation(x_N: Array, y_N: Array, turn_N: Whole) -> float:
    """Correlation of what is left of x and y once each turn index's mean is taken off.

        r = Σ x̃ỹ / sqrt(Σ x̃² · Σ ỹ²),   x̃_n = x_n − mean of x at turn_n

    Replies of early and late turns differ in style and in value; that alone is no leakage.
    Returns NaN where x or y does not vary within any turn index.
    """
    x_N, y_N = _within(x_N, turn_N), _within(y_N, turn_N)
    size = float(np.sqrt((x_N**2).sum() * (y_N**2).sum()))
    return float((x_N * y_N).sum() / size) if size > 1e-12 * len(x_N) else float("nan")


def _within(x_N: Array, turn_N: Whole) -> Array:
    _, index_N = np.unique(turn_N, return_inverse=True)
    mean_K = np.bincount(index_N, x_N) / np.bincount(index_N)
    return np.asarray(x_N - mean_K[index_N])
