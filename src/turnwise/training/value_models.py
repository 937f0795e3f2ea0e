"""Where values come from: a critic's scalar head, or the verdict of a language model.

Both say one number before each written token of the batch they are given, and learn from one
target for each. Axes: `N` such tokens in reading order; `R` packed rows of `S` columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from turnwise.backends.protocol import Critic, Learner, Tokenizer, Weights
from turnwise.errors import ConfigError
from turnwise.losses import clipped_value_loss, verdict_loss, verdict_value
from turnwise.tokens import Branch, Packed, TurnBatch, pack, separate
from turnwise.training.config import CriticConfig


@dataclass(frozen=True)
class Lesson:
    """What a critic learns from: a target for each written token of the batch."""

    batch: TurnBatch
    target_BT: Tensor
    before_BT: Tensor  # the values at the start of the step

    def rows(self, index: Tensor) -> "Lesson":
        batch = self.batch.rows(index)
        width = batch.token_BT.shape[1]
        return Lesson(batch, self.target_BT[index, :width], self.before_BT[index, :width])


class ValueModel(Protocol):
    """Says values and learns them; its weights are a learner's."""

    @property
    def learner(self) -> Weights: ...

    def values(self, batch: TurnBatch) -> Tensor:
        """value_BT float32 before each written token, 0 elsewhere."""

    def cost(self, batch: TurnBatch) -> Tensor:
        """Tokens that go through the model for each dialogue, length_B."""

    def backward(self, lesson: Lesson, divisor: int) -> Mapping[str, float]:
        """Adds the gradient of the loss's sum / divisor; returns sums of metrics / divisor."""


@dataclass(frozen=True)
class ScalarValues:
    """A scalar head, trained on the clipped square error."""

    learner: Critic
    value_clip: float

    def values(self, batch: TurnBatch) -> Tensor:
        return self.learner.values(batch)

    def cost(self, batch: TurnBatch) -> Tensor:
        return batch.length_B

    def backward(self, lesson: Lesson, divisor: int) -> Mapping[str, float]:
        written_BT, clipped = lesson.batch.written_BT, 0

        def loss(value_BT: Tensor) -> Tensor:
            nonlocal clipped
            value_N, before_N = value_BT[written_BT], lesson.before_BT[written_BT]
            clipped = int(((value_N.detach() - before_N).abs() > self.value_clip).sum())
            target_N = lesson.target_BT[written_BT]
            loss_N = clipped_value_loss(value_N, target_N, before_N, clip=self.value_clip)
            return loss_N.sum() / divisor

        out = self.learner.forward_backward(lesson.batch, loss)
        return {"critic/loss": out["loss"], "critic/clip_frac": clipped / divisor}


@dataclass(frozen=True)
class Verdict:
    """A question at a turn's beginning and the first tokens of its two answers."""

    question_ids: tuple[int, ...]
    yes_id: int
    no_id: int


@dataclass(frozen=True)
class VerdictValues:
    """V = p(yes) / (p(yes) + p(no)) as a language model answers; trained on the cross-entropy.

    The question stands where the written token would, so it has seen all that was said before.
    """

    learner: Learner
    verdict: Verdict
    has_branches: bool  # False: each answer is scored in a row of its own

    def values(self, batch: TurnBatch) -> Tensor:
        packed = self._asked(batch)
        value_N = verdict_value(*answers(packed, self.learner.logp(packed.batch)))
        blank_BT = torch.zeros(batch.token_BT.shape, device=value_N.device)
        return blank_BT.masked_scatter(batch.written_BT, value_N)

    def cost(self, batch: TurnBatch) -> Tensor:
        asked_B, size = batch.written_BT.sum(dim=1), len(self.verdict.question_ids)
        if self.has_branches:
            return batch.length_B + asked_B * (size + 2)
        return batch.length_B + 2 * asked_B * (batch.length_B + size + 1)

    def backward(self, lesson: Lesson, divisor: int) -> Mapping[str, float]:
        packed = self._asked(lesson.batch)
        # A probability cannot say more: a target outside is as good as the nearest it can.
        target_N = lesson.target_BT[lesson.batch.written_BT].clamp(0, 1)

        def loss(logp_RS: Tensor) -> Tensor:
            return verdict_loss(*answers(packed, logp_RS), target_N).sum() / divisor

        return {"critic/loss": self.learner.forward_backward(packed.batch, loss)["loss"]}

    def _asked(self, batch: TurnBatch) -> Packed:
        """The question before each written token."""
        turn_BT, places = batch.turn_of_token_BT, batch.written_BT.nonzero().tolist()
        forks = [(b, t, int(turn_BT[b, t])) for b, t in places]
        return asked(batch, forks, self.verdict, has_branches=self.has_branches)


def asked(
    batch: TurnBatch,
    forks: Sequence[tuple[int, int, int]],
    verdict: Verdict,
    *,
    has_branches: bool,
) -> Packed:
    """Rows that ask the question at each fork; of the dialogues themselves nothing is scored.

    forks: dialogue, column before which the question stands (the row's length: behind it), turn.
    """
    silent_BT = torch.full_like(batch.turn_of_token_BT, -1)
    trunks, branches = replace(batch, turn_of_token_BT=silent_BT), list[Branch]()
    question, size = verdict.question_ids, len(verdict.question_ids)
    for b, fork, turn in forks:
        parent, places = len(branches), tuple(range(fork, fork + size))
        branches.append(Branch(b, fork, question, places, (0, 0), "verdict", turn))
        branches += [
            Branch(b, fork, (answer,), (fork + size,), (0, 1), "verdict", turn, parent)
            for answer in (verdict.yes_id, verdict.no_id)
        ]
    # A row for each dialogue: rows of similar length go through the model together.
    return pack(trunks, branches, max_tokens=1) if has_branches else separate(trunks, branches)


def answers(packed: Packed, logp_RS: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of yes and of no at each question, N."""
    logp_N2 = torch.cat(packed.of_branches(logp_RS)).reshape(-1, 2)
    return logp_N2[:, 0], logp_N2[:, 1]


def verdict_of(config: CriticConfig, tokenizer: Tokenizer) -> Verdict:
    """The question and its answers as token ids.

    Raises ConfigError for a text without a token, or answers that begin with the same one.
    """

    def ids(key: str) -> tuple[int, ...]:
        text: str = getattr(config, key)
        found = tuple(tokenizer.encode(text, add_special_tokens=False))
        if not found:
            raise ConfigError(f"critic.{key} = {text!r} gives no token; write a word")
        return found

    yes_id, no_id = ids("verdict_yes")[0], ids("verdict_no")[0]
    if yes_id == no_id:
        raise ConfigError(
            f"critic.verdict_yes = {config.verdict_yes!r} and critic.verdict_no = "
            f"{config.verdict_no!r} begin with the same token ({yes_id}), so nothing tells them "
            "apart; choose other words"
        )
    return Verdict(ids("verdict_question"), yes_id, no_id)
