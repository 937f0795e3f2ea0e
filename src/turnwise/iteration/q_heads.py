"""From what a model says to scores of Q and V, and from targets back to its gradients.

A *score* is a log-odds where values are probabilities (loss bce, a verdict), otherwise a value in
the return range scaled to [0, 1]. Q is read at a reply's end token, V at the last token before the
reply; a reply without end token is read nowhere.

Axes: `E` heads, `B` rows, `K` decision steps, `T` tokens, `Z` bins, `N` places that learn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from turnwise.backends.protocol import Learner, Reader, Tokenizer, Weights
from turnwise.conversation import Trajectory
from turnwise.errors import ConfigError
from turnwise.iteration.config import QConfig
from turnwise.losses import (
    HistogramSupport,
    ensemble_loss,
    histogram_cross_entropy,
    histogram_mean,
    histogram_support,
    histogram_target,
    reply_token_weights,
    value_bce,
    value_mse,
    verdict_cross_entropy,
)
from turnwise.qvalues.calibration import LossName
from turnwise.tokens import Shared, TurnBatch, share_prefixes, turn_batch
from turnwise.training.config import CriticConfig
from turnwise.training.value_models import Verdict, answers, asked, verdict_of

_Q, _V = 0, 1
_SURE = 1e-4  # a start is no nearer to 0 and 1, and no bin of it has less


@dataclass(frozen=True)
class Marked:
    """Rows and the places where Q and V of their decision steps are read; -1: there is none."""

    batch: TurnBatch
    q_at_BK: Tensor  # int64: of the end token
    v_at_BK: Tensor  # int64: of the last token before the reply
    shared: Shared | None = None  # the rows with what they have in common once

    def rows(self, index_B: Tensor) -> "Marked":
        return Marked(self.batch.rows(index_B), self.q_at_BK[index_B], self.v_at_BK[index_B])


def marked(rows: Sequence[Trajectory]) -> Marked:
    """The rows as a batch; those of one conversation share what they begin with. Raises as
    `turn_batch`."""
    K = max((len(row.turns) for row in rows), default=0)
    q_at_BK = torch.full((len(rows), K), -1)
    v_at_BK = torch.full((len(rows), K), -1)
    for b, row in enumerate(rows):
        for k, turn in enumerate(row.turns):
            v_at_BK[b, k] = turn.start - 1
            if turn.stop_reason == "stop" and turn.num_tokens:
                q_at_BK[b, k] = turn.stop - 1
    batch, names = turn_batch(rows), [row.scenario_id for row in rows]
    if len(set(names)) == len(names):
        return Marked(batch, q_at_BK, v_at_BK)
    groups = {name: number for number, name in enumerate(names)}
    shared = share_prefixes(batch, [groups[name] for name in names])
    return Marked(batch, q_at_BK, v_at_BK, shared)


@dataclass(frozen=True)
class Lesson:
    """What a Q-function learns from."""

    rows: Marked
    target_BK: Tensor  # scaled to [0, 1]; anything where nothing is trained
    is_trained_BK: Tensor  # bool
    weight_BE: Tensor  # how often each head sees a row, times the row's weight

    def part(self, index_B: Tensor) -> "Lesson":
        return Lesson(
            self.rows.rows(index_B),
            self.target_BK[index_B],
            self.is_trained_BK[index_B],
            self.weight_BE[index_B],
        )

    @property
    def num_steps(self) -> int:
        """Decision steps with a target: the divisor of the loss."""
        return int(self.is_trained_BK.sum())


@dataclass(frozen=True)
class Scores:
    """float32; NaN where there is nothing to read."""

    q_EBK: Tensor
    v_EBK: Tensor
    prefix_EBT: Tensor | None  # Q at every written token; None: this kind of head has none


class QNetwork(Protocol):
    """A learner with the meaning of its outputs."""

    @property
    def learner(self) -> Weights: ...

    @property
    def num_heads(self) -> int: ...

    @property
    def loss(self) -> LossName:
        """Whether scores are log-odds ("log") or values ("square")."""

    def scores(self, rows: Marked) -> Scores:
        """Without gradient."""

    def cost(self, lesson: Lesson) -> Tensor:
        """Tokens that go through the model for each row, length_B."""

    def backward(self, lesson: Lesson, divisor: float) -> float:
        """Adds the gradient of the loss's sum / divisor and returns that share of the loss."""


