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
from turnwise.qvalues.leakage import STYLES, emoji_count, partial_correlation
from turnwise.qvalues.targets import (
    censored_share,
    fqe_target,
    has_fqe_target,
    has_monte_carlo_target,
    rewards_with_outcome,
)

__all__ = [
    "IDENTITY",
    "STYLES",
    "Check",
    "Gate",
    "HeldOut",
    "Limits",
    "LinearMap",
    "LossName",
    "Reliability",
    "censored_share",
    "emoji_count",
    "error_half_spread",
    "fit_linear_map",
    "fqe_target",
    "gain_bound",
    "gate",
    "has_fqe_target",
    "has_monte_carlo_target",
    "improvement_bound",
    "is_certified",
    "isotonic_curve",
    "log_odds",
    "loss_bound",
    "losses",
    "mapped",
    "mean_interval",
    "partial_correlation",
    "policy_distance",
    "ranking_agreement",
    "reliability",
    "required_beta",
    "rewards_with_outcome",
    "split_maps",
    "strange_share",
]
