"""Judged dialogues, and everything a method wants to know of them.

Each source is asked once and only if the method reads it: the policy itself (information), the
reference, the reward model, the critic, a judge, continuations.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from turnwise.advantages import has_siblings, leave_one_out, sum_with_last_max
from turnwise.conversation import Trajectory
from turnwise.credit import lookahead_rewards, outcome_on_last_turn, turns_from_mask_runs
from turnwise.losses import kl_turn_reward
from turnwise.rollouts import Stage, lookahead_values
from turnwise.tasks.protocol import S
from turnwise.tokens import TurnBatch, turn_batch
from turnwise.training.config import CreditName, RunConfig
from turnwise.training.critic import ValueCritic
from turnwise.training.evidence import (
    CriticScores,
    Evidence,
    InfoScores,
    group_index,
    length_penalties,
    outcomes,
)
from turnwise.training.information import is_worth_scoring, score_information
from turnwise.training.judging import judged_turn_scores
from turnwise.training.learners import Learners, needs_kl
from turnwise.training.methods import critic_targets
from turnwise.training.metrics import Clock
from turnwise.training.prm import Judged
from turnwise.training.terms import asked_credits, credit_names, credit_weights
from turnwise.training.truth import oracle_credit, scenario_seed


@dataclass(frozen=True)
class Gathered:
    """What a step learns from."""

    batch: TurnBatch  # with the behaviour log-probabilities that the update compares with
    evidence: Evidence
    logp_reference_BT: Tensor | None  # at the policy's temperature; None: nobody asks
    metrics: Mapping[str, float]


async def gather(
    stage: Stage[S],
    learners: Learners,
    config: RunConfig,
    step: int,
    judged: Sequence[Trajectory],
    clock: Clock,
) -> Gathered:
    """Asks every source that the method reads; reward model and critic learn as they are asked."""
    batch, metrics = turn_batch(judged), dict[str, float]()
    asked = asked_credits(config.method, config.info, step)
    evidence = plain_evidence(config, step, judged, batch)
    if "infopo" in asked:
        weight = credit_weights(config.method, config.info, step)["infopo"]
        is_scored_B = is_worth_scoring(evidence, config.info, weight=weight)
        batch, info = _information(stage, learners, config, judged, batch, is_scored_B)
        evidence = replace(evidence, info=info)
        metrics |= clock.lap("time/information")
    elif config.train.rescore_behaviour:
        logp_BT = learners.policy.logp(batch, temperature=stage.temperature)
        batch = replace(batch, logp_behaviour_BT=logp_BT)
    reference = reference_scores(learners, config, batch)
    metrics |= clock.lap("time/reference")
    evidence = replace(
        evidence, kl_reward_BK=_kl_reward(config, batch, evidence, reference.tempered_BT)
    )
    if learners.prm is not None:
        assert reference.plain_BT is not None
        of_prm = Judged(batch, reference.plain_BT, evidence.outcome_B, evidence.group_B)
        prm, found = learners.prm.update(of_prm, step)
        evidence = replace(evidence, prm=prm)
        metrics |= {**found, **clock.lap("time/prm")}
    if learners.judge is not None and "judge" in asked:
        score_BK, found = await judged_turn_scores(learners.judge, judged)
        evidence = replace(evidence, judge_BK=score_BK)
        metrics |= {**found, **clock.lap("time/judge")}
    if "lookahead" in asked:
        evidence, found = await _with_lookahead(stage, learners, config, evidence, judged)
        metrics |= {**found, **clock.lap("time/lookahead")}
    if "oracle" in credit_names(config.method):
        oracle_BK = oracle_credit(stage, judged, evidence.is_turn_BK)
        evidence = replace(evidence, oracle_BK=oracle_BK)
    if learners.critic is not None:  # last: its targets are made of the credit
        evidence, found = _with_critic(learners.critic, config, evidence, batch, step)
        metrics |= {**found, **clock.lap("time/critic")}
    return Gathered(batch, evidence, reference.tempered_BT, metrics)


async def survey(
    stage: Stage[S],
    learners: Learners,
    config: RunConfig,
    judged: Sequence[Trajectory],
    names: Sequence[CreditName],
    on_source: Callable[[str], None] = lambda source: None,
) -> Evidence:
    """What the models as they are say of any judged dialogues: nothing learns.

    names: the credits that are wanted beside those of the models that are there anyway.
    on_source: told the name of each source before it is asked, for progress.
    """
    batch = turn_batch(judged)
    evidence = plain_evidence(config, 1, judged, batch)
    if learners.prm is not None:
        on_source("reward model")
        reference_BT = learners.reference.logp(batch)
        of_prm = Judged(batch, reference_BT, evidence.outcome_B, evidence.group_B)
        evidence = replace(evidence, prm=learners.prm.score(of_prm))
    if learners.critic is not None:
        on_source("critic")
        evidence = replace(evidence, critic=learners.critic.score(batch))
    if "infopo" in names:
        on_source("information")
        # Nothing is compared here, so that a turn alone in its group has a gain too.
        _, info = _information(
            stage, learners, config, judged, batch, evidence.is_valid_B, min_group_turns=1
        )
        evidence = replace(evidence, info=info)
    if "judge" in names and learners.judge is not None:
        on_source("judge")
        judge_BK, _ = await judged_turn_scores(learners.judge, judged)
        evidence = replace(evidence, judge_BK=judge_BK)
    if "lookahead" in names:
        on_source("continuations")
        evidence, _ = await _with_lookahead(stage, learners, config, evidence, judged)
    return evidence


def _information(
    stage: Stage[S],
    learners: Learners,
    config: RunConfig,
    judged: Sequence[Trajectory],
    batch: TurnBatch,
    is_scored_B: Tensor,
    *,
    min_group_turns: int = 2,
) -> tuple[TurnBatch, InfoScores]:
    return score_information(
        learners.policy,
        judged,
        batch,
        is_scored_B,
        stage.chat,
        config.info,
        temperature=stage.temperature,
        capabilities=learners.capabilities,
        min_group_turns=min_group_turns,
    )


def _with_critic(
    critic: ValueCritic, config: RunConfig, evidence: Evidence, batch: TurnBatch, step: int
) -> tuple[Evidence, Mapping[str, float]]:
    def target_of(scores: CriticScores) -> Tensor:
        return critic_targets(replace(evidence, critic=scores), config.method)

    scores, metrics = critic.update(batch, evidence.group_B, target_of, step)
    return replace(evidence, critic=scores), metrics


def plain_evidence(
    config: RunConfig, step: int, judged: Sequence[Trajectory], batch: TurnBatch
) -> Evidence:
    """The judged dialogues as arrays, before any model was asked."""
    method = config.method
    turn_of_token_BT = batch.turn_of_token_BT
    if method.turn_source == "mask_runs":
        turn_of_token_BT = turns_from_mask_runs(batch.written_BT)
    evidence = Evidence(
        turn_of_token_BT=turn_of_token_BT,
        length_B=batch.length_B,
        budget_tokens=config.rollout.max_conversation_tokens,
        outcome_B=outcomes(judged),
        penalty_B=length_penalties(judged, batch, method),
        group_B=group_index(judged),
        dialogue_key_B=torch.tensor([trajectory.seed for trajectory in judged]),
        step=step,
        seed=config.seed,
    )
    if config.info.outcome == "outcome" or "infopo" not in credit_names(method):
        return evidence
    reward_BK = outcome_on_last_turn(evidence.outcome_B, evidence.is_turn_BK)
    for b, trajectory in enumerate(judged):
        for k, turn in enumerate(trajectory.turns):
            reward_BK[b, k] += sum(turn.rewards.values())
    return replace(evidence, outcome_B=sum_with_last_max(reward_BK, evidence.is_turn_BK))


@dataclass(frozen=True)
class ReferenceScores:
    """Log-probabilities of a step's tokens under the reference; None: nobody asks."""

    plain_BT: Tensor | None  # for the PRM, at temperature 1
    tempered_BT: Tensor | None  # for the KL, at the temperature of policy and sampler