@dataclass(frozen=True)
class Places:
    """Where a head with an output after every token learns: N tokens, each for Q or for V."""

    row_N: Tensor
    column_N: Tensor
    kind_N: Tensor  # 0: Q, 1: V
    target_N: Tensor
    weight_N: Tensor


def places(lesson: Lesson, *, end_weight: float) -> Places:
    """Every token of a reply for Q, the token before it for V; each sums to one for a step."""
    turn_BT = lesson.rows.batch.turn_of_token_BT
    has_q_BK = lesson.is_trained_BK & (lesson.rows.q_at_BK >= 0)
    weight_BT = reply_token_weights(turn_BT, has_q_BK, end_weight=end_weight)
    q_row_N, q_column_N = (weight_BT > 0).nonzero(as_tuple=True)
    v_row_N, v_turn_N = lesson.is_trained_BK.nonzero(as_tuple=True)
    row_N = torch.cat([q_row_N, v_row_N])
    turn_N = torch.cat([turn_BT[q_row_N, q_column_N], v_turn_N])
    return Places(
        row_N,
        torch.cat([q_column_N, lesson.rows.v_at_BK[v_row_N, v_turn_N]]),
        torch.cat([torch.full_like(q_row_N, _Q), torch.full_like(v_row_N, _V)]),
        lesson.target_BK[row_N, turn_N],
        torch.cat([weight_BT[q_row_N, q_column_N], torch.ones(len(v_row_N))]),
    )


@dataclass(frozen=True)
class ScalarQ:
    """E × (Q, V) × bins outputs after every token; one bin but for a histogram."""

    learner: Reader
    num_heads: int
    config: QConfig
    support: HistogramSupport | None  # of hl-gauss

    @property
    def loss(self) -> LossName:
        return "log" if self.config.loss == "bce" else "square"

    def scores(self, rows: Marked) -> Scores:
        read, shared = self.learner.read, rows.shared
        output_BTO = read(rows.batch) if shared is None else shared.home(read(shared.batch))
        q_EBT, v_EBT = self._scores(self._heads(output_BTO))
        return Scores(
            _at(q_EBT, rows.q_at_BK),
            _at(v_EBT, rows.v_at_BK),
            torch.where(rows.batch.written_BT, q_EBT, torch.nan),
        )

    def cost(self, lesson: Lesson) -> Tensor:
        return lesson.rows.batch.length_B

    def backward(self, lesson: Lesson, divisor: float) -> float:
        at = places(lesson, end_weight=self.config.end_weight)

        def loss(output_BTO: Tensor) -> Tensor:
            heads_NEZ = self._heads(output_BTO)[at.row_N, at.column_N, :, at.kind_N]
            loss_N1E = self._losses(heads_NEZ, at.target_N)[:, None]
            weight_NE = lesson.weight_BE[at.row_N]
            return ensemble_loss(loss_N1E, at.weight_N[:, None], weight_NE, divisor=divisor)

        return self.learner.forward_backward(lesson.rows.batch, loss)["loss"]

    def _heads(self, output_BTO: Tensor) -> Tensor:
        """Outputs as B, T, E, Q or V, Z."""
        return output_BTO.reshape(*output_BTO.shape[:2], self.num_heads, 2, -1)

    def _scores(self, heads: Tensor) -> tuple[Tensor, Tensor]:
        score_BTE2 = heads[..., 0] if self.support is None else histogram_mean(heads, self.support)
        q_EBT, v_EBT = score_BTE2.permute(3, 2, 0, 1)
        return q_EBT, v_EBT

    def _losses(self, heads_NEZ: Tensor, target_N: Tensor) -> Tensor:
        target_NE = target_N[:, None].expand(-1, self.num_heads)
        if self.support is not None:
            return histogram_cross_entropy(heads_NEZ, target_NE, self.support)
        of_score = value_bce if self.config.loss == "bce" else value_mse
        return of_score(heads_NEZ[..., 0], target_NE)


def support_of(config: QConfig) -> HistogramSupport | None:
    """The bins of hl-gauss over scaled returns; None for a loss without. Raises ConfigError for
    bins that would pull the mean inwards."""
    if config.loss != "hl-gauss":
        return None
    return histogram_support(num_bins=config.num_bins, bin_sigmas=config.bin_sigmas)


