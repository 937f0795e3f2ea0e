"""From Q-values to the reward of a reply: R = (Q̂ − V̂)/scale.

Axes: `E` heads, `N` replies. Source: arXiv:2511.21638 takes Q as it is; minus V̂ and over one number
that is frozen for the round is ours: a shift for each prompt changes nothing, one scale for all
only renames β, a scale for each prompt would change what is learnt.
"""

from typing import Literal

import torch
from torch import Tensor

from turnwise.errors import ConfigError, FlatRewardError

Space = Literal["probability", "logit"]

_FLAT = 1e-3  # of the return range
_EDGE = 1e-4  # of the return range: the logit looks at values no nearer to its ends


def pessimistic(q_EN: Tensor, *, kappa: float) -> Tensor:
    """mean − κ·std over the heads (divided by E). Returns N. Raises ConfigError for κ < 0."""
    if kappa < 0:
        raise ConfigError(f"expected a pessimism of 0 or more, got {kappa}")
    return q_EN.mean(dim=0) - kappa * q_EN.std(dim=0, unbiased=False)


def reward_in_space(q_N: Tensor, v_N: Tensor, *, space: Space, low: float, high: float) -> Tensor:
    """Q̂ − V̂, or logit Q̂ − logit V̂ of both as shares of the return range.

    low, high: the lowest and highest return. The logit is for very rare outcomes, where a fixed
    difference of probabilities is out of reach; values within 10⁻⁴ of an end count as that.
    Returns N.
    """
    if space == "probability":
        return q_N - v_N
    share_q, share_v = ((x - low) / (high - low) for x in (q_N, v_N))
    return torch.logit(share_q, eps=_EDGE) - torch.logit(share_v, eps=_EDGE)


def reward_scale(excess_N: Tensor, reward_N: Tensor, *, low: float, high: float) -> float:
    """The standard deviation of the rewards of π_k's own replies, divided by N.

    excess_N: Q̂ − V̂ in return units. reward_N: the same in the reward's space.
    Raises FlatRewardError where the first spreads by less than 10⁻³ of the return range.
    """
    spread = float(excess_N.std(unbiased=False))
    if not spread >= _FLAT * (high - low):
        raise FlatRewardError(
            f"expected Q − V to tell replies apart by {_FLAT * (high - low):g} or more (return "
            f"units), found a standard deviation of {spread:.3g} over {len(excess_N)} replies of "
            "the policy; look at check G1 of the gate: collect more conversations, or switch on "
            "exploration. Nothing was trained"
        )
    return float(reward_N.std(unbiased=False))
