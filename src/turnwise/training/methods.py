"""Where a turn's reward becomes a token's advantage: credit × estimator.

A credit (`credits`) says what each turn earned, in one of four forms; an estimator (`estimators`)
says for each form what that was worth beyond expectation. Here both are looked up and the result
is scaled over the whole step.

Axes: `B` dialogues, `K` turns, `T` tokens.
"""

from torch import Tensor

from turnwise.advantages import (
    calibration_gap,
    loo_turn_index,
    mix_by_trust,
    reward_to_go,
    scale_by_rms,
    whiten_with_shift,
)
from turnwise.arrays import spread_to_tokens, turn_sum
from turnwise.credit import shared_outcome, uniform_weights
from turnwise.errors import ConfigError
from turnwise.training.config import MethodConfig
from turnwise.training.credits import (
    CREDITS,
    Credit,
    OutcomeOnly,
    TokenRewards,
    TurnRewards,
    TurnWeights,
)
from turnwise.training.estimators import (
    ESTIMATORS,
    Estimator,
    public_code,
    rloo_outcome,
    values_before_turns,
)
from turnwise.training.evidence import Evidence
from turnwise.training.metrics import by_turn


def token_advantages(evidence: Evidence, method: MethodConfig) -> Tensor:
    """advantage_BT: what the policy's objective multiplies each token's ratio with.

    Zero where the policy did not write; scaled over the whole step.
    Raises ConfigError for a combination that is not defined.
    """
    credit = CREDITS[method.credit](evidence, method)
    estimate_BT = _estimator(credit, method)(credit, evidence, method)
    if evidence.kl_reward_BK is not None:
        kl_BT = _kl_advantage(evidence.kl_reward_BK, evidence, method)
        estimate_BT = estimate_BT + kl_BT
    advantage_BT = _scaled(estimate_BT, evidence, method)
    is_learned = isinstance(credit, TokenRewards) or (
        isinstance(credit, TurnRewards) and credit.is_learned
    )
    if not (is_learned and method.trust_mix):
        return advantage_BT
    # An untrained PRM's rewards are noise at full strength, since scaling removes their size.
    gate = evidence.needs_prm(method.credit).gate
    trajectory_BT = _scaled(rloo_outcome(OutcomeOnly(), evidence, method), evidence, method)
    return mix_by_trust(advantage_BT, trajectory_BT, trust=gate)


def _estimator(credit: Credit, method: MethodConfig) -> Estimator:
    if method.estimator == "rloo" and method.baseline == "masked_rloo":
        return public_code
    estimate = ESTIMATORS.get((method.estimator, type(credit)))
    if estimate is None:
        raise ConfigError(
            f"estimator {method.estimator} is not defined for credit {method.credit}; "
            "`turnwise methods` lists what goes together"
        )
    return estimate


def turn_credit(evidence: Evidence, method: MethodConfig, name: str) -> Tensor:
    """credit_BK of one method in outcome units, for records and figures; 0 where no turn is."""
    credit = CREDITS[name](evidence, method)
    if isinstance(credit, OutcomeOnly):
        return shared_outcome(evidence.outcome_B, uniform_weights(evidence.is_turn_BK))
    if isinstance(credit, TurnWeights):
        return shared_outcome(evidence.outcome_B, credit.weight_BK)
    if isinstance(credit, TurnRewards):
        return credit.reward_BK
    return turn_sum(credit.reward_BT, evidence.turn_of_token_BT, evidence.num_turns)


def credit_metrics(evidence: Evidence, method: MethodConfig) -> dict[str, float]:
    """Mean credit of turn k by the run's own method, and how far implicit values were off."""
    credit_BK = turn_credit(evidence, method, method.credit)
    out = by_turn(f"credit/{method.credit}/turn/", credit_BK, evidence.is_turn_BK)
    if method.estimator == "implicit-value":
        value_BK = values_before_turns(evidence, method)
        gap_K = calibration_gap(
            value_BK, evidence.outcome_B, evidence.is_turn_BK, evidence.is_valid_B
        )
        out |= {f"prm/calibration_gap/{k}": gap for k, gap in enumerate(gap_K) if gap is not None}
    return out


def _kl_advantage(kl_reward_BK: Tensor, evidence: Evidence, method: MethodConfig) -> Tensor:
    """What leaving the reference costs from each turn on, over the siblings' cost from there."""
    return_BK = reward_to_go(kl_reward_BK, evidence.is_turn_BK, discount=method.turn_discount)
    advantage_BK = loo_turn_index(
        return_BK, evidence.is_turn_BK, evidence.group_B, evidence.is_valid_B
    )
    return spread_to_tokens(advantage_BK, evidence.turn_of_token_BT)


def _scaled(advantage_BT: Tensor, evidence: Evidence, method: MethodConfig) -> Tensor:
    if method.scaling == "shift":
        return whiten_with_shift(advantage_BT, evidence.written_BT)
    return scale_by_rms(advantage_BT, evidence.written_BT, floor=method.scaling_floor)
