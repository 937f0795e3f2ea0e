"""Where a turn's reward becomes a token's advantage: credit × estimator.

A credit says what each turn earned, in one of four forms; an estimator says for each form what that
was worth beyond expectation. `token_advantages` looks both up in the tables at the end of this
file. A new credit method is a function on `Evidence` and one line in `CREDITS`.

Axes: `B` dialogues, `K` turns, `T` tokens. Equations live in `credit` and `advantages`; here they
are only put together.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from turnwise.advantages import (
    RewardSource,
    fit_turn_calibration,
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
    mix_by_trust,
    over_group_std,
    own_turn,
    redistribute_direct,
    redistribute_to_go,
    reward_to_go,
    scale_by_rms,
    standardised_returns,
    whiten_with_shift,
)
from turnwise.arrays import place_at_turn_ends, spread_to_tokens, turn_sum
from turnwise.credit import (
    dirichlet_weights,
    max_return_normalised,
    mix_with_uniform,
    penalty_share,
    robust_batch_scale,
    shared_outcome,
    signed_turn_weights,
    token_returns,
    turn_logits_mean_times_global_length,
    turn_logits_sum,
    turn_logits_sum_over_length_power,
    turn_weights,
    uniform_weights,
    without_last_token,
)
from turnwise.errors import ConfigError
from turnwise.training.config import MethodConfig
from turnwise.training.evidence import Evidence


@dataclass(frozen=True)
class OutcomeOnly:
    """The whole dialogue earned its outcome; turns are not told apart."""


@dataclass(frozen=True)
class TurnWeights:
    """Each turn earned its share of the outcome."""

    weight_BK: Tensor  # >= 0, each row sums to 1


@dataclass(frozen=True)
class TurnRewards:
    """Each turn earned a reward of its own."""

    reward_BK: Tensor
    is_learned: bool  # from a PRM: subject to trust


@dataclass(frozen=True)
class TokenRewards:
    """Each token earned a reward of its own, from a PRM."""

    reward_BT: Tensor


Credit = OutcomeOnly | TurnWeights | TurnRewards | TokenRewards


def token_advantages(evidence: Evidence, method: MethodConfig) -> Tensor:
    """advantage_BT: what the policy's objective multiplies each token's ratio with.

    Zero where the policy did not write; scaled over the whole step (section 4.6 of the method page).
    Raises ConfigError for a combination that is not defined.
    """
    credit = CREDITS[method.credit](evidence, method)
    if method.estimator == "rloo" and method.baseline == "masked_rloo":
        return _public_code(credit, evidence, method)
    estimate = ESTIMATORS.get((method.estimator, type(credit)))
    if estimate is None:
        raise ConfigError(
            f"estimator {method.estimator} is not defined for credit {method.credit}; "
            "`turnwise methods` lists what goes together"
        )
    estimate_BT = estimate(credit, evidence, method) + _kl_advantage(evidence, method)
    advantage_BT = _scaled(estimate_BT, evidence, method)
    is_learned = isinstance(credit, TokenRewards) or (
        isinstance(credit, TurnRewards) and credit.is_learned
    )
    if not (is_learned and method.trust_mix):
        return advantage_BT
    # An untrained PRM's rewards are noise at full strength, since scaling removes their size.
    gate = evidence.needs_prm(method.credit).gate
    trajectory_BT = _scaled(_rloo_outcome(OutcomeOnly(), evidence, method), evidence, method)
    return mix_by_trust(advantage_BT, trajectory_BT, trust=gate)


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


def _kl_advantage(evidence: Evidence, method: MethodConfig) -> Tensor:
    """What leaving the reference costs from each turn on, over the siblings' cost from there."""
    if evidence.kl_reward_BK is None:
        return torch.zeros(evidence.turn_of_token_BT.shape)
    return_BK = reward_to_go(
        evidence.kl_reward_BK, evidence.is_turn_BK, discount=method.turn_discount
    )
    advantage_BK = loo_turn_index(
        return_BK, evidence.is_turn_BK, evidence.group_B, evidence.is_valid_B
    )
    return spread_to_tokens(advantage_BK, evidence.turn_of_token_BT)


