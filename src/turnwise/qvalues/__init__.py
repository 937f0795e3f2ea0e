"""What a Q-function is fitted to, whether it can be trusted, and how far one may go with it.

Pure functions on arrays: targets, calibration, the gate, the certificate, KL control, stop rules.
No model and no file.
"""

from turnwise.qvalues.calibration import (
    IDENTITY,
    LinearMap,
    LossName,
    Reliability,
    fit_linear_map,
    isotonic_curve,
    log_odds,
    mapped,
    reliability,
    scores,
    split_maps,
)
from turnwise.qvalues.certificate import (
    error_half_spread,
    gain_bound,
    improvement_bound,
    is_certified,
    loss_bound,
    policy_distance,
    required_beta,
)
from turnwise.qvalues.coverage import ranking_agreement, strange_share
from turnwise.qvalues.gate import Check, Gate, Limits, gate
from turnwise.qvalues.held_out import HeldOut, losses, mean_interval
from turnwise.qvalues.kl_control import first_beta, forward_kl_advantage, kl_budget, next_beta
from turnwise.qvalues.leakage import STYLES, emoji_count, partial_correlation
from turnwise.qvalues.scale import pessimistic, reward_in_space, reward_scale
from turnwise.qvalues.stopping import Gains, StopRules, best_gains, has_stalled, stop_reason
from turnwise.qvalues.targets import (
    fqe_target,
    has_monte_carlo_target,
    rewards_with_outcome,
)

__all__ = [
    "IDENTITY",
    "STYLES",
    "Check",
    "Gains",
    "Gate",
    "HeldOut",
    "Limits",
    "LinearMap",
    "LossName",
    "Reliability",
    "StopRules",
    "best_gains",
    "emoji_count",
    "error_half_spread",
    "first_beta",
    "fit_linear_map",
    "forward_kl_advantage",
    "fqe_target",
    "gain_bound",
    "gate",
    "has_monte_carlo_target",
    "has_stalled",
    "improvement_bound",
    "is_certified",
    "isotonic_curve",
    "kl_budget",
    "log_odds",
    "loss_bound",
    "losses",
    "mapped",
    "mean_interval",
    "next_beta",
    "partial_correlation",
    "pessimistic",
    "policy_distance",
    "ranking_agreement",
    "reliability",
    "required_beta",
    "reward_in_space",
    "reward_scale",
    "rewards_with_outcome",
    "scores",
    "split_maps",
    "stop_reason",
    "strange_share",
]
