"""What each turn earned, in one of four forms.

A new credit method is a function on `Evidence` and one line in `CREDITS`. The equations live in
`turnwise.credit`; here they are only put together.

Axes: `B` dialogues, `K` turns, `T` tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from turnwise.advantages import gae_over_turns, leave_one_out
from turnwise.arrays import turn_sum
from turnwise.credit import (
    dirichlet_weights,
    judge_weights,
    max_return_normalised,
    mix_with_uniform,
    outcome_on_last_turn,
    robust_batch_scale,
    signed_turn_weights,
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


@dataclass(frozen=True)
class TurnGains:
    """Some turns gained something that has no unit of the outcome; it counts beside the outcome."""

    gain_BK: Tensor
    is_eligible_BK: Tensor  # bool: the others have no gain, not a gain of 0


Credit = OutcomeOnly | TurnWeights | TurnRewards | TokenRewards | TurnGains


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


def _judge(evidence: Evidence, method: MethodConfig) -> Credit:
    score_BK = _given(evidence.judge_BK, "judge", "a credit judge: see the section [judge]")
    weight_BK, _ = judge_weights(score_BK, evidence.is_turn_BK, evidence.outcome_B)
    return TurnWeights(weight_BK)


def _prime(evidence: Evidence, method: MethodConfig) -> Credit:
    return TokenRewards(_token_rewards(evidence, method, "prime"))


def _value(evidence: Evidence, method: MethodConfig) -> Credit:
    surprise_BK = gae_over_turns(
        outcome_on_last_turn(evidence.outcome_B, evidence.is_turn_BK),
        evidence.needs_critic("credit value").value_BK,
        evidence.is_turn_BK,
        discount=method.turn_discount,
        turn_lambda=0.0,
    )
    return TurnRewards(surprise_BK, False)


def _itpo(evidence: Evidence, method: MethodConfig) -> Credit:
    reward_BT = _token_rewards(evidence, method, "itpo")
    return TurnRewards(turn_sum(reward_BT, evidence.turn_of_token_BT, evidence.num_turns), True)


def _itpo_norm(evidence: Evidence, method: MethodConfig) -> Credit:
    reward_BT = _token_rewards(evidence, method, "itpo-norm")
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
        reward_BT = without_last_token(reward_BT, evidence.length_B, budget=evidence.budget_tokens)
    if method.scale == "max_return":
        one_shard_B = torch.zeros_like(evidence.group_B)
        reward_BT = max_return_normalised(reward_BT, evidence.turn_of_token_BT, one_shard_B)
    return reward_BT


def _logits(reward_BK: Tensor, evidence: Evidence, method: MethodConfig) -> Tensor:
    if method.logits == "sum":
        return turn_logits_sum(reward_BK)
    if method.logits == "sum_over_length_power":
        return turn_logits_sum_over_length_power(
            reward_BK, evidence.length_BK, power=method.length_power
        )
    return turn_logits_mean_times_global_length(reward_BK, evidence.length_BK)


def _infopo(evidence: Evidence, method: MethodConfig) -> Credit:
    if evidence.info is None:
        raise ConfigError("credit infopo needs dialogues scored with and without their feedback")
    return TurnGains(evidence.info.gain_BK, evidence.info.is_eligible_BK)


def _lookahead(evidence: Evidence, method: MethodConfig) -> Credit:
    reward_BK = _given(evidence.lookahead_BK, "lookahead", "continuations of its dialogues")
    return TurnRewards(reward_BK.nan_to_num(0.0), False)


def _oracle(evidence: Evidence, method: MethodConfig) -> Credit:
    needed = "a task that knows the exact credit of each turn"
    return TurnRewards(_given(evidence.oracle_BK, "oracle", needed), False)


def _given(value_BK: Tensor | None, name: str, needed: str) -> Tensor:
    if value_BK is None:
        raise ConfigError(f"credit {name} needs {needed}")
    return value_BK


CREDITS: dict[str, Callable[[Evidence, MethodConfig], Credit]] = {
    "trajectory": _trajectory,
    "uniform": _uniform,
    "random": _random,
    "judge": _judge,
    "prime": _prime,
    "value": _value,
    "itpo": _itpo,
    "itpo-norm": _itpo_norm,
    "infopo": _infopo,
    "lookahead": _lookahead,
    "oracle": _oracle,
}
