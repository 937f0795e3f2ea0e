"""One iteration: play, judge, credit, learn."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from turnwise.conversation import Trajectory
from turnwise.conversation.trajectory import is_trainable
from turnwise.credit import oracle_turn_rewards, turns_from_mask_runs
from turnwise.losses import kl_turn_reward
from turnwise.rollouts import Failure, Plan, Stage, keyed_seed, play
from turnwise.tasks.protocol import S
from turnwise.tokens import TurnBatch, turn_batch
from turnwise.training.config import RunConfig
from turnwise.training.evidence import (
    Evidence,
    PrmScores,
    group_index,
    length_penalties,
    outcomes,
)
from turnwise.training.learners import Learners, needs_kl, pass_limits
from turnwise.training.methods import credit_metrics, token_advantages
from turnwise.training.metrics import (
    Clock,
    advantage_metrics,
    dialogue_metrics,
    turn_mean,
)
from turnwise.training.policy import PolicyStep, update_policy
from turnwise.training.prm import Judged


@dataclass(frozen=True)
class StepResult:
    """What a step leaves behind: metrics, and what records need."""

    metrics: Mapping[str, float]
    trajectories: list[Trajectory]
    failures: list[Failure]
    judged: list[Trajectory]  # those learnt from
    evidence: Evidence | None = None  # of the judged ones; None: nothing was learnt
    advantage_BK: Tensor | None = None  # mean over each turn's tokens


async def training_step(
    stage: Stage[S], learners: Learners, config: RunConfig, step: int
) -> StepResult:
    """Plays a step's dialogues and learns from those that were judged.

    Order: play → reference log-probs (once, shared by PRM and KL) → PRM → credit → advantages over
    the whole step → clipped update → publish. A step without a judged dialogue learns nothing.
    """
    clock = Clock()
    trajectories, failures = await play(
        stage, learners.sampler, plans(config, step), policy_version=step
    )
    judged = learnable(trajectories, config)
    metrics = dialogue_metrics(trajectories, num_failed=len(failures)) | clock.lap("time/rollout")
    if not judged:
        return StepResult(metrics, trajectories, failures, judged)

    batch = turn_batch(judged)
    if config.train.rescore_behaviour:
        logp_BT = learners.policy.logp(batch, temperature=config.rollout.temperature)
        batch = replace(batch, logp_behaviour_BT=logp_BT)
    reference = _reference(learners, config, batch)
    metrics |= clock.lap("time/reference")
    outcome_B, group_B = outcomes(judged), group_index(judged)
    scores = None
    if learners.prm is not None:
        assert reference.plain_BT is not None
        scores, prm_metrics = learners.prm.update(
            Judged(batch, reference.plain_BT, outcome_B, group_B), step
        )
        metrics |= {**prm_metrics, **clock.lap("time/prm")}

    evidence = gather_evidence(stage, config, step, judged, batch, scores, reference.tempered_BT)
    advantage_BT = token_advantages(evidence, config.method)
    metrics |= advantage_metrics(evidence, advantage_BT) | credit_metrics(evidence, config.method)
    metrics |= clock.lap("time/credit")
    metrics |= update_policy(
        learners.policy,
        PolicyStep(batch, advantage_BT, reference.tempered_BT, group_B),
        config.train,
        temperature=config.rollout.temperature,
        budget_tokens=config.rollout.max_conversation_tokens,
        limits=pass_limits(config),
        noise=(config.seed, step),
    )
    learners.sampler = learners.policy.publish()
    metrics |= clock.lap("time/update")
    metrics["tokens/s"] = sum(t.usage.completion_tokens for t in trajectories) / clock.total_s
    return StepResult(
        metrics, trajectories, failures, judged, evidence, turn_mean(advantage_BT, evidence)
    )


def learnable(trajectories: Sequence[Trajectory], config: RunConfig) -> list[Trajectory]:
    """The dialogues that a step learns from: judged ones in which the policy wrote something.

    The published estimator divides by a group size that it takes to be the same everywhere, so with
    it a group that lost a dialogue is left out whole.
    """
    judged = [trajectory for trajectory in trajectories if is_trainable(trajectory)]
    if config.method.estimator != "rloo" or config.method.baseline != "masked_rloo":
        return judged
    siblings = Counter(trajectory.group_id for trajectory in judged)
    return [t for t in judged if siblings[t.group_id] == config.train.num_generations]


@dataclass(frozen=True)
class _Reference:
    """Log-probabilities of a step's tokens under the reference; None: nobody asks."""

    plain_BT: Tensor | None  # for the PRM, at temperature 1
    tempered_BT: Tensor | None  # for the KL, at the temperature of policy and sampler


def _reference(learners: Learners, config: RunConfig, batch: TurnBatch) -> _Reference:
    """One pass; two only where PRM and KL are both on and the temperature is not 1."""
    temperature, plain_BT = config.rollout.temperature, None
    if learners.prm is not None:
        plain_BT = learners.reference.logp(batch)
        if temperature == 1.0:
            return _Reference(plain_BT, plain_BT)
    if not needs_kl(config):
        return _Reference(plain_BT, None)
    return _Reference(plain_BT, learners.reference.logp(batch, temperature=temperature))


def plans(config: RunConfig, step: int) -> list[Plan]:
    """The dialogues of a step: `num_problems` fresh scenarios × `num_generations` siblings.

    Seeds are a pure function of (config.seed, step, position), so a resumed run plays the same.
    """
    train, out = config.train, []
    for p in range(train.num_problems):
        scenario_seed = SCENARIOS_OF_A_SEED * config.seed + (step - 1) * train.num_problems + p
        for g in range(train.num_generations):
            seed = keyed_seed(config.seed, step, p, g)
            out.append(Plan(scenario_seed, f"{step}-{p}", seed))
    return out


def gather_evidence(
    stage: Stage[S],
    config: RunConfig,
    step: int,
    judged: Sequence[Trajectory],
    batch: TurnBatch,
    scores: PrmScores | None,
    logp_reference_BT: Tensor | None,
) -> Evidence:
    """The step's judged dialogues as arrays for the credit method."""
    method = config.method
    turn_of_token_BT = batch.turn_of_token_BT
    if method.turn_source == "mask_runs":
        turn_of_token_BT = turns_from_mask_runs(batch.written_BT)
    kl_BK = None
    if config.train.beta_in_reward > 0:
        assert logp_reference_BT is not None
        kl_BK = kl_turn_reward(
            batch.logp_behaviour_BT,
            logp_reference_BT,
            turn_of_token_BT,
            kl_coef=config.train.beta_in_reward,
        )
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
        prm=scores,
        kl_reward_BK=kl_BK,
    )
    if method.credit == "oracle":
        return replace(evidence, oracle_BK=oracle_credit(stage, judged, evidence.is_turn_BK))
    return evidence


def oracle_credit(stage: Stage[S], judged: Sequence[Trajectory], is_turn_BK: Tensor) -> Tensor:
    """The task's exact credit of each turn, oracle_BK."""
    credit = [
        stage.task.oracle(
            stage.task.scenario(scenario_seed(trajectory)), trajectory.conversation, trajectory.seed
        )
        for trajectory in judged
    ]
    return oracle_turn_rewards(credit, is_turn_BK)


def scenario_seed(trajectory: Trajectory) -> int:
    """The seed at the end of a scenario's id, e.g. 17 of "clarify-medium-17"."""
    return int(trajectory.scenario_id.rsplit("-", 1)[1])


# Scenario seeds of run s are s·10⁶ + 0, 1, 2, …; held-out ones start at 10¹², which no run reaches.
SCENARIOS_OF_A_SEED = 1_000_000
