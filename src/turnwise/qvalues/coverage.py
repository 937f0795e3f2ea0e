"""Whether a Q-function has seen replies such as the policy writes, and whether it can rank them.

Axes: `N` logged decision steps, `M` sampled replies.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LOGGED_QUANTILE = 0.95
_MOST = 1000  # replies of one context that are compared with each other


def strange_share(logged_spread_N: Array, sampled_spread_M: Array) -> float:
    """Share of sampled replies on which the heads differ more than on 95 % of logged ones.

    A reply like the logged ones gives 0.05. Heads that never differ give NaN: they cannot tell.
    """
    if not len(sampled_spread_M) or not (logged_spread_N > 0).any():
        return float("nan")
    return float((sampled_spread_M > np.quantile(logged_spread_N, LOGGED_QUANTILE)).mean())


def ranking_agreement(
    q_N: Array, target_N: Array, context_N: Sequence[object]
) -> tuple[float, int]:
    """Share of pairs of replies to one context that Q orders as their returns do, and the pairs.

    Pairs with equal returns say nothing and are left out; equal Q counts half. Returns of single
    continuations are noisy, so a perfect Q stays below 1; a blind one gives 0.5. NaN without pairs.
    Of a context with more than a thousand replies every second, third, … one is looked at: a shop
    may greet every customer alike.
    """
    members: dict[object, list[int]] = {}
    for n, context in enumerate(context_N):
        members.setdefault(context, []).append(n)
    right, pairs = 0.0, 0
    groups = (group[:: math.ceil(len(group) / _MOST)] for group in members.values())
    for group in (group for group in groups if len(group) > 1):
        better = target_N[group][:, None] > target_N[group][None, :]
        ahead = np.sign(q_N[group][:, None] - q_N[group][None, :])
        right += float(((ahead[better] + 1) / 2).sum())
        pairs += int(better.sum())
    return (right / pairs if pairs else float("nan")), pairs
