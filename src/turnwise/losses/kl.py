"""Distance to the reference: as a loss of each token, or as a reward of each turn.

The three estimators look at the sampled token only. All are expectations under the policy; their
gradients differ: k2's is that of KL(policy ‖ reference), k3's that of KL(reference ‖ policy),
k1's is zero in expectation, so k1 belongs in the reward or in a metric.
"""

from torch import Tensor

from turnwise.arrays import check_same_shape, turn_sum
from turnwise.losses.checks import check_finite, zero_unwritten
from turnwise.losses.surrogate import MAX_LOG_RATIO

MAX_K3 = 10.0


def kl_k1(logp_policy_BT: Tensor, logp_reference_BT: Tensor) -> Tensor:
    """k1 = logp_policy − logp_reference per token: unbiased, high variance, any sign.

    Nats. Source: J. Schulman, "Approximating KL divergence", 2020.
    """
    check_same_shape(logp_policy_BT=logp_policy_BT, logp_reference_BT=logp_reference_BT)
    return logp_policy_BT - logp_reference_BT


def kl_k2(logp_policy_BT: Tensor, logp_reference_BT: Tensor) -> Tensor:
    """k2 = ½·(logp_policy − logp_reference)² per token: biased, low variance, never negative.

    Nats squared. Source: J. Schulman, "Approximating KL divergence", 2020.
    """
    return 0.5 * kl_k1(logp_policy_BT, logp_reference_BT).square()


def kl_k3(logp_policy_BT: Tensor, logp_reference_BT: Tensor) -> Tensor:
    """k3 = clamp(exp(d) − d − 1, ±10), d = clamp(logp_reference − logp_policy, ±20), per token.

    Nats, in [0, 10]: unbiased up to the clamps, low variance. The gradient is 0 where a clamp
    holds. Source: J. Schulman, "Approximating KL divergence", 2020; the clamps are those of the
    public ITPO settings (arXiv:2603.23550).
    """
    d_BT = -kl_k1(logp_policy_BT, logp_reference_BT).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    # expm1 keeps k3 from turning into rounding noise where policy and reference agree.
    return (d_BT.expm1() - d_BT).clamp(-MAX_K3, MAX_K3)


def kl_turn_reward(
    logp_behaviour_BT: Tensor,
    logp_reference_BT: Tensor,
    turn_of_token_BT: Tensor,
    *,
    kl_coef: float,
    num_turns: int | None = None,
) -> Tensor:
    """What to add to the reward of each turn so that it pays for leaving the reference.

        −kl_coef · Σ_{t in turn k} (logp_behaviour − logp_reference)

    Both in nats, at temperature 1; their values do not matter where the turn is −1.
    num_turns: K; by default the largest turn index + 1. Returns BK, 0 for an empty turn; add it
    before any baseline, and then leave the KL out of the loss.
    Raises LogProbError for a non-finite value where the policy wrote.
    """
    check_same_shape(logp_behaviour_BT=logp_behaviour_BT, logp_reference_BT=logp_reference_BT)
    written_BT = turn_of_token_BT >= 0
    check_finite(logp_behaviour_BT, written_BT, "logp_behaviour_BT")
    check_finite(logp_reference_BT, written_BT, "logp_reference_BT")
    excess_BT = zero_unwritten(logp_behaviour_BT - logp_reference_BT, written_BT)
    return -kl_coef * turn_sum(excess_BT, turn_of_token_BT, num_turns)
