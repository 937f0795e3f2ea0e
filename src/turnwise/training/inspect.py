"""Turn credit of dialogues for records and the report: several methods on the same rollouts."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from turnwise.conversation import Trajectory
from turnwise.conversation.trajectory import is_trainable
from turnwise.records import Record
from turnwise.records.trajectories import Split
from turnwise.rollouts import Stage
from turnwise.tasks.protocol import S
from turnwise.tokens import turn_batch
from turnwise.training.config import RunConfig
from turnwise.training.evidence import Evidence, group_index, outcomes
from turnwise.training.learners import Learners
from turnwise.training.methods import turn_credit
from turnwise.training.prm import Judged
from turnwise.training.step import (
    StepResult,
    gather_evidence,
    oracle_credit,
)


def training_records(
    stage: Stage[S], config: RunConfig, step: int, result: StepResult
) -> list[Record]:
    """The step's dialogues with credit and advantage; those left out of learning have neither."""
    records = _without_credit(result.trajectories, result.judged, step, "train")
    if result.evidence is None or result.advantage_BK is None:
        return records
    credit = _credit_by_name(stage, config, result.evidence, result.judged)
    return records + _rows(result.judged, step, "train", credit, result.advantage_BK)


def evaluation_records(
    stage: Stage[S],
    config: RunConfig,
    learners: Learners,
    trajectories: Sequence[Trajectory],
    step: int,
    split: Split,
) -> list[Record]:
    """Evaluated dialogues with the credit that the run's PRM, as it is now, gives their turns.

    Those that could not be judged come first and have none.
    """
    judged = [t for t in trajectories if is_trainable(t)]
    records = _without_credit(trajectories, judged, step, split)
    if not judged:
        return records
    batch = turn_batch(judged)
    scores, reference_BT = None, None
    if learners.prm is not None:
        reference_BT = learners.reference.logp(batch)
        scores = learners.prm.score(
            Judged(batch, reference_BT, outcomes(judged), group_index(judged))
        )
    elif config.train.beta_in_reward > 0:
        reference_BT = learners.reference.logp(batch)
    evidence = gather_evidence(stage, config, step, judged, batch, scores, reference_BT)
    credit = _credit_by_name(stage, config, evidence, judged)
    return records + _rows(judged, step, split, credit, None)


def _without_credit(
    trajectories: Sequence[Trajectory], judged: Sequence[Trajectory], step: int, split: Split
) -> list[Record]:
    """The dialogues that are not among `judged`: none is lost, whatever left it out."""
    credited = {id(trajectory) for trajectory in judged}
    return [Record(t, step, split) for t in trajectories if id(t) not in credited]


def _credit_by_name(
    stage: Stage[S], config: RunConfig, evidence: Evidence, judged: Sequence[Trajectory]
) -> dict[str, Tensor]:
    """credit_BK of every method that this evidence allows; the run's own first."""
    names = ["trajectory", "oracle"]
    if evidence.prm is not None:
        names = ["itpo-norm", "itpo", *names]
    own = config.method.credit
    names = [own, *(name for name in names if name != own)]
    full = replace(evidence, oracle_BK=oracle_credit(stage, judged, evidence.is_turn_BK))
    return {name: turn_credit(full, config.method, name) for name in names}


def _rows(
    judged: Sequence[Trajectory],
    step: int,
    split: Split,
    credit: dict[str, Tensor],
    advantage_BK: Tensor | None,
) -> list[Record]:
    out = []
    for b, trajectory in enumerate(judged):
        count = len(trajectory.turns)
        of_dialogue = {name: _floats(credit_BK[b], count) for name, credit_BK in credit.items()}
        advantage = () if advantage_BK is None else _floats(advantage_BK[b], count)
        out.append(Record(trajectory, step, split, of_dialogue, advantage))
    return out


def _floats(value_K: Tensor, count: int) -> tuple[float, ...]:
    padded_K = torch.nn.functional.pad(value_K, (0, max(0, count - len(value_K))))
    return tuple(float(value) for value in padded_K[:count])
