"""What a credit was worth beyond expectation: one function for each estimator and form of credit.

A new estimator is a function and its lines in `ESTIMATORS`. The equations live in
`turnwise.advantages`; here they are only put together.

Axes: `B` dialogues, `K` turns, `T` tokens.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from turnwise.advantages import (
    RewardSource,
    fit_turn_calibration,
    gae_over_tokens,
    gae_over_turns,
    group_offset_values,
    group_standardise,
    has_siblings,
    implicit_value_advantages,
    implicit_values,
    lambda_under_trust,
    leave_one_out,
    loo_total,
    loo_turn_index,
    masked_rloo,
    over_group_std,
    own_turn,
    raw_or_standardised,
    redistribute_direct,
    redistribute_to_go,
    reward_to_go,
    standardised_returns,
)
from turnwise.arrays import place_at_turn_ends, spread_to_tokens, turn_sum
from turnwise.credit import outcome_on_last_turn, penalty_share, shared_outcome, token_returns
from turnwise.training.config import MethodConfig
from turnwise.training.credits import Credit, OutcomeOnly, TokenRewards, TurnRewards, TurnWeights
from turnwise.training.evidence import Evidence
from turnwise.training.terms import turn_lambda

# What a credit was worth, advantage_BT before scaling.
Estimator = Callable[[Credit, Evidence, MethodConfig], Tensor]

_IMPLICIT_VALUE = "with estimator implicit-value"


def rloo_outcome(credit: Credit, evidence: Evidence, method: MethodConfig) -> Tensor:
    """Outcome and penalty over those of the siblings, on every turn alike, BT."""
    total_B = evidence.outcome_B + evidence.penalty_B
    advantage_B = leave_one_out(total_B, evidence.group_B, evidence.is_valid_B)
    return _on_every_turn(advantage_B, evidence)


def _grpo_outcome(credit: Credit, evidence: Evidence, method: MethodConfig) -> Tensor:
    total_B = evidence.outcome_B + evidence.penalty_B
    advantage_B = group_standardise(total_B, evidence.group_B, evidence.is_valid_B)
    return _on_every_turn(advantage_B, evidence)


def raw_or_grpo(credit: Credit, evidence: Evidence, method: MethodConfig) -> Tensor:
    """InfoPO's equation (2) with the published exception: without siblings the outcome itself."""
    total_B = evidence.outcome_B + evidence.penalty_B
    return _on_every_turn(raw_or_standardised(total_B, evidence.group_B), evidence)


def _on_every_turn(advantage_B: Tensor, evidence: Evidence) -> Tensor:
    return advantage_B[:, None] * evidence.written_BT


def _rloo_weights(credit: Credit, evidence: Evidence, method: MethodConfig) -> Tensor:
    assert isinstance(credit, TurnWeights)
    if method.baseline != "redistribute":
        reward_BK = shared_outcome(evidence.outcome_B, credit.weight_BK)
        return _rloo_rewards(TurnRewards(reward_BK, False), evidence, method)
    centred_B = leave_one_out(evidence.outcome_B, evidence.group_B, evidence.is_valid_B)
    penalty_B = leave_one_out(evidence.penalty_B, evidence.group_B, evidence.is_valid_B)
    return _redistributed(credit.weight_BK, centred_B, penalty_B, evidence, method)


def _grpo_weights(credit: Credit, evidence: Evidence, method: MethodConfig) -> Tensor:
    assert isinstance(credit, TurnWeights)
    centred_B = group_standardise(evidence.outcome_B, evidence.group_B, evidence.is_valid_B)
    penalty_B = leave_one_out(evidence.penalty_B, evidence.group_B, evidence.is_valid_B)
    penalty_B = over_group_std(penalty_B, evidence.outcome_B, evidence.group_B, evidence.is_valid_B)
    return _redistributed(credit.weight_BK, centred_B, penalty_B, evidence, method)


def _redistributed(
    weight_BK: Tensor,
    centred_B: Tensor,
    penalty_B: Tensor,
    evidence: Evidence,
    method: MethodConfig,
) -> Tensor:
    """A centred outcome by the credit's weights, a centred penalty by each turn's tokens."""
    share_BK = penalty_share(evidence.length_BK)
    if method.redistribution == "direct":
        advantage_BK = redistribute_direct(centred_B, weight_BK, evidence.is_turn_BK)
        advantage_BK = advantage_BK + redistribute_direct(penalty_B, share_BK, evidence.is_turn_BK)
    else:
        discount = method.turn_discount
        advantage_BK = redistribute_to_go(
            centred_B, weight_BK, evidence.is_turn_BK, discount=discount
        ) + redistribute_to_go(penalty_B, share_BK, evidence.is_turn_BK, discount=discount)
    return spread_to_tokens(advantage_BK, evidence.turn_of_token_BT)


