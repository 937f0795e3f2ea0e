"""From logits to log-probabilities and entropies, and what scores must never be."""

import torch
from torch import Tensor

from turnwise.errors import ConfigError, LogProbError


def check_temperature(temperature: float) -> None:
    """Raises ConfigError for a temperature that nothing can be scored at."""
    if temperature <= 0:
        raise ConfigError(
            f"expected a temperature above 0 to score at, got {temperature}; "
            "greedy samples are scored at 1"
        )


def check_finite(logp_BT: Tensor, role: str) -> None:
    """Raises LogProbError naming the first token whose log-probability is not finite."""
    finite_BT = torch.isfinite(logp_BT)
    if not bool(finite_BT.all()):
        b, t = (int(i) for i in (~finite_BT).nonzero()[0])
        raise LogProbError(
            f"{role}: expected finite log-probabilities, found {logp_BT[b, t].item()} at dialogue "
            f"{b}, position {t}; the weights have diverged: lower the learning rate"
        )


def logp_and_entropy(
    logits_NV: Tensor, target_N: Tensor, temperature: float, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and the distribution's entropy, both float32 nats.

    Without `with_entropy` the second is zero: the pass over V is saved.
    """
    logits_NV = logits_NV.float()
    if temperature != 1.0:
        logits_NV = logits_NV / temperature
    log_sum_N = logits_NV.logsumexp(dim=-1)
    logp_N = logits_NV.gather(-1, target_N[:, None])[:, 0] - log_sum_N
    if not with_entropy:
        return logp_N, torch.zeros_like(logp_N)
    mean_logit_N = ((logits_NV - log_sum_N[:, None]).exp() * logits_NV).sum(dim=-1)
    return logp_N, log_sum_N - mean_logit_N
