"""The critic at work: asked what it expects, then moved towards what the step has shown.

Values are read before the critic learns from the step, so that advantages compare outcomes with an
expectation that has not seen them. The critic learns before the policy does.

Source: GAE's A + V as target and the clipped value loss, as in PPO practice; ITPO method page, 4.5.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from turnwise.arrays import spread_to_tokens, turn_sum
from turnwise.backends.protocol import AdapterSpec, Backend, Weights
from turnwise.errors import ConfigError
from turnwise.tokens import TurnBatch, microbatches
from turnwise.training.config import CriticConfig
from turnwise.training.evidence import CriticScores
from turnwise.training.prm import PassLimits, whole_groups
from turnwise.training.value_models import (
    Lesson,
    ScalarValues,
    ValueModel,
    VerdictValues,
    verdict_of,
)

# From the values before the update to their targets: BK at level turn, BT at level token.
TargetOf = Callable[[CriticScores], Tensor]


@dataclass(frozen=True)
class ValueCritic:
    """What a dialogue is worth before each turn, or before each written token."""

    model: ValueModel
    config: CriticConfig
    limits: PassLimits
    seed: int

    @property
    def learner(self) -> Weights:
        """All that a checkpoint has to keep: randomness is keyed by seed and step."""
        return self.model.learner

    def is_warming(self, step: int) -> bool:
        """Whether the critic learns alone in this step (1, 2, …)."""
        return step <= self.config.warm_up_steps

    def score(self, batch: TurnBatch) -> CriticScores:
        """The values with the weights as they are."""
        value_BT = self.model.values(self._asked(batch))
        first_BT = torch.where(first_tokens(batch).written_BT, value_BT, 0.0)
        value_BK = turn_sum(first_BT, batch.turn_of_token_BT)  # one number in each turn
        return CriticScores(value_BK, value_BT if self.config.level == "token" else None)

    def update(
        self, batch: TurnBatch, group_B: Tensor, target_of: TargetOf, step: int
    ) -> tuple[CriticScores, Mapping[str, float]]:
        """The values from before the update, and metrics with the prefix critic/ of the update.

        target_of: A + V before scaling. Siblings (group_B) are in one mini-batch.
        """
        scores = self.score(batch)
        lesson = self._lesson(batch, scores, target_of(scores))
        learnt = [
            self._learn(lesson.rows(rows))
            for number in range(self.config.passes)
            for rows in whole_groups(group_B, self.config.mini_batch, (self.seed, step, number, 4))
        ]
        means = {name: total / len(learnt) for name, total in _totals(learnt).items()}
        return scores, foresight(lesson) | means

    def _asked(self, batch: TurnBatch) -> TurnBatch:
        """The batch with turns only at tokens before which a value is wanted."""
        return batch if self.config.level == "token" else first_tokens(batch)

    def _lesson(self, batch: TurnBatch, scores: CriticScores, target: Tensor) -> Lesson:
        asked = self._asked(batch)
        if scores.value_BT is not None:
            return Lesson(asked, target, scores.value_BT)
        turn_BT = asked.turn_of_token_BT
        return Lesson(
            asked, spread_to_tokens(target, turn_BT), spread_to_tokens(scores.value_BK, turn_BT)
        )

    def _learn(self, lesson: Lesson) -> Mapping[str, float]:
        """One optimizer step on the mean over the lesson's values, however it is split."""
        split = microbatches(
            self.model.cost(lesson.batch),
            max_rows=self.limits.max_rows,
            max_tokens=self.limits.max_tokens,
        )
        divisor = lesson.batch.num_written
        sums = _totals([self.model.backward(lesson.rows(rows), divisor) for rows in split])
        stats = self.learner.optim_step(self.config.learning_rate)
        return {**sums, "critic/grad_norm": stats.grad_norm}


def first_tokens(batch: TurnBatch) -> TurnBatch:
    """The batch with each turn only at its first written token."""
    turn_BT = batch.turn_of_token_BT
    # Turn indices never fall, so a turn's first token is above all that was before.
    before_BT = torch.nn.functional.pad(turn_BT.cummax(dim=1).values[:, :-1], (1, 0), value=-1)
    return replace(batch, turn_of_token_BT=torch.where(turn_BT > before_BT, turn_BT, -1))


def _totals(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Sums by name; every part has the same names."""
    return {name: sum(part[name] for part in parts) for name in parts[0]}


def foresight(lesson: Lesson) -> dict[str, float]:
    """How well the critic foresaw targets that it had not learnt from.

    Explained variance: 1 − Var(target − V) / Var(target); left out where all targets are equal.
    """
    written_BT = lesson.batch.written_BT
    target_N, value_N = lesson.target_BT[written_BT], lesson.before_BT[written_BT]
    out = {"critic/value_mean": float(value_N.mean())}
    variance = float(target_N.var(unbiased=False))
    if variance > 0:
        missed = float((target_N - value_N).var(unbiased=False))
        out["critic/explained_variance"] = 1 - missed / variance
    return out


def build_critic(
    backend: Backend, config: CriticConfig, spec: AdapterSpec, limits: PassLimits, seed: int
) -> ValueCritic:
    """A new critic, role "critic", on the backend's base.

    spec: the policy's; the critic has its own clipping and adapter seed, and no weight decay.
    Raises ConfigError for a scalar head where the backend has none, level token without one, or a
    verdict that the tokenizer cannot tell.
    """
    spec = replace(spec, weight_decay=0.0, max_grad_norm=config.max_grad_norm, seed=spec.seed + 2)
    has_head = backend.capabilities.value_head
    if config.head == "scalar" and not has_head:
        raise ConfigError(
            'critic.head = "scalar" needs a backend with value heads, and this one has none; use '
            '"generative"'
        )
    if config.head == "generative" or not has_head:
        if config.level == "token":
            raise ConfigError(
                'critic.level = "token" needs critic.head = "scalar": a question before every '
                'token would cost too much; use level "turn"'
            )
        verdict = verdict_of(config, backend.tokenizer)
        learner = backend.create("critic", spec)
        model: ValueModel = VerdictValues(learner, verdict, backend.capabilities.branches)
    else:
        critic = backend.create_critic("critic", spec, start=config.initial_value)
        model = ScalarValues(critic, config.value_clip)
    return ValueCritic(model, config, limits, seed)
