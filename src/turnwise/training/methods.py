"""Where a turn's reward becomes a token's advantage: credit × estimator.

A credit (`credits`) says what each turn earned, in one of four forms; an estimator (`estimators`)
says for each form what that was worth beyond expectation. Here both are looked up and the result
is scaled over the whole step.

Axes: `B` dialogues, `K` turns, `T` tokens.
"""

import torch
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
from turnwise.training.config import CreditName, InfoConfig, MethodConfig
from turnwise.training.credits import (
    CREDITS,
    Credit,
    OutcomeOnly,
    TokenRewards,
    TurnGains,
    TurnRewards,
    TurnWeights,
)
from turnwise.training.estimators import (
    ESTIMATORS,
    Estimator,
    ppo,
    public_code,
    raw_or_grpo,
    rloo_outcome,
    values_before_turns,
)
from turnwise.training.evidence import Evidence
from turnwise.training.gating import with_gains
from turnwise.training.metrics import by_turn, turn_mean
from turnwise.training.terms import credit_names, credit_weights, keeps_lone_outcomes, only

DEFAULT_INFO = InfoConfig()


def token_advantages(
    evidence: Evidence, method: MethodConfig, info: InfoConfig = DEFAULT_INFO
) -> Tensor:
    """advantage_BT: what the policy's objective multiplies each token's ratio with.

    Zero where the policy did not write; scaled over the whole step. Of several credits the
    estimates are added by their weights; a weight of 0 leaves its credit out altogether. An
    untrained PRM's rewards are noise at full strength, since scaling removes their size: as far as
    it is not trusted, the trajectory credit stands in their place.
    Raises ConfigError for a combination that is not defined.
    """
    estimate_BT = torch.zeros_like(evidence.written_BT, dtype=evidence.outcome_B.dtype)
    if evidence.kl_reward_BK is not None:
        estimate_BT = _kl_advantage(evidence.kl_reward_BK, evidence, method)
    trustless_BT, learned = estimate_BT, list[CreditName]()
    gains: list[tuple[float, Credit]] = []
    for name, weight in credit_weights(method, info, evidence.step).items():
        if weight == 0:
            continue
        one = only(method, name)
        credit = CREDITS[name](evidence, one)
        if isinstance(credit, TurnGains) or (method.gated and name != "trajectory"):
            gains.append((weight, credit))
            continue
        term_BT = _estimator(credit, method, name, info)(credit, evidence, one)
        estimate_BT = estimate_BT + weight * term_BT
        if _is_under_trust(credit, method):
            learned.append(name)
            term_BT = rloo_outcome(OutcomeOnly(), evidence, one)
        trustless_BT = trustless_BT + weight * term_BT
    for weight, credit in gains:
        estimate_BT = with_gains(estimate_BT, credit, evidence, info, weight=weight)
        trustless_BT = with_gains(trustless_BT, credit, evidence, info, weight=weight)
    advantage_BT = _scaled(estimate_BT, evidence, method)
    if not learned:
        return advantage_BT
    trust = evidence.needs_prm(learned[0]).gate
    return mix_by_trust(advantage_BT, _scaled(trustless_BT, evidence, method), trust=trust)


def _is_under_trust(credit: Credit, method: MethodConfig) -> bool:
    is_learned = isinstance(credit, TokenRewards) or (
        isinstance(credit, TurnRewards) and credit.is_learned
    )
    return is_learned and method.trust_mix and method.estimator != "ppo"


def _estimator(
    credit: Credit, method: MethodConfig, name: CreditName, info: InfoConfig
) -> Estimator:
    if keeps_lone_outcomes(method, info) and name == "trajectory":
        return raw_or_grpo
    if method.estimator == "rloo" and only(method, name).baseline == "masked_rloo":
        return public_code
    estimate = ESTIMATORS.get((method.estimator, type(credit)))
    if estimate is None:
        raise ConfigError(
            f"estimator {method.estimator} is not defined for credit {name}; "
            "`turnwise methods` lists what goes together"
        )
    return estimate


def critic_targets(evidence: Evidence, method: MethodConfig) -> Tensor:
    """What the critic is to say of a step: A + V before scaling.

    BT where it speaks before each written token, else BK. Estimator ppo predicts the return of the
    one credit that goes through it, credit value the outcome whatever stands beside it.
    """
    critic = evidence.needs_critic("a critic's target")
    # A credit whose weight is 0 by now was not asked for: the outcome is learnt in its place.
    names = [name for name in known_credits(evidence, method) if name not in ("value", "infopo")]
    name: CreditName = names[0] if names and method.estimator == "ppo" else "trajectory"
    one = only(method, name)
    advantage_BT = ppo(CREDITS[name](evidence, one), evidence, one)
    if critic.value_BT is not None:
        return advantage_BT + critic.value_BT
    # Over turns every token of a turn has the turn's advantage.
    return turn_mean(advantage_BT, evidence) + critic.value_BK


def turn_credit(evidence: Evidence, method: MethodConfig, name: CreditName) -> Tensor:
    """credit_BK of one method for records and figures; 0 where no turn is.

    In outcome units; of infopo in nats, and 0 where a turn is not eligible.
    """
    credit = CREDITS[name](evidence, only(method, name))
    if isinstance(credit, OutcomeOnly):
        return shared_outcome(evidence.outcome_B, uniform_weights(evidence.is_turn_BK))
    if isinstance(credit, TurnWeights):
        return shared_outcome(evidence.outcome_B, credit.weight_BK)
    if isinstance(credit, TurnRewards):
        return credit.reward_BK
    if isinstance(credit, TurnGains):
        return torch.where(credit.is_eligible_BK, credit.gain_BK, 0.0)
    return turn_sum(credit.reward_BT, evidence.turn_of_token_BT, evidence.num_turns)


def known_credits(evidence: Evidence, method: MethodConfig) -> list[CreditName]:
    """The method's credits that the step has evidence of: one of weight 0 was not asked for."""
    absent = {
        "infopo": evidence.info is None,
        "judge": evidence.judge_BK is None,
        "lookahead": evidence.lookahead_BK is None,
    }
    return [name for name in credit_names(method) if not absent.get(name, False)]


def credit_metrics(evidence: Evidence, method: MethodConfig) -> dict[str, float]:
    """Mean credit of turn k by the run's own credits, and how far implicit values were off."""
    out: dict[str, float] = {}
    for name in known_credits(evidence, method):
        credit_BK = turn_credit(evidence, method, name)
        out |= by_turn(f"credit/{name}/turn/", credit_BK, evidence.is_turn_BK)
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
    if method.scaling == "none":
        return advantage_BT
    if method.scaling == "shift":
        return whiten_with_shift(advantage_BT, evidence.written_BT)
    return scale_by_rms(advantage_BT, evidence.written_BT, floor=method.scaling_floor)
