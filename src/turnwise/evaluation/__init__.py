"""Fixed scenarios played with a fixed policy, and what they say: intervals, pairs, pass^k."""

from turnwise.evaluation.evaluate import (
    HELD_OUT,
    Evaluation,
    comparison,
    evaluate,
    scenario_rows,
    summary,
)
from turnwise.evaluation.statistics import (
    Interval,
    Rate,
    clustered_bootstrap_mean,
    paired_difference,
    paired_scores,
    pass_at_k,
    pass_hat_k,
)

__all__ = [
    "HELD_OUT",
    "Evaluation",
    "Interval",
    "Rate",
    "clustered_bootstrap_mean",
    "comparison",
    "evaluate",
    "paired_difference",
    "paired_scores",
    "pass_at_k",
    "pass_hat_k",
    "scenario_rows",
    "summary",
]
