"""How far a policy may go on an estimated Q: bounds on what the improvement gains and loses.

Q̂ stands for Q of the reference policy π; π' is the improved policy, π'(y|s) ∝ π(y|s)·exp(Q̂/β).
With exact inputs these are theorems. With an estimated h (one Q-function against another, blind to
what they share) and x (from samples) they are estimates, and are to be called so. Axes: `S`
contexts, `G` replies of one context.

Source: Jiang et al. 2025, arXiv:2511.21638, Theorem 2; the bounds in x and h are ours.
"""

from torch import Tensor

from turnwise.errors import ConfigError


def policy_distance(log_ratio_SG: Tensor) -> Tensor:
    """x_s = E_π|π'/π − 1|, an estimate of ‖π'(·|s) − π(·|s)‖₁ in [0, 2].

    log_ratio_SG: log π' − log π of whole replies that π wrote, nats. For replies that π' wrote give
    log π − log π': the distance is symmetric. Returns x_S.
    """
    return log_ratio_SG.expm1().abs().mean(dim=1)


def error_half_spread(error_SG: Tensor) -> Tensor:
    """h_s = ½·(max − min) of Q̂ − Q over the replies of one context, return units. Returns h_S.

    An error that is common to all replies of a context costs nothing.
    """
    return (error_SG.amax(dim=1) - error_SG.amin(dim=1)) / 2


def gain_bound(x_S: Tensor, h_S: Tensor, *, beta: float) -> Tensor:
    """β·x² − h·x: what E_{π'}Q − E_πQ is at least, in each context. Returns S.

    Raises ConfigError for β ≤ 0.
    """
    _check_beta(beta)
    return beta * x_S.square() - h_S * x_S


def is_certified(x_S: Tensor, h_S: Tensor, *, beta: float) -> Tensor:
    """x ≥ h/β: contexts that cannot have lost. Returns bool S. Raises ConfigError for β ≤ 0."""
    _check_beta(beta)
    return x_S >= h_S / beta


def loss_bound(h_S: Tensor, *, beta: float) -> Tensor:
    """−h²/(4β): no context loses more, however far π' went. Raises ConfigError for β ≤ 0."""
    _check_beta(beta)
    return -h_S.square() / (4 * beta)


def required_beta(half_spread: float, *, horizon: float, tolerance: float) -> float:
    """β = H·h²/(4·tol): with it the value of no state falls by more than the tolerance.

    half_spread: the largest h, return units. horizon: decision steps H, or 1/(1 − γ). tolerance:
    return units, above 0. Raises ConfigError for a tolerance or horizon that is not above 0.
    """
    if not (tolerance > 0 and horizon > 0):
        raise ConfigError(f"expected tolerance and horizon above 0, got {tolerance} and {horizon}")
    return horizon * half_spread**2 / (4 * tolerance)


def improvement_bound(
    visits_S: Tensor, kl_S: Tensor, shortfall_S: Tensor, error_S: Tensor, *, beta: float
) -> Tensor:
    """Σ_s D(s)·[β·KL_s − δ_s − error_s]: what V' − V is at least, a scalar.

    visits_S: D, discounted visits of π'. kl_S: of either direction, the one that was penalised,
    nats. shortfall_S: δ, how far π' stays behind the best E Q̂ − β·KL. error_S: 2ε, or the sharper
    ε·x, where |Q̂ − Q| ≤ ε. Raises ConfigError for β ≤ 0.
    Source: arXiv:2511.21638, Theorem 2; that every non-negative penalty will do is ours.
    """
    _check_beta(beta)
    return (visits_S * (beta * kl_S - shortfall_S - error_S)).sum()


def _check_beta(beta: float) -> None:
    if not beta > 0:
        raise ConfigError(f"expected beta > 0, got {beta}; without a penalty nothing is certain")
