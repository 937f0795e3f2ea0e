"""Random numbers that are functions of a key: no generator, no state, no order.

A generator hands out numbers in the order of asking, so a shuffled or divided batch gets others.
"""

import math

import torch
from torch import Tensor

GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64: splitmix64's increment
MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shifted_right(x: Tensor, bits: int) -> Tensor:
    # torch shifts int64 arithmetically; the mask takes the copies of the sign bit away.
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def hashed(key: Tensor) -> Tensor:
    """A well-mixed int64 for each int64. Source: splitmix64, Steele et al. 2014."""
    x = key + GOLDEN
    x = (x ^ _shifted_right(x, 30)) * MIX_1
    x = (x ^ _shifted_right(x, 27)) * MIX_2
    return x ^ _shifted_right(x, 31)


def keyed_uniform(key: Tensor, draw: int) -> Tensor:
    """Float64 in the open interval (0, 1): the `draw`-th number of each key."""
    step = torch.tensor(draw, device=key.device) * GOLDEN  # a tensor, so that it wraps around
    bits = _shifted_right(hashed(key + step), 11)
    return (bits.to(torch.float64) + 0.5) * 2.0**-53


def keyed_log_gamma(
    turn_BK: Tensor, dialogue_key_B1: Tensor, *, alpha: float, seed: int, step: int
) -> Tensor:
    """Logarithm of one Gamma(α, 1) number for each (seed, step, dialogue, turn).

    Logarithms, because for small α the numbers themselves underflow to 0.
    Source: Marsaglia and Tsang 2000, for α + 1, then G(α) = G(α + 1)·U^(1/α).
    """
    key = hashed(torch.tensor(seed, device=turn_BK.device))
    for part in (torch.tensor(step, device=turn_BK.device), dialogue_key_B1, turn_BK):
        key = hashed(key ^ hashed(part))
    shape = alpha + 1 - 1 / 3
    log_gamma_BK = torch.full_like(key, torch.nan, dtype=torch.float64)
    attempt = 0
    while bool(log_gamma_BK.isnan().any()):  # an attempt is refused once in twenty times or less
        u1, u2, u3 = (keyed_uniform(key, 1 + 3 * attempt + i) for i in range(3))
        normal = (-2 * u1.log()).sqrt() * (2 * math.pi * u2).cos()
        root = (1 + normal / math.sqrt(9 * shape)).clamp(min=1e-12)
        cube = root**3
        bound = normal**2 / 2 + shape * (1 - cube + cube.log())
        is_taken = log_gamma_BK.isnan() & (root > 1e-12) & (u3.log() < bound)
        log_gamma_BK = torch.where(is_taken, math.log(shape) + cube.log(), log_gamma_BK)
        attempt += 1
    return log_gamma_BK + keyed_uniform(key, 0).log() / alpha