def constant_start(config: QConfig, y_N: Tensor) -> list[float]:
    """Outputs of heads that all say the mean of the (scaled) targets, in the order of `ScalarQ`.

    A histogram says how often each bin is a target: it has the same mean, and no way to go from a
    single peak.
    """
    support = support_of(config)
    if support is not None:
        chance_Z = histogram_target(y_N, support).mean(dim=0)
        one: list[float] = chance_Z.clamp(min=_SURE).log().tolist()
    elif config.loss == "bce":
        one = [float(y_N.mean().clamp(_SURE, 1 - _SURE).logit())]
    else:
        one = [float(y_N.mean())]
    return one * (2 * config.num_heads)


@dataclass(frozen=True)
class VerdictQ:
    """A language model that is asked a question before and after the reply, and answers yes or no.

    Trained on the cross-entropy of both answers among all tokens, which every engine with weighted
    tokens can do; its score is the log-odds of yes against no.
    """

    learner: Learner
    verdict: Verdict
    has_branches: bool
    num_heads: int = 1
    loss: LossName = "log"

    def scores(self, rows: Marked) -> Scores:
        at_2BK = torch.stack([rows.q_at_BK, rows.v_at_BK])
        forks = _forks(at_2BK, torch.ones_like(rows.q_at_BK, dtype=torch.bool))
        out_2BK = torch.full(at_2BK.shape, torch.nan)
        if forks:
            packed = asked(rows.batch, forks, self.verdict, has_branches=self.has_branches)
            yes_N, no_N = answers(packed, self.learner.logp(packed.batch))
            out_2BK[at_2BK >= 0] = (yes_N - no_N).cpu()
        return Scores(out_2BK[:1], out_2BK[1:], None)

    def cost(self, lesson: Lesson) -> Tensor:
        length_B, size = lesson.rows.batch.length_B, len(self.verdict.question_ids)
        asked_B = 2 * lesson.is_trained_BK.sum(dim=1)
        if self.has_branches:
            return length_B + asked_B * (size + 2)
        return length_B + 2 * asked_B * (length_B + size + 1)

    def backward(self, lesson: Lesson, divisor: float) -> float:
        at_2BK = torch.stack([lesson.rows.q_at_BK, lesson.rows.v_at_BK])
        forks = _forks(at_2BK, lesson.is_trained_BK)
        packed = asked(lesson.rows.batch, forks, self.verdict, has_branches=self.has_branches)
        row_N, turn_N = torch.tensor([(b, k) for b, _, k in forks]).unbind(dim=1)
        target_N, weight_N = lesson.target_BK[row_N, turn_N], lesson.weight_BE[row_N, 0]

        def loss(logp_RS: Tensor) -> Tensor:
            yes_N, no_N = answers(packed, logp_RS)
            return (weight_N * verdict_cross_entropy(yes_N, no_N, target_N)).sum() / divisor

        return self.learner.forward_backward(packed.batch, loss)["loss"]


def _forks(at_2BK: Tensor, wanted_BK: Tensor) -> list[tuple[int, int, int]]:
    """Row, column behind the place, and turn: of every wanted place of Q, then of V."""
    found = (wanted_BK & (at_2BK >= 0)).nonzero().tolist()
    return [(b, int(at_2BK[kind, b, k]) + 1, k) for kind, b, k in found]


def question_of(config: QConfig, tokenizer: Tokenizer) -> Verdict:
    """The verdict's question and answers. Raises ConfigError unless each answer is one token."""
    for key in ("verdict_yes", "verdict_no"):
        text: str = getattr(config, key)
        ids = tokenizer.encode(text, add_special_tokens=False)
        if len(ids) != 1:
            raise ConfigError(
                f"q.{key} = {text!r}: expected one token, found {len(ids)}; choose a word that the "
                "tokenizer knows whole"
            )
    words = {key: getattr(config, key) for key in ("verdict_question", "verdict_yes", "verdict_no")}
    return verdict_of(CriticConfig(**words), tokenizer)


def _at(score_EBT: Tensor, at_BK: Tensor) -> Tensor:
    """EBK of the scores at places; NaN where there is none."""
    index_EBK = at_BK.clamp(min=0).expand(len(score_EBT), -1, -1)
    return torch.where(at_BK >= 0, score_EBT.gather(2, index_EBK), torch.nan)
