"""One Q network is fitted to targets of one fold, and stopped early by customers of the same fold.

Axes: `E` heads, `B` rows, `K` decision steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from turnwise.errors import LogProbError, TrainingError
from turnwise.iteration.config import QConfig
from turnwise.iteration.episodes import Episode
from turnwise.iteration.folds import early_stop_customers, poisson_weight
from turnwise.iteration.q_heads import Lesson, QNetwork, marked
from turnwise.iteration.q_values import read_scores
from turnwise.losses import scaled_return, value_bce, value_mse
from turnwise.tokens import microbatches
from turnwise.training.observer import Observer
from turnwise.training.prm import PassLimits
from turnwise.training.supervised import rise_and_fall

_LIMITS = PassLimits()
_PATIENCE = 2  # epochs without a lower watched loss
Targets = Sequence[Sequence[float]]  # of each row's decision steps, return units; NaN: none


@dataclass(frozen=True)
class Examples:
    """Rows with the targets of their decision steps, scaled to [0, 1]."""

    episodes: Sequence[Episode]
    y_BK: Tensor
    is_known_BK: Tensor

    @property
    def num_steps(self) -> int:
        return int(self.is_known_BK.sum())

    def of(self, customers: set[str]) -> "Examples":
        return self.pick([b for b, e in enumerate(self.episodes) if e.customer in customers])

    def without(self, customers: set[str]) -> "Examples":
        return self.pick([b for b, e in enumerate(self.episodes) if e.customer not in customers])

    def pick(self, index: Sequence[int]) -> "Examples":
        episodes = [self.episodes[b] for b in index]
        K = max((len(episode.trajectory.turns) for episode in episodes), default=0)
        return Examples(episodes, self.y_BK[index, :K], self.is_known_BK[index, :K])


def examples(episodes: Sequence[Episode], targets: Targets, config: QConfig) -> Examples:
    """The rows that have a target at all. Raises OutcomeError for one outside the return range."""
    kept = [b for b, row in enumerate(targets) if not all(math.isnan(y) for y in row)]
    K = max((len(targets[b]) for b in kept), default=0)
    target_BK = torch.full((len(kept), K), torch.nan, dtype=torch.float64)
    for row, b in enumerate(kept):
        target_BK[row, : len(targets[b])] = torch.tensor(targets[b], dtype=torch.float64)
    is_known_BK = ~target_BK.isnan()
    y_BK = scaled_return(
        target_BK, is_known_BK, low=config.return_low, high=config.return_high
    ).float()
    return Examples([episodes[b] for b in kept], y_BK, is_known_BK)


@dataclass(frozen=True)
class Fitting:
    """How one fold's network is fitted; the same for all its sweeps."""

    config: QConfig
    fold: int
    seed: int
    age_weight: float  # of a row for each round of age
    round: int  # now
    observer: Observer

    def stop_customers(self, episodes: Sequence[Episode]) -> set[str]:
        customers = [episode.customer for episode in episodes]
        return early_stop_customers(customers, self.config.early_stop_share, self.seed, self.fold)

    def fit(self, network: QNetwork, learn: Examples, watch: Examples, sweep: int) -> list[float]:
        """Moves the network; returns the watched loss after each epoch.

        The weights with the smallest watched loss stay; two epochs in a row that do not lower it
        end the fit. With nobody to watch every epoch is run. sweep: names the draw of the orders.
        Raises TrainingError naming fold and conversations for a number that is not finite.
        """
        found: list[float] = []
        name = f"fit Q {'AB'[self.fold]}"
        self.observer.phase(name, self.config.num_epochs)
        with TemporaryDirectory() as scratch:
            best = Path(scratch)
            for epoch in range(self.config.num_epochs):
                loss = self._epoch(network, learn, sweep, epoch)
                self.observer.advance(name, loss=loss)
                if watch.num_steps:
                    found.append(watched_loss(network, watch))
                    if found[-1] <= min(found):
                        network.learner.save(best)
                    elif len(found) - found.index(min(found)) > _PATIENCE:
                        break
            if found and found[-1] > min(found):
                network.learner.load(best)
        return found

    def _epoch(self, network: QNetwork, learn: Examples, sweep: int, epoch: int) -> float:
        """The mean loss of an epoch in a seeded order."""
        random = np.random.default_rng([self.seed, self.fold, sweep, epoch])
        order: list[int] = random.permutation(len(learn.episodes)).tolist()
        size = self.config.batch_size
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        losses = []
        for number, batch in enumerate(batches, start=epoch * len(batches)):
            share = rise_and_fall(number, self.config.num_epochs * len(batches))
            rate = self.config.learning_rate * share
            losses.append(self._step(network, learn.pick(batch), rate))
        return sum(losses) / len(losses)

    def _step(self, network: QNetwork, learn: Examples, learning_rate: float) -> float:
        """One optimizer step on the mean over decision steps, however it is split."""
        lesson = self.lesson(network, learn)
        split = microbatches(
            network.cost(lesson), max_rows=_LIMITS.max_rows, max_tokens=_LIMITS.max_tokens
        )
        try:
            loss = sum(network.backward(lesson.part(rows), lesson.num_steps) for rows in split)
            network.learner.optim_step(learning_rate)
        except (TrainingError, LogProbError) as error:
            names = sorted({episode.conversation_id for episode in learn.episodes})
            raise TrainingError(
                f"Q of fold {'AB'[self.fold]}, a batch of the conversations {names[0]} to "
                f"{names[-1]}: {error}"
            ) from error
        return loss

    def lesson(self, network: QNetwork, learn: Examples) -> Lesson:
        """Examples as the network learns from them, each head with its own draw of customers."""
        weight_BE = torch.tensor(
            [self._weights(episode, network.num_heads) for episode in learn.episodes]
        )
        rows = marked([episode.trajectory for episode in learn.episodes])
        K = rows.q_at_BK.shape[1]
        return Lesson(rows, learn.y_BK[:, :K], learn.is_known_BK[:, :K], weight_BE)

    def _weights(self, episode: Episode, num_heads: int) -> list[float]:
        """Poisson(1) of the customer for each head, 1 for a single one; times the row's age."""
        age = self.age_weight ** (self.round - episode.round)
        if num_heads == 1:
            return [age]
        key = (self.seed, self.fold)
        return [age * poisson_weight(episode.customer, head, *key) for head in range(num_heads)]


def watched_loss(network: QNetwork, watch: Examples) -> float:
    """Mean loss of Q and V over decision steps, of the mean over heads, without weights."""
    scores = read_scores(network, [episode.trajectory for episode in watch.episodes])
    of_score = value_bce if network.loss == "log" else value_mse
    total = 0.0
    for score_EBK in (scores.q_EBK, scores.v_EBK):
        known_BK = watch.is_known_BK & ~score_EBK[0].isnan()
        y_EN = watch.y_BK[known_BK].expand(len(score_EBK), -1)
        total += float(of_score(score_EBK[:, known_BK], y_EN).sum()) / len(score_EBK)
    return total / watch.num_steps
