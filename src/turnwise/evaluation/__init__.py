"""Fixed scenarios played with a fixed policy, and what they say: intervals, pairs, pass^k."""

from turnwise.evaluation.statistics import (
    Interval,
    Rate,
    clustered_bootstrap_mean,
    kendall_tau_b,
    paired_difference,
    paired_scores,
    pass_at_k,
    pass_hat_k,
    spearman,
)

__all__ = [
    "Interval",
    "Rate",
    "clustered_bootstrap_mean",
    "kendall_tau_b",
    "paired_difference",
    "paired_scores",
    "pass_at_k",
    "pass_hat_k",
    "spearman",
]
