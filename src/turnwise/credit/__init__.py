"""What each turn earned: turn rewards and turn weights as pure functions, arrays in, arrays out.

No baseline and no model lives here: log-probabilities come in, credit goes out.
"""

from turnwise.credit.agreement import (
    CreditAgreement,
    Scores,
    TurnAgreement,
    best_turn_agreement,
    credit_agreement,
    kendall_tau_b,
    rank_stability,
    spearman,
)
from turnwise.credit.infopo import (
    clamped_tokens,
    gain_full_kl,
    gain_k3,
    gain_marginal,
    gain_mean,
    next_turn_log_ratio,
    next_turn_sum,
    per_next_token,
)
from turnwise.credit.itpo import (
    implicit_token_rewards,
    implicit_turn_rewards,
    max_return_normalised,
    mix_with_uniform,
    robust_batch_scale,
    signed_turn_weights,
    turn_logits_mean_times_global_length,
    turn_logits_sum,
    turn_logits_sum_over_length_power,
    turn_weights,
)
from turnwise.credit.judged import judge_weights
from turnwise.credit.lookahead import lookahead_rewards
from turnwise.credit.oracle import oracle_turn_rewards
from turnwise.credit.outcome import (
    check_outcomes,
    dirichlet_weights,
    outcome_on_last_turn,
    shared_outcome,
    uniform_weights,
)
from turnwise.credit.penalty import count_words, length_penalty, penalty_share
from turnwise.credit.prime import token_returns
from turnwise.credit.public_code import turns_from_mask_runs, without_last_token
from turnwise.credit.qvalue import qvalue_turn_rewards
from turnwise.credit.trust import Trust, order_accuracy, sign_accuracy

__all__ = [
    "CreditAgreement",
    "Scores",
    "Trust",
    "TurnAgreement",
    "best_turn_agreement",
    "check_outcomes",
    "clamped_tokens",
    "count_words",
    "credit_agreement",
    "dirichlet_weights",
    "gain_full_kl",
    "gain_k3",
    "gain_marginal",
    "gain_mean",
    "implicit_token_rewards",
    "implicit_turn_rewards",
    "judge_weights",
    "kendall_tau_b",
    "length_penalty",
    "lookahead_rewards",
    "max_return_normalised",
    "mix_with_uniform",
    "next_turn_log_ratio",
    "next_turn_sum",
    "oracle_turn_rewards",
    "order_accuracy",
    "outcome_on_last_turn",
    "penalty_share",
    "per_next_token",
    "qvalue_turn_rewards",
    "rank_stability",
    "robust_batch_scale",
    "shared_outcome",
    "sign_accuracy",
    "signed_turn_weights",
    "spearman",
    "token_returns",
    "turn_logits_mean_times_global_length",
    "turn_logits_sum",
    "turn_logits_sum_over_length_power",
    "turn_weights",
    "turns_from_mask_runs",
    "uniform_weights",
    "without_last_token",
]
