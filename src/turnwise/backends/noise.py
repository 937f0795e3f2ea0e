"""Sampling noise as a function of (noise_seed, position), and tokens drawn with it.

One uniform number decides one token, so a dialogue is the same whatever batch, slot or order it
ran in (up to the last bit of the logits, which a batched matrix product may round differently).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _splitmix64(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Source: Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"."""
    z = state + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniforms(seed_R: NDArray[np.uint64], position_R: NDArray[np.int64]) -> NDArray[np.float64]:
    """One number in [0, 1) for each (seed, position); rows do not influence each other."""
    mixed = _splitmix64(_splitmix64(seed_R) + position_R.astype(np.uint64) * _GOLDEN)
    bits: NDArray[np.uint64] = mixed >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def as_seed(noise_seed: int) -> int:
    """Any integer as an unsigned 64-bit seed."""
    return noise_seed % 2**64


def draw(logits_RV: Tensor, uniform_R: Tensor, temperature_R: Tensor) -> tuple[Tensor, Tensor]:
    """The token at the quantile `uniform` of softmax(logits / temperature), and its log-prob.

        token = min { v : Σ_{w ≤ v} p_w > u }

    temperature_R: 0 takes the likeliest token and gives its log-probability at temperature 1.
    uniform_R: float64 in [0, 1). Returns (token_R int64, logp_R float32 nats). The sum runs in
    float64: with a large vocabulary float32 would never reach the rare tokens at its end.
    """
    greedy_R = temperature_R == 0
    divisor_R = torch.where(greedy_R, torch.ones_like(temperature_R), temperature_R)
    scaled_RV = logits_RV.float() / divisor_R[:, None]
    cumulative_RV = scaled_RV.double().softmax(dim=-1).cumsum(dim=-1)
    total_R = cumulative_RV[:, -1]
    below_R = torch.nextafter(total_R, torch.zeros_like(total_R))
    # Below the total whatever the rounding, so the token found has a positive probability.
    target_R = torch.minimum(uniform_R * total_R, below_R)
    drawn_R = torch.searchsorted(cumulative_RV, target_R[:, None], right=True)[:, 0]
    token_R = torch.where(greedy_R, scaled_RV.argmax(dim=-1), drawn_R)
    chosen_R = scaled_RV.gather(-1, token_R[:, None])[:, 0]
    return token_R, chosen_R - scaled_RV.logsumexp(dim=-1)
