"""What a Q-function is fitted to, whether it can be trusted, and how far one may go with it.

Pure functions on arrays: targets, calibration, the gate, the certificate, KL control, stop rules.
No model and no file.
"""

from turnwise.qvalues.certificate import (
    error_half_spread,
    gain_bound,
    improvement_bound,
    is_certified,
    loss_bound,
    policy_distance,
    required_beta,
)
from turnwise.qvalues.targets import (
    censored_share,
    fqe_target,
    has_fqe_target,
    has_monte_carlo_target,
    rewards_with_outcome,
)

__all__ = [
    "censored_share",
    "error_half_spread",
    "fqe_target",
    "gain_bound",
    "has_fqe_target",
    "has_monte_carlo_target",
    "improvement_bound",
    "is_certified",
    "loss_bound",
    "policy_distance",
    "required_beta",
    "rewards_with_outcome",
]
