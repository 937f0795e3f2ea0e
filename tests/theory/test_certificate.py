"""The bounds of the certificate hold for exact improvement on a noisy Q."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from tests.theory.mdp import (
    Array,
    expected,
    gain,
    kl,
    normalised,
    reply_policy,
    tilt,
    token_policy,
    toy,
)
from turnwise.qvalues import (
    error_half_spread,
    gain_bound,
    improvement_bound,
    is_certified,
    loss_bound,
    required_beta,
)

LOGPI = reply_policy(token_policy(1))
Q, V = toy().q(LOGPI)
ROUNDING = -1e-12


@dataclass(frozen=True)
class Draw:
    """One improvement on a Q that errs."""

    beta: float
    noisy_q: Array
    new: Array

    @property
    def error(self) -> Array:
        return self.noisy_q - Q

    @property
    def distance(self) -> Tensor:
        return torch.from_numpy(np.abs(np.exp(self.new) - np.exp(LOGPI)).sum(1))


def draws(*, exact: bool) -> Iterator[Draw]:
    """300 of noise, β and how far the optimiser stays from the best."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        beta, size = 10 ** rng.uniform(-2, 0.5), 10 ** rng.uniform(-3, 0)
        noisy_q = Q + size * rng.uniform(-1, 1, Q.shape)
        new = tilt(LOGPI, noisy_q, beta)
        if not exact:
            new = normalised(new + rng.uniform(0, 2) * rng.normal(size=Q.shape))
        yield Draw(beta, noisy_q, new)


def test_t14_theorem_two_bounds_the_gain_from_below() -> None:
    for draw in draws(exact=False):
        kl_s = kl(draw.new, LOGPI)
        best = draw.beta * logsumexp(LOGPI + draw.noisy_q / draw.beta, axis=1)
        shortfall = best - (expected(draw.new, draw.noisy_q) - draw.beta * kl_s)
        assert shortfall.min() > ROUNDING
        visits, penalised, behind = map(torch.from_numpy, (toy().visits(draw.new), kl_s, shortfall))
        gained = toy().j(toy().q(draw.new)[1]) - toy().j(V)
        epsilon = float(np.abs(draw.error).max())
        for error in (torch.full_like(visits, 2 * epsilon), epsilon * draw.distance):
            bound = improvement_bound(visits, penalised, behind, error, beta=draw.beta)
            assert gained - float(bound) > ROUNDING


def test_t15_no_state_loses_more_and_every_certified_state_gains() -> None:
    num_certified = num_lost = 0
    for draw in draws(exact=True):
        gained = torch.from_numpy(gain(draw.new, LOGPI, Q))
        h, x = error_half_spread(torch.from_numpy(draw.error)), draw.distance
        epsilon = torch.from_numpy(np.abs(draw.error).max(1))
        assert (h <= epsilon).all()
        for error in (h, epsilon):
            bound = gain_bound(x, error, beta=draw.beta)
            assert (gained - bound).min() > ROUNDING
            assert (bound - loss_bound(error, beta=draw.beta)).min() > ROUNDING
            certified = is_certified(x, error, beta=draw.beta)
            assert (gained[certified] > ROUNDING).all()
            num_certified += int(certified.sum())
        num_lost += int((gained < 0).sum())
    assert num_certified > 1000
    assert num_lost > 1000


def test_t15_with_the_required_beta_no_value_falls_by_more_than_the_tolerance() -> None:
    rng = np.random.default_rng(1)
    for tolerance in (0.003, 0.03):
        noisy_q = Q + 0.3 * rng.uniform(-1, 1, Q.shape)
        h = float(error_half_spread(torch.from_numpy(noisy_q - Q)).max())
        beta = required_beta(h, horizon=3, tolerance=tolerance)
        assert (toy().q(tilt(LOGPI, noisy_q, beta))[1] - V).min() > -tolerance
