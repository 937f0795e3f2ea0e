"""What a credit method may look at: one step's judged dialogues as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from turnwise.advantages import JudgedTurns
from turnwise.arrays import turn_length
from turnwise.conversation import Trajectory
from turnwise.credit import count_words, length_penalty
from turnwise.errors import ConfigError, OutcomeError
from turnwise.tokens import TurnBatch
from turnwise.training.config import MethodConfig


@dataclass(frozen=True)
class PrmScores:
    """What the implicit PRM says of a step's dialogues."""

    token_reward_BT: Tensor  # β·(logp_prm − logp_reference) where written, by config.prm.scores
    turn_sum_BK: Tensor  # prequential: from before the dialogue's own label was used
    bias_B: Tensor  # the PRM's b at that moment
    history: JudgedTurns  # prequential turn sums and outcomes of earlier iterations
    gate: float  # trust g in [0, 1]
    before_BT: Tensor | None = None  # token rewards before the step's update; None: no update


@dataclass(frozen=True)
class InfoScores:
    """How much the feedback a turn caused changed what the policy said next."""

    gain_BK: Tensor  # nats, by info.score; 0 where not eligible
    is_eligible_BK: Tensor  # bool
    copied_share_BK: Tensor  # of the next turn's tokens: inside a 4-gram of the feedback
    logp_factual_BK: Tensor  # nats, sums over the next turn after what was really said
    logp_counterfactual_BK: Tensor  # the same without it; NaN where nothing was scored
    is_scored_B: Tensor  # bool: the dialogue's group was scored, its gate being open
    refusal: Sequence[Sequence[str]]  # of each turn: why it is not eligible; "" if it is
    fill: Sequence[Sequence[str]]  # of each turn: what stood in for the feedback; "" if nothing
    clamped_tokens: int | None = None  # of score k3: scored tokens whose log-ratio was clamped


@dataclass(frozen=True)
class CriticScores:
    """What the critic expected, from before it learnt of the step."""

    value_BK: Tensor  # expected return before each turn's first token
    value_BT: Tensor | None  # before each written token; None: the critic speaks once a turn


@dataclass(frozen=True)
class Evidence:
    """B valid dialogues: judged, each with a written token."""

    turn_of_token_BT: Tensor  # int64, -1 where the policy did not write
    length_B: Tensor  # int64: tokens of each dialogue without padding
    budget_tokens: int  # what a dialogue's length is limited to
    outcome_B: Tensor  # float32 in [0, 1]
    penalty_B: Tensor  # float32 <= 0
    group_B: Tensor  # int64: siblings share it
    dialogue_key_B: Tensor  # int64: the dialogue's seed
    step: int
    seed: int
    prm: PrmScores | None = None
    kl_reward_BK: Tensor | None = (
        None  # what leaving the reference costs each turn, <= 0 on average
    )
    oracle_BK: Tensor | None = None  # exact credit where the task knows it
    info: InfoScores | None = None
    critic: CriticScores | None = None
    judge_BK: Tensor | None = None  # a credit judge's number of each turn; NaN: no judgement
    lookahead_BK: Tensor | None = None  # rise of the outcome's mean over continuations; NaN: none

    @cached_property
    def num_turns(self) -> int:
        return int(self.turn_of_token_BT.max().item()) + 1

    @cached_property
    def length_BK(self) -> Tensor:
        return turn_length(self.turn_of_token_BT, self.num_turns)

    @cached_property
    def is_turn_BK(self) -> Tensor:
        return self.length_BK > 0

    @cached_property
    def is_valid_B(self) -> Tensor:
        return torch.ones_like(self.group_B, dtype=torch.bool)

    @property
    def written_BT(self) -> Tensor:
        return self.turn_of_token_BT >= 0

    def needs_prm(self, name: str) -> PrmScores:
        """The PRM's scores; ConfigError if this run has no PRM."""
        if self.prm is None:
            raise ConfigError(
                f"credit {name} needs an implicit PRM, and this run has none; train with credit "
                "itpo, itpo-norm or prime, or estimator implicit-value"
            )
        return self.prm

    def needs_critic(self, name: str) -> CriticScores:
        """The critic's values; ConfigError if this run has no critic."""
        if self.critic is None:
            raise ConfigError(
                f"{name} needs a critic, and this run has none; train with estimator ppo or credit "
                "value"
            )
        return self.critic


def outcomes(trajectories: Sequence[Trajectory]) -> Tensor:
    """outcome_B, float32; every dialogue must be judged.

    Raises OutcomeError naming the first that is not: leave those out before (`is_trainable`).
    """
    for b, trajectory in enumerate(trajectories):
        if trajectory.outcome.score is None:
            raise OutcomeError(
                f"dialogue {b} ({trajectory.scenario_id}) has no outcome; leave it out of the step"
            )
    return torch.tensor([trajectory.outcome.score for trajectory in trajectories])


def group_index(trajectories: Sequence[Trajectory]) -> Tensor:
    """group_B: equal numbers for equal group ids, in order of first appearance."""
    number: dict[str, int] = {}
    return torch.tensor(
        [number.setdefault(trajectory.group_id, len(number)) for trajectory in trajectories]
    )


def length_penalties(
    trajectories: Sequence[Trajectory], batch: TurnBatch, method: MethodConfig
) -> Tensor:
    """penalty_B <= 0, by written tokens or (compatibility) by words of every later message."""
    if method.penalty_count == "written_tokens":
        count_B = batch.written_BT.sum(dim=1)
    else:
        count_B = torch.tensor([count_words(t.conversation) for t in trajectories])
    return length_penalty(count_B.to(torch.float32), rate=method.length_penalty)