def reference_scores(learners: Learners, config: RunConfig, batch: TurnBatch) -> ReferenceScores:
    """One pass; two only where PRM and KL are both on and the temperature is not 1."""
    temperature, plain_BT = config.rollout.temperature, None
    if learners.prm is not None:
        plain_BT = learners.reference.logp(batch)
        if temperature == 1.0:
            return ReferenceScores(plain_BT, plain_BT)
    if not needs_kl(config):
        return ReferenceScores(plain_BT, None)
    return ReferenceScores(plain_BT, learners.reference.logp(batch, temperature=temperature))


def _kl_reward(
    config: RunConfig, batch: TurnBatch, evidence: Evidence, logp_reference_BT: Tensor | None
) -> Tensor | None:
    if config.train.beta_in_reward == 0:
        return None
    assert logp_reference_BT is not None
    return kl_turn_reward(
        batch.logp_behaviour_BT,
        logp_reference_BT,
        evidence.turn_of_token_BT,
        kl_coef=config.train.beta_in_reward,
    )


async def _with_lookahead(
    stage: Stage[S],
    learners: Learners,
    config: RunConfig,
    evidence: Evidence,
    judged: Sequence[Trajectory],
) -> tuple[Evidence, dict[str, float]]:
    values = await lookahead_values(
        stage,
        learners.sampler,
        judged,
        samples=config.lookahead.samples,
        seed=config.seed,
        scenario_seed_of=scenario_seed,
    )
    outcome_B, siblings = evidence.outcome_B, (evidence.group_B, evidence.is_valid_B)
    start_B = outcome_B - leave_one_out(outcome_B, *siblings)
    # Alone (as in an evaluation) a dialogue has no value before its first turn, least of all its
    # own outcome.
    start_B = torch.where(has_siblings(*siblings), start_B, torch.nan)
    reward_BK = lookahead_rewards(values.value_BK, start_B, evidence.is_turn_BK)
    return replace(evidence, lookahead_BK=reward_BK), values.metrics()
