"""Fixed scenarios played with a fixed policy, and what they say: intervals, pairs, pass^k."""

from turnwise.evaluation.evaluate import (
    HELD_OUT,
    Evaluation,
    comparison,
    evaluate,
    scenario_rows,
    summary,
)
from turnwise.evaluation.planning import (
    Arm,
    Comparison,
    Ruling,
    Verdict,
    binary_variances,
    compare,
    design_effect,
    intraclass_correlation,
    ruling,
    sample_size,
)
from turnwise.evaluation.statistics import (
    Interval,
    Rate,
    clustered_bootstrap_difference,
    clustered_bootstrap_mean,
    paired_difference,
    paired_scores,
    pass_at_k,
    pass_hat_k,
)

__all__ = [
    "HELD_OUT",
    "Arm",
    "Comparison",
    "Evaluation",
    "Interval",
    "Rate",
    "Ruling",
    "Verdict",
    "binary_variances",
    "clustered_bootstrap_difference",
    "clustered_bootstrap_mean",
    "compare",
    "comparison",
    "design_effect",
    "evaluate",
    "intraclass_correlation",
    "paired_difference",
    "paired_scores",
    "pass_at_k",
    "pass_hat_k",
    "ruling",
    "sample_size",
    "scenario_rows",
    "summary",
]
