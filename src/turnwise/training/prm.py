"""The implicit process reward model at work: updated on a step's outcomes, then asked for scores.

Order within a step: the first training pass gives prequential scores (each dialogue scored before
its own label was used), then replay of earlier iterations, then one scoring pass if post scores are
wanted. Trust and calibration learn from prequential scores of earlier steps only.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from turnwise.advantages import JudgedTurns
from turnwise.arrays import turn_length, turn_sum
from turnwise.backends.protocol import Learner
from turnwise.credit import Trust, implicit_token_rewards, order_accuracy, sign_accuracy
from turnwise.losses import (
    base_rate_bce,
    bias_gradient,
    implicit_prm_bce,
    implicit_prm_logits,
    initial_bias,
)
from turnwise.tokens import TurnBatch, microbatches
from turnwise.training.config import PrmConfig
from turnwise.training.evidence import PrmScores
from turnwise.training.metrics import by_turn


@dataclass(frozen=True)
class PassLimits:
    """How much goes through the model at once; changes speed and memory, never a gradient."""

    max_rows: int = 32
    max_tokens: int = 16384


@dataclass(frozen=True)
class Judged:
    """Dialogues with their outcomes: what the PRM learns from."""

    batch: TurnBatch
    logp_reference_BT: Tensor
    outcome_B: Tensor
    group_B: Tensor

    def rows(self, index: Tensor) -> "Judged":
        batch = self.batch.rows(index)
        width = batch.token_BT.shape[1]
        return Judged(
            batch,
            self.logp_reference_BT[index, :width],
            self.outcome_B[index],
            self.group_B[index],
        )

    @property
    def is_valid_B(self) -> Tensor:
        return torch.ones_like(self.group_B, dtype=torch.bool)


@dataclass
class Bias:
    """The learned scalar b and its Adam state."""

    value: float = 0.0
    mean: float = 0.0
    square: float = 0.0
    steps: int = 0

    def step(self, gradient: float, learning_rate: float) -> None:
        self.steps += 1
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient * gradient
        mean, square = self.mean / (1 - 0.9**self.steps), self.square / (1 - 0.999**self.steps)
        self.value -= learning_rate * mean / (math.sqrt(square) + 1e-8)


@dataclass
class ImplicitPrm:
    """A learner whose log-ratio to the reference, summed over a turn, is the turn's reward."""

    learner: Learner
    config: PrmConfig
    seed: int
    limits: PassLimits = PassLimits()
    bias: Bias = field(default_factory=Bias)
    trust: Trust = Trust(None)
    history: JudgedTurns = field(default_factory=JudgedTurns.none)
    replay: list[Judged] = field(default_factory=list)
    is_started: bool = False

    def update(self, judged: Judged, step: int) -> tuple[PrmScores, Mapping[str, float]]:
        """Learns from the step's outcomes, then scores the step. Metrics have the prefix prm/."""
        if not self.is_started and self.config.bias == "learned":
            self.bias.value = initial_bias(judged.outcome_B)
        self.is_started = True
        metrics = {"prm/bias": self.bias.value}
        gate = self.trust.gate if self.config.trust else 1.0
        logp_BT, bias_B = self._first_pass(judged, step)
        for number in range(1, self.config.passes):
            for rows in self._mini_batches(judged, step, number):
                self._learn(judged.rows(rows))
        self._replay(judged, step)
        reward_BT = self._token_rewards(judged, logp_BT)
        z_B = reward_BT.sum(dim=1) + bias_B
        turn_sum_BK = turn_sum(reward_BT, judged.batch.turn_of_token_BT)
        scores = PrmScores(reward_BT, turn_sum_BK, bias_B, self.history, gate)
        ordered = order_accuracy(z_B, judged.outcome_B, judged.group_B, judged.is_valid_B)
        metrics |= self._diagnostics(judged, z_B, ordered)
        if self.config.scores == "post":
            scores = replace(
                self.score(judged), turn_sum_BK=turn_sum_BK, gate=gate, before_BT=reward_BT
            )
            z_after_B = scores.token_reward_BT.sum(dim=1) + self.bias.value
            metrics["prm/bce_after"] = self._bce(judged, z_after_B)
        metrics |= self._turn_metrics(judged, scores.token_reward_BT) | {"prm/trust": gate}
        self._remember(judged, ordered, turn_sum_BK)
        return scores, metrics

    def score(self, judged: Judged) -> PrmScores:
        """Scores with the weights as they are: of dialogues it learnt from, flattering."""
        reward_BT = self._token_rewards(judged, self.learner.logp(judged.batch))
        turn_sum_BK = turn_sum(reward_BT, judged.batch.turn_of_token_BT)
        bias_B = torch.full_like(judged.outcome_B, self.bias.value)
        gate = self.trust.gate if self.config.trust else 1.0
        return PrmScores(reward_BT, turn_sum_BK, bias_B, self.history, gate)

    def _first_pass(self, judged: Judged, step: int) -> tuple[Tensor, Tensor]:
        """Trains once on every dialogue; returns the log-probs and biases from before each step."""
        logp_BT = torch.zeros_like(judged.logp_reference_BT)
        bias_B = torch.zeros_like(judged.outcome_B)
        for rows in self._mini_batches(judged, step, 0):
            bias_B[rows] = self.bias.value
            for part, part_logp_BT in self._learn(judged.rows(rows)):
                logp_BT[rows[part], : part_logp_BT.shape[1]] = part_logp_BT
        return logp_BT, bias_B

    def _mini_batches(self, judged: Judged, step: int, number: int) -> Iterator[Tensor]:
        """Rows of each optimizer step.

        Shuffled: whole groups in a seeded order, as many as fit but at least one, so that siblings
        are compared under the same weights. Otherwise rows as they come, groups split or not.
        """
        if not self.config.shuffle:
            yield from torch.split(torch.arange(len(judged.group_B)), self.config.mini_batch)
            return
        noise = (self.seed, step, number, 1)
        yield from whole_groups(judged.group_B, self.config.mini_batch, noise)

    def _learn(self, judged: Judged) -> list[tuple[Tensor, Tensor]]:
        """One optimizer step on mean BCE. Returns each pass's rows and log-probs before it."""
        num_valid, bias_slope = len(judged.outcome_B), 0.0
        seen: list[tuple[Tensor, Tensor]] = []
        for rows in microbatches(
            judged.batch.length_B,
            max_rows=self.limits.max_rows,
            max_tokens=self.limits.max_tokens,
        ):
            part = judged.rows(rows)

            def loss(logp_BT: Tensor, part: Judged = part, rows: Tensor = rows) -> Tensor:
                nonlocal bias_slope
                seen.append((rows, logp_BT.detach().cpu()))
                z_B = implicit_prm_logits(
                    logp_BT,
                    part.logp_reference_BT.to(logp_BT.device),
                    part.batch.turn_of_token_BT.to(logp_BT.device),
                    beta=self.config.beta,
                    bias=self.bias.value,
                )
                y_B, valid_B = part.outcome_B.to(z_B.device), part.is_valid_B.to(z_B.device)
                slope = bias_gradient(z_B.detach(), y_B, valid_B, num_valid=num_valid)
                bias_slope += float(slope)
                return implicit_prm_bce(z_B, y_B, valid_B).sum() / num_valid

            self.learner.forward_backward(part.batch, loss)
        self.learner.optim_step(self.config.learning_rate)
        if self.config.bias == "learned":
            self.bias.step(bias_slope, self.config.bias_learning_rate)
        return seen

    def _replay(self, judged: Judged, step: int) -> None:
        """Extra optimizer steps on dialogues of the last iterations, this one included."""
        if self.config.replay == 0:
            return
        self.replay = [*self.replay, judged][-self.config.replay :]
        random = np.random.default_rng([self.seed, step, 0, 2])
        for _ in range(self._replay_steps(judged)):
            kept = self.replay[int(random.integers(len(self.replay)))]
            size = min(self.config.mini_batch, len(kept.outcome_B))
            rows = random.choice(len(kept.outcome_B), size=size, replace=False)
            self._learn(kept.rows(torch.from_numpy(np.sort(rows))))

    def _replay_steps(self, judged: Judged) -> int:
        if self.config.replay_steps is not None:
            return self.config.replay_steps
        return 2 * math.ceil(len(judged.outcome_B) / self.config.mini_batch)

    def _token_rewards(self, judged: Judged, logp_BT: Tensor) -> Tensor:
        return implicit_token_rewards(
            logp_BT,
            judged.logp_reference_BT,
            judged.batch.turn_of_token_BT,
            beta=self.config.beta,
        )

    def _bce(self, judged: Judged, z_B: Tensor) -> float:
        return float(implicit_prm_bce(z_B, judged.outcome_B, judged.is_valid_B).mean())

    def _diagnostics(self, judged: Judged, z_B: Tensor, ordered: float | None) -> dict[str, float]:
        """How well the PRM foresaw outcomes it had not seen."""
        y_B, valid_B = judged.outcome_B, judged.is_valid_B
        signs = sign_accuracy(z_B, y_B, valid_B)
        return {
            "prm/bce_before": self._bce(judged, z_B),
            "prm/bce_base_rate": base_rate_bce(y_B),
            **({} if ordered is None else {"prm/order_accuracy": ordered}),
            **({} if signs is None else {"prm/sign_accuracy": signs}),
        }

    def _turn_metrics(self, judged: Judged, reward_BT: Tensor) -> dict[str, float]:
        turn_of_token_BT = judged.batch.turn_of_token_BT
        reward_BK = turn_sum(reward_BT, turn_of_token_BT)
        is_turn_BK = turn_length(turn_of_token_BT) > 0
        variance = float(reward_BK[is_turn_BK].var(unbiased=False))
        return by_turn("prm/turn_drift/", reward_BK, is_turn_BK) | {"prm/turn_reward_var": variance}

    def _remember(self, judged: Judged, ordered: float | None, turn_sum_BK: Tensor) -> None:
        if ordered is not None:
            self.trust = self.trust.updated(ordered)
        is_turn_BK = turn_length(judged.batch.turn_of_token_BT) > 0
        self.history = self.history.extended(
            turn_sum_BK, is_turn_BK, judged.outcome_B, judged.is_valid_B
        )


def whole_groups(group_B: Tensor, size: int, noise: Sequence[int]) -> Iterator[Tensor]:
    """Rows of mini-batches of whole groups, in an order seeded by `noise`.

    As many groups as `size` dialogues hold, but at least one.
    """
    rows: list[int] = []
    for group in np.random.default_rng(noise).permutation(int(group_B.max()) + 1).tolist():
        siblings = (group_B == group).nonzero()[:, 0].tolist()
        if rows and len(rows) + len(siblings) > size:
            yield torch.tensor(rows)
            rows = []
        rows += siblings
    yield torch.tensor(rows)
