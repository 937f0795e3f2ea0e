"""What the theorem says of an improvement, with estimates in the place of what nobody knows.

Axes: `S` fixed prompts, `G` replies of each. Source: `turnwise.qvalues.certificate`.
"""

from dataclasses import dataclass

from turnwise.iteration.improve_start import Setting, Start
from turnwise.iteration.improve_step import compared
from turnwise.qvalues import (
    error_half_spread,
    gain_bound,
    is_certified,
    loss_bound,
    policy_distance,
    required_beta,
)

_TOLERANCE = 0.01  # of the return range: what a state may lose


@dataclass(frozen=True)
class Certificate:
    """Estimates, no proof: Q_A against Q_B is blind to what they share. Return units."""

    half_spread: float  # mean of h_s
    largest_half_spread: float
    beta: float  # β·scale, at the end
    beta_demanded: float  # so that no state loses more than the tolerance
    certified_share: float  # of prompts with x_s ≥ h_s/β
    gain_bound: float  # mean of β·x² − h·x
    loss_bound: float  # the worst of −h²/(4β)


def certificate(given: Setting, start: Start, *, beta: float) -> Certificate | None:
    """Estimated on π_k's replies to the fixed prompts, for the policy as it is now.

    beta: of the scaled reward. None where the theorem is about something else: another penalty,
    another reward, a reference that is not π_k, or one reply of each prompt.
    """
    config = given.config
    is_meant = (
        config.kl_direction == "reverse"
        and config.kl_estimator == "reward"
        and config.reward_space == "probability"
        and config.scale_rewards != "group"
        and config.reference == "round"
        and config.num_generations > 1
    )
    if not is_meant:
        return None
    scores = compared(given.policy, given.reference, start.replies)
    log_ratio_B = (scores.logp_BT - scores.logp_other_BT).sum(dim=1)
    x_S = policy_distance(start.replies.by_prompt(log_ratio_B))
    h_S = error_half_spread(start.a_SG - start.b_SG)
    beta, width = beta * given.rule.scale, given.rule.return_high - given.rule.return_low
    horizon = 1 + max(prompt.turn_index for prompt in given.prompts)
    return Certificate(
        half_spread=float(h_S.mean()),
        largest_half_spread=float(h_S.max()),
        beta=beta,
        beta_demanded=required_beta(
            float(h_S.max()), horizon=horizon, tolerance=_TOLERANCE * width
        ),
        certified_share=float(is_certified(x_S, h_S, beta=beta).float().mean()),
        gain_bound=float(gain_bound(x_S, h_S, beta=beta).mean()),
        loss_bound=float(loss_bound(h_S, beta=beta).min()),
    )