def _scaled(advantage_BT: Tensor, evidence: Evidence, method: MethodConfig) -> Tensor:
    if method.scaling == "shift":
        return whiten_with_shift(advantage_BT, evidence.written_BT)
    return scale_by_rms(advantage_BT, evidence.written_BT, floor=method.scaling_floor)


# ---- credit: what each turn earned ---------------------------------------------------------


def _trajectory(evidence: Evidence, method: MethodConfig) -> Credit:
    return OutcomeOnly()


def _uniform(evidence: Evidence, method: MethodConfig) -> Credit:
    return TurnWeights(uniform_weights(evidence.is_turn_BK))


def _random(evidence: Evidence, method: MethodConfig) -> Credit:
    weight_BK = dirichlet_weights(
        evidence.is_turn_BK,
        alpha=method.dirichlet_alpha,
        seed=evidence.seed,
        step=evidence.step,
        dialogue_key_B=evidence.dialogue_key_B,
    )
    return TurnWeights(weight_BK)


def _prime(evidence: Evidence, method: MethodConfig) -> Credit:
    return TokenRewards(_token_rewards(evidence, method, "prime"))


def _itpo(evidence: Evidence, method: MethodConfig) -> Credit:
    reward_BT = _token_rewards(evidence, method, "itpo")
    return TurnRewards(turn_sum(reward_BT, evidence.turn_of_token_BT, evidence.num_turns), True)


def _itpo_norm(evidence: Evidence, method: MethodConfig) -> Credit:
    reward_BT = _token_rewards(evidence, method, "itpo-norm")
    if method.scale == "max_return":
        one_shard_B = torch.zeros_like(evidence.group_B)
        reward_BT = max_return_normalised(reward_BT, evidence.turn_of_token_BT, one_shard_B)
    reward_BK = turn_sum(reward_BT, evidence.turn_of_token_BT, evidence.num_turns)
    logit_BK = _logits(reward_BK, evidence, method)
    scale: Tensor | float = 1.0
    if method.scale == "batch_std":
        scale = robust_batch_scale(logit_BK, evidence.is_turn_BK, evidence.is_valid_B)
    if method.blame == "signed":
        centred_B = leave_one_out(evidence.outcome_B, evidence.group_B, evidence.is_valid_B)
        weight_BK = signed_turn_weights(
            logit_BK,
            evidence.is_turn_BK,
            centred_B,
            scale=scale,
            temperature=method.weight_temperature,
        )
    else:
        weight_BK = turn_weights(
            logit_BK, evidence.is_turn_BK, scale=scale, temperature=method.weight_temperature
        )
    if method.trust_mix:
        weight_BK = mix_with_uniform(
            weight_BK, evidence.is_turn_BK, trust=evidence.needs_prm("itpo-norm").gate
        )
    return TurnWeights(weight_BK)


def _token_rewards(evidence: Evidence, method: MethodConfig, name: str) -> Tensor:
    reward_BT = evidence.needs_prm(name).token_reward_BT
    if method.drop_last_token:
        return without_last_token(reward_BT, evidence.length_B, budget=evidence.budget_tokens)
    return reward_BT


def _logits(reward_BK: Tensor, evidence: Evidence, method: MethodConfig) -> Tensor:
    if method.logits == "sum":
        return turn_logits_sum(reward_BK)
    if method.logits == "sum_over_length_power":
        return turn_logits_sum_over_length_power(
            reward_BK, evidence.length_BK, power=method.length_power
        )
    return turn_logits_mean_times_global_length(reward_BK, evidence.length_BK)


