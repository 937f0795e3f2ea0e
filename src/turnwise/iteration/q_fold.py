"""One fold's Q-function on its way: Monte Carlo, sweeps of fitted Q evaluation, calibration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from turnwise.errors import LogsError
from turnwise.iteration.config import QConfig
from turnwise.iteration.episodes import Episode
from turnwise.iteration.fqe import NextReplies, fqe_targets, num_sweeps
from turnwise.iteration.q_train import Examples, Fitting, Targets, examples
from turnwise.iteration.q_values import FittedQ, calibrated, read_scores


@dataclass
class FoldFit:
    """A fold's rows, its Q-function as it is now, and the targets it was fitted to last."""

    q: FittedQ
    fitting: Fitting
    episodes: Sequence[Episode]
    following: NextReplies | None  # None: Monte Carlo
    discount: float
    facts: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._returns = examples(self.episodes, mc_targets(self.episodes), self._config)
        self._watching = self.fitting.stop_customers(self.episodes)
        self._last = self._returns
        self.facts |= {
            "rows": len(self.episodes),
            "customers": len({episode.customer for episode in self.episodes}),
            "watched_customers": len(self._watching),
            "mc_steps": self._returns.num_steps,
        }

    @property
    def _config(self) -> QConfig:
        return self.fitting.config

    def run(self) -> None:
        """Fits to returns, then, if the policy was asked, to targets under the policy.

        Raises LogsError where nobody but watched customers has a target.
        """
        if self.following is None or self._returns.without(self._watching).num_steps:
            self.facts["mc_watched_loss"] = self._fit(self._returns, 0)
        if self.following is not None:
            self._evaluate(self.following)

    def calibrated_on(self, other: "FoldFit") -> FittedQ:
        """This Q with maps fitted on the other fold: to the newest round's returns of the policy
        itself where there are any, otherwise to what the other fold was fitted to last."""
        config, last = self._config, other._last
        own = examples(other.episodes, other._newest_returns(), config)
        truth = own if own.num_steps else last
        scores = read_scores(self.q.network, [one.trajectory for one in truth.episodes])
        return calibrated(self.q, scores, truth.y_BK, truth.is_known_BK)

    def _newest_returns(self) -> Targets:
        """With fitted Q evaluation only those that are known to be of the policy whose Q it is."""
        counts = [
            one.round == self.fitting.round
            and (self.following is None or one.collected_by is not None)
            for one in self.episodes
        ]
        targets = mc_targets(self.episodes)
        return [
            row if keep else [math.nan] * len(row)
            for row, keep in zip(targets, counts, strict=True)
        ]

    def _fit(self, targets: Examples, sweep: int) -> list[float]:
        learn, watch = targets.without(self._watching), targets.of(self._watching)
        if learn.num_steps == 0:
            raise LogsError(
                f"fold {'AB'[self.fitting.fold]}: expected decision steps with a target beside "
                f"those of the {len(self._watching)} customers that stop the fit, found none; "
                "collect conversations of more customers"
            )
        return self.fitting.fit(self.q.network, learn, watch, sweep)

    def _evaluate(self, following: NextReplies) -> None:
        """Sweeps, until the values of watched customers hardly move."""
        config, changes = self._config, list[float]()
        small = config.fqe_tolerance * (config.return_high - config.return_low)
        for sweep in range(1, num_sweeps(self.episodes, config.fqe_sweeps) + 1):
            frozen = self._calibrated_on_watched()
            before = self._watched_values(frozen)
            targets = fqe_targets(frozen, self.episodes, following, discount=self.discount)
            self._last = examples(self.episodes, targets, config)
            self._fit(self._last, sweep)
            after = self._watched_values(self._calibrated_on_watched())
            moved = sum(abs(x - y) for x, y in zip(before, after, strict=True))
            changes.append(moved / max(len(before), 1))
            if changes[-1] < small:
                break
        self.facts |= {"fqe_steps": self._last.num_steps, "fqe_changes": changes}

    def _calibrated_on_watched(self) -> FittedQ:
        watch = self._last.of(self._watching)
        scores = read_scores(self.q.network, [one.trajectory for one in watch.episodes])
        found = calibrated(self.q, scores, watch.y_BK, watch.is_known_BK)
        return found if found.q_map.a > 0 else self.q

    def _watched_values(self, q: FittedQ) -> list[float]:
        """Q of the watched customers' replies; of the whole fold's where nobody is watched."""
        is_all = not self._watching
        rows = [e.trajectory for e in self.episodes if is_all or e.customer in self._watching]
        scores = read_scores(q.network, rows)
        q_EBK, _ = q.returns(scores)
        values: list[float] = q_EBK.mean(dim=0)[~scores.q_EBK[0].isnan()].tolist()
        return values


def mc_targets(episodes: Sequence[Episode]) -> Targets:
    """Monte Carlo returns where they are samples of Q and the step trains it; NaN elsewhere."""
    return [
        [
            g if is_sample and trains else math.nan
            for g, is_sample, trains in zip(
                episode.mc_return, episode.has_mc, episode.trains_q, strict=True
            )
        ]
        for episode in episodes
    ]
