"""From logits to log-probabilities and entropies, and what scores must never be."""

import torch
from torch import Tensor

from turnwise.errors import ConfigError, LogProbError
from turnwise.tokens import TurnBatch


def check_temperature(temperature: float) -> None:
    """Raises ConfigError for a temperature that nothing can be scored at."""
    if temperature <= 0:
        raise ConfigError(
            f"expected a temperature above 0 to score at, got {temperature}; "
            "greedy samples are scored at 1"
        )


def check_finite(logp_BT: Tensor, role: str, batch: TurnBatch | None = None) -> None:
    """Raises LogProbError naming the first token whose log-probability is not finite.

    batch: of packed rows, to say which dialogue of the row and which turn it is.
    """
    finite_BT = torch.isfinite(logp_BT)
    if not bool(finite_BT.all()):
        b, t = (int(i) for i in (~finite_BT).nonzero()[0])
        where = f"dialogue {b}, position {t}"
        if batch is not None and batch.tree is not None:
            dialogue = int((batch.tree.parent_BT[b, : t + 1] < 0).sum()) - 1
            turn = int(batch.turn_of_token_BT[b, t])
            where = f"dialogue {dialogue} of packed row {b}, turn {turn}, column {t}"
        raise LogProbError(
            f"{role}: expected finite log-probabilities, found {logp_BT[b, t].item()} at {where}; "
            "the weights have diverged: lower the learning rate"
        )


def logp_and_entropy(
    logits_NV: Tensor, target_N: Tensor, temperature: float, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and the distribution's entropy, both float32 nats.

    Without `with_entropy` the second is zero: the pass over V is saved. Logits in double precision
    stay what they are.
    """
    logits_NV = _scaled(logits_NV, temperature)
    log_sum_N = logits_NV.logsumexp(dim=-1)
    logp_N = logits_NV.gather(-1, target_N[:, None])[:, 0] - log_sum_N
    if not with_entropy:
        return logp_N, torch.zeros_like(logp_N)
    mean_logit_N = ((logits_NV - log_sum_N[:, None]).exp() * logits_NV).sum(dim=-1)
    return logp_N, log_sum_N - mean_logit_N


def divergence_of(p_NV: Tensor, q_NV: Tensor, temperature: float) -> Tensor:
    """KL(p ‖ q) = Σ_v p (log p − log q) of each pair of logits, float32 nats, >= 0."""
    return _divergence(*(_scaled(x, temperature).log_softmax(dim=-1) for x in (p_NV, q_NV)))


def compared(
    p_NV: Tensor, q_NV: Tensor, target_N: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each pair of logits: log p and log q of the target, KL(p ‖ q) and KL(q ‖ p); nats."""
    logp_NV, logq_NV = (_scaled(x, temperature).log_softmax(dim=-1) for x in (p_NV, q_NV))
    here_N, there_N = (x.gather(-1, target_N[:, None])[:, 0] for x in (logp_NV, logq_NV))
    return here_N, there_N, _divergence(logp_NV, logq_NV), _divergence(logq_NV, logp_NV)


def _divergence(logp_NV: Tensor, logq_NV: Tensor) -> Tensor:
    p_NV = logp_NV.exp()
    # What p never says costs nothing, whatever q thinks of it; what is not finite stays so.
    return torch.where(p_NV == 0, 0.0, p_NV * (logp_NV - logq_NV)).sum(dim=-1).clamp(min=0)


def _scaled(logits_NV: Tensor, temperature: float) -> Tensor:
    logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    return logits_NV if temperature == 1.0 else logits_NV / temperature