def _penalty_of_turns(evidence: Evidence) -> Tensor:
    return evidence.penalty_B[:, None] * penalty_share(evidence.length_BK)


def _rloo_rewards(credit: Credit, evidence: Evidence, method: MethodConfig) -> Tensor:
    assert isinstance(credit, TurnRewards)
    reward_BK = credit.reward_BK + _penalty_of_turns(evidence)
    shared = (evidence.is_turn_BK, evidence.group_B, evidence.is_valid_B)
    if method.baseline == "own_turn":
        advantage_BK = own_turn(reward_BK, *shared)
    else:
        baseline = loo_total if method.baseline == "loo_total" else loo_turn_index
        return_BK = reward_to_go(reward_BK, evidence.is_turn_BK, discount=method.turn_discount)
        advantage_BK = baseline(return_BK, *shared)
    return spread_to_tokens(advantage_BK, evidence.turn_of_token_BT)


def _grpo_rewards(credit: Credit, evidence: Evidence, method: MethodConfig) -> Tensor:
    assert isinstance(credit, TurnRewards)
    reward_BK = credit.reward_BK + _penalty_of_turns(evidence)
    return_BK = reward_to_go(reward_BK, evidence.is_turn_BK, discount=method.turn_discount)
    advantage_BK = standardised_returns(
        return_BK, evidence.is_turn_BK, evidence.group_B, evidence.is_valid_B
    )
    return spread_to_tokens(advantage_BK, evidence.turn_of_token_BT)


def _rloo_tokens(credit: Credit, evidence: Evidence, method: MethodConfig) -> Tensor:
    assert isinstance(credit, TokenRewards)
    penalty_BT = place_at_turn_ends(_penalty_of_turns(evidence), evidence.turn_of_token_BT)
    return_BT = token_returns(credit.reward_BT + penalty_BT, evidence.turn_of_token_BT)
    return loo_total(return_BT, evidence.written_BT, evidence.group_B, evidence.is_valid_B)


def values_before_turns(evidence: Evidence, method: MethodConfig) -> Tensor:
    """value_BK in [0, 1]: the PRM's chance of success before each turn, 0 where no turn is.

    Raises ConfigError if the run has no PRM.
    """
    prm = evidence.needs_prm(_IMPLICIT_VALUE)
    if method.calibration == "per_turn":
        calibration = fit_turn_calibration(prm.history, bias=float(prm.bias_B.mean()))
        return calibration.values(prm.turn_sum_BK, evidence.is_turn_BK)
    return implicit_values(prm.turn_sum_BK, evidence.is_turn_BK, prm.bias_B[:, None])


def ppo(credit: Credit, evidence: Evidence, method: MethodConfig) -> Tensor:
    """Generalised advantages of the credit's rewards over the critic's values, BT."""
    critic = evidence.needs_critic("estimator ppo")
    factors = {"discount": method.turn_discount, "turn_lambda": turn_lambda(method)}
    reward_BK = _rewards_of_turns(credit, evidence)
    turn_of_token_BT = evidence.turn_of_token_BT
    if critic.value_BT is None:
        advantage_BK = gae_over_turns(reward_BK, critic.value_BK, evidence.is_turn_BK, **factors)
        return spread_to_tokens(advantage_BK, turn_of_token_BT)
    reward_BT = place_at_turn_ends(reward_BK, turn_of_token_BT)
    if isinstance(credit, TokenRewards):
        penalty_BK = _penalty_of_turns(evidence)
        reward_BT = credit.reward_BT + place_at_turn_ends(penalty_BK, turn_of_token_BT)
    return gae_over_tokens(reward_BT, critic.value_BT, turn_of_token_BT, **factors)


def _rewards_of_turns(credit: Credit, evidence: Evidence) -> Tensor:
    """What each turn earned, length penalty included, BK; Σ_k is the dialogue's return."""
    if isinstance(credit, OutcomeOnly):
        total_B = evidence.outcome_B + evidence.penalty_B
        return outcome_on_last_turn(total_B, evidence.is_turn_BK)
    if isinstance(credit, TurnWeights):
        reward_BK = shared_outcome(evidence.outcome_B, credit.weight_BK)
    elif isinstance(credit, TurnRewards):
        reward_BK = credit.reward_BK
    else:
        assert isinstance(credit, TokenRewards)
        reward_BK = turn_sum(credit.reward_BT, evidence.turn_of_token_BT, evidence.num_turns)
    return reward_BK + _penalty_of_turns(evidence)