def _oracle(evidence: Evidence, method: MethodConfig) -> Credit:
    if evidence.oracle_BK is None:
        raise ConfigError("credit oracle needs a task that knows the exact credit of each turn")
    return TurnRewards(evidence.oracle_BK, False)


# ---- estimators: what it was worth beyond expectation -----------------------------------------


def _rloo_outcome(credit: Credit, evidence: Evidence, method: MethodConfig) -> Tensor:
    total_B = evidence.outcome_B + evidence.penalty_B
    advantage_B = leave_one_out(total_B, evidence.group_B, evidence.is_valid_B)
    return _on_every_turn(advantage_B, evidence)


def _grpo_outcome(credit: Credit, evidence: Evidence, method: MethodConfig) -> Tensor:
    total_B = evidence.outcome_B + evidence.penalty_B
    advantage_B = group_standardise(total_B, evidence.group_B, evidence.is_valid_B)
    return _on_every_turn(advantage_B, evidence)


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


def _implicit_value(credit: Credit, evidence: Evidence, method: MethodConfig) -> Tensor:
    prm = evidence.needs_prm("with estimator implicit-value")
    is_turn_BK, shared = evidence.is_turn_BK, (evidence.group_B, evidence.is_valid_B)
    if method.calibration == "per_turn":
        calibration = fit_turn_calibration(prm.history, bias=float(prm.bias_B.mean()))
        value_BK = calibration.values(prm.turn_sum_BK, is_turn_BK)
    else:
        value_BK = implicit_values(prm.turn_sum_BK, is_turn_BK, prm.bias_B[:, None])
    is_compared_B = evidence.is_valid_B
    if method.value_offset == "group":
        value_BK = group_offset_values(value_BK, evidence.outcome_B, is_turn_BK, *shared)
        is_compared_B = has_siblings(*shared)
    turn_lambda = method.turn_lambda
    if method.trust_mix:
        turn_lambda = lambda_under_trust(turn_lambda, trust=prm.gate)
    advantage_BK = implicit_value_advantages(
        value_BK,
        evidence.outcome_B,
        is_turn_BK,
        is_compared_B,
        discount=method.turn_discount,
        turn_lambda=turn_lambda,
    )
    penalty_B = leave_one_out(evidence.penalty_B, *shared)
    share_BK = penalty_share(evidence.length_BK)
    advantage_BK = advantage_BK + redistribute_direct(penalty_B, share_BK, is_turn_BK)
    return spread_to_tokens(advantage_BK, evidence.turn_of_token_BT)


def _public_code(credit: Credit, evidence: Evidence, method: MethodConfig) -> Tensor:
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
    advantage_BT = masked_rloo(sources, evidence.written_BT, evidence.group_B, evidence.is_valid_B)
    return _scaled(advantage_BT, evidence, method)


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


CREDITS: dict[str, Callable[[Evidence, MethodConfig], Credit]] = {
    "trajectory": _trajectory,
    "uniform": _uniform,
    "random": _random,
    "prime": _prime,
    "itpo": _itpo,
    "itpo-norm": _itpo_norm,
    "oracle": _oracle,
}

ESTIMATORS: dict[tuple[str, type], Callable[[Credit, Evidence, MethodConfig], Tensor]] = {
    ("rloo", OutcomeOnly): _rloo_outcome,
    ("rloo", TurnWeights): _rloo_weights,
    ("rloo", TurnRewards): _rloo_rewards,
    ("rloo", TokenRewards): _rloo_tokens,
    ("grpo", OutcomeOnly): _grpo_outcome,
    ("grpo", TurnWeights): _grpo_weights,
    ("grpo", TurnRewards): _grpo_rewards,
    ("implicit-value", OutcomeOnly): _implicit_value,
    ("implicit-value", TurnWeights): _implicit_value,
    ("implicit-value", TurnRewards): _implicit_value,
}

# Methods whose credit the implicit PRM gives.
NEEDS_PRM = frozenset({"prime", "itpo", "itpo-norm"})