def _implicit_value(credit: Credit, evidence: Evidence, method: MethodConfig) -> Tensor:
    is_turn_BK, shared = evidence.is_turn_BK, (evidence.group_B, evidence.is_valid_B)
    value_BK = values_before_turns(evidence, method)
    is_compared_B = evidence.is_valid_B
    if method.value_offset == "group":
        value_BK = group_offset_values(value_BK, evidence.outcome_B, is_turn_BK, *shared)
        is_compared_B = has_siblings(*shared)
    trace = turn_lambda(method)
    if method.trust_mix:
        trace = lambda_under_trust(trace, trust=evidence.needs_prm(_IMPLICIT_VALUE).gate)
    advantage_BK = implicit_value_advantages(
        value_BK,
        evidence.outcome_B,
        is_turn_BK,
        is_compared_B,
        discount=method.turn_discount,
        turn_lambda=trace,
    )
    penalty_B = leave_one_out(evidence.penalty_B, *shared)
    share_BK = penalty_share(evidence.length_BK)
    advantage_BK = advantage_BK + redistribute_direct(penalty_B, share_BK, is_turn_BK)
    return spread_to_tokens(advantage_BK, evidence.turn_of_token_BT)


def public_code(credit: Credit, evidence: Evidence, method: MethodConfig) -> Tensor:
    """The published estimator, biases included: one masked leave-one-out for each reward source."""
    penalty = _at_turn_ends(_penalty_of_turns(evidence), evidence, method.coef_prm)
    if isinstance(credit, TurnWeights):
        reward_BK = shared_outcome(evidence.outcome_B, credit.weight_BK)
        reward_BK = reward_BK + _penalty_of_turns(evidence)
        sources = [_at_turn_ends(reward_BK, evidence, method.coef_prm)]
    elif isinstance(credit, TurnRewards):
        sources = [_at_turn_ends(credit.reward_BK, evidence, method.coef_prm), penalty]
    elif isinstance(credit, TokenRewards):
        sources = [RewardSource(credit.reward_BT, evidence.written_BT, method.coef_prm), penalty]
    else:
        sources = []
    if method.coef_outcome != 0:
        sources.append(_outcome_at_the_end(evidence, method.coef_outcome))
    return masked_rloo(sources, evidence.written_BT, evidence.group_B, evidence.is_valid_B)


def _at_turn_ends(reward_BK: Tensor, evidence: Evidence, coefficient: float) -> RewardSource:
    is_end_BT = place_at_turn_ends(evidence.is_turn_BK.float(), evidence.turn_of_token_BT) > 0
    reward_BT = place_at_turn_ends(reward_BK, evidence.turn_of_token_BT)
    return RewardSource(reward_BT, is_end_BT, coefficient)


def _outcome_at_the_end(evidence: Evidence, coefficient: float) -> RewardSource:
    """Outcome and penalty on the last written token: the penalty counts twice, as published."""
    position_T = torch.arange(evidence.turn_of_token_BT.shape[1])
    last_B = torch.where(evidence.written_BT, position_T, -1).amax(dim=1)
    is_last_BT = position_T == last_B[:, None]
    total_B = evidence.outcome_B + evidence.penalty_B
    return RewardSource(is_last_BT * total_B[:, None], is_last_BT, coefficient)


ESTIMATORS: dict[tuple[str, type], Estimator] = {
    ("rloo", OutcomeOnly): rloo_outcome,
    ("rloo", TurnWeights): _rloo_weights,
    ("rloo", TurnRewards): _rloo_rewards,
    ("rloo", TokenRewards): _rloo_tokens,
    ("grpo", OutcomeOnly): _grpo_outcome,
    ("grpo", TurnWeights): _grpo_weights,
    ("grpo", TurnRewards): _grpo_rewards,
    ("ppo", OutcomeOnly): ppo,
    ("ppo", TurnWeights): ppo,
    ("ppo", TurnRewards): ppo,
    ("ppo", TokenRewards): ppo,
    ("implicit-value", OutcomeOnly): _implicit_value,
    ("implicit-value", TurnWeights): _implicit_value,
    ("implicit-value", TurnRewards): _implicit_value,
}
