"""A fitted Q-function meets the gate: what it says of held-out customers, and what its rivals say.

Reported values are calibrated once more on four fifths of the customers for the fifth that is
reported, Q, V and the judge alike.

Axes: `N` held-out decision steps, `M` sampled replies.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from turnwise.analysis import GateReport
from turnwise.backends.protocol import Backend, Sampler
from turnwise.iteration.config import IterateConfig
from turnwise.iteration.episodes import Episode, prompts_of
from turnwise.iteration.held_out_steps import (
    Crossed,
    Step,
    held_out_values,
    judged_steps,
    residuals,
    shuffled_rows,
)
from turnwise.iteration.prompted_judge import PromptedJudge, prompted_judge
from turnwise.iteration.replies import draw_prompts, sample_replies
from turnwise.qvalues import (
    STYLES,
    Gate,
    HeldOut,
    Limits,
    LossName,
    gate,
    isotonic_curve,
    mapped,
    ranking_agreement,
    reliability,
    scores,
    split_maps,
)
from turnwise.tokens import ChatFormat

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
Words = NDArray[np.str_]

_QUARTERS = (0.25, 0.5, 0.75)
_FOREIGN = (
    "Q is of the policy that was sampled, the returns are of whoever wrote the logs: where these "
    "differ the gate compares two policies. Say whose logs they are (logs.version), fit to their "
    'returns (q.targets = "mc"), or clone the logging policy first'
)


def check_q(
    cross_fit: Crossed,
    episodes: Sequence[Episode],
    config: IterateConfig,
    *,
    backend: Backend,
    chat: ChatFormat,
    sampler: Sampler | None,
) -> GateReport:
    """The gate's report on steps of both folds whose return is known.

    Reads of the settings: gate, judge, q, turn_discount, seed and rollout.max_turn_tokens. backend:
    its base is the prompted judge, unless an endpoint is. sampler: of the policy that is to be
    improved; None: nothing is sampled, and the check of coverage is off.
    Raises ConfigError where the judge cannot be asked.
    """
    steps, left_out = judged_steps(episodes)
    notes = [f"{count} steps left out: {reason}" for reason, count in left_out.items()]
    if cross_fit.facts.get("targets") == "fqe" and any(
        s.episode.collected_by is None for s in steps
    ):
        notes.append(_FOREIGN)
    judge = prompted_judge(config, backend) if steps else None
    found = _Study(cross_fit, episodes if steps else (), steps, config).held_out(
        judge, sampler, chat
    )
    if found.judge_N is not None and np.isnan(found.judge_N).any():
        notes.append(f"{np.isnan(found.judge_N).sum()} steps without an answer of the judge")
    return _report(gate(found, _limits(config)), found, steps, config, judge, notes)


def _report(
    gate: Gate,
    found: HeldOut,
    steps: Sequence[Step],
    config: IterateConfig,
    judge: PromptedJudge | None,
    notes: Sequence[str],
) -> GateReport:
    q_N, target_N = found.q_N, found.target_N
    contexts = [(step.episode.fold, step.prompt_ids) for step in steps]
    facts = {
        "steps": f"{len(steps)} of {len(set(found.conversation_N.tolist()))} conversations",
        "target": f"Monte Carlo returns, γ = {config.turn_discount:g}, scaled from "
        f"[{config.q.return_low:g}, {config.q.return_high:g}]",
        "mean target": f"{target_N.mean():.4f}" if len(target_N) else "unknown",
        "loss": "log-loss" if config.q.loss == "bce" else "squared error",
        "prompted judge": judge.name if judge else "none",
        "slopes of the calibration": ", ".join(f"{a:.3g}" for a in found.slopes),
    }
    return GateReport(
        gate,
        config.gate.mode,
        reliability(q_N, target_N) if len(q_N) else None,
        isotonic_curve(q_N, target_N) if len(q_N) else [],
        ranking_agreement(q_N, target_N, contexts),
        facts,
        notes,
    )


def _limits(config: IterateConfig) -> Limits:
    given = config.gate
    return Limits(
        loss=_loss(config),
        min_customers=given.min_customers,
        min_rarer=given.min_rarer,
        max_ece=given.max_ece,
        refuse_ece=given.refuse_ece,
        leakage=given.leakage,
        num_bootstrap=given.num_bootstrap,
        seed=config.seed,
    )


def _loss(config: IterateConfig) -> LossName:
    return "log" if config.q.loss == "bce" else "square"


class _Study:
    """The held-out steps with what models say of them, on the scale of the gate."""

    def __init__(
        self,
        crossed: Crossed,
        episodes: Sequence[Episode],
        steps: Sequence[Step],
        config: IterateConfig,
    ) -> None:
        self._crossed, self._episodes, self._steps = crossed, episodes, steps
        self._config, self._loss = config, _loss(config)
        self._low, self._size = config.q.return_low, config.q.return_high - config.q.return_low
        self._place = torch.tensor([[step.b, step.k] for step in steps]).reshape(-1, 2).long()
        self.fold_N = self._whole(lambda step: step.episode.fold)
        self.turn_N = self._whole(lambda step: step.turn_index)
        self.customer_N = self._words(lambda step: step.episode.customer)
        self.target_N = self._unit([step.episode.mc_return[step.k] for step in steps])

    def held_out(
        self, judge: PromptedJudge | None, sampler: Sampler | None, chat: ChatFormat
    ) -> HeldOut:
        rows = [episode.trajectory for episode in self._episodes]
        values = held_out_values(self._crossed, rows, [one.fold for one in self._episodes])
        discount = self._config.turn_discount
        residual_N = residuals(self._steps, self._episodes, values, discount=discount)
        q_N, shuffled_N = self._calibrated(self._unit(self._at(values.q_BK)), self._shuffled())
        (v_N,) = self._calibrated(self._unit(self._at(values.v_BK)))
        spread_N = self._at(values.spread_BK) / self._size
        judged = None if judge is None else self._calibrated(self._at(judge.chances(rows)))
        return HeldOut(
            target_N=self.target_N,
            q_N=q_N,
            v_N=v_N,
            turn_mean_N=self._turn_mean(),
            shuffled_N=shuffled_N,
            customer_N=self.customer_N,
            conversation_N=self._words(
                lambda step: f"{step.episode.round}/{step.episode.conversation_id}"
            ),
            fold_N=self.fold_N,
            turn_N=self.turn_N,
            slopes=self._crossed.slopes,
            judge_N=judged[0] if judged else None,
            spread_N=spread_N,
            sampled_spread_M=self._sampled(sampler, chat) if (spread_N > 0).any() else None,
            residual_N=residual_N / self._size,
            groups=self._groups(),
            style={
                name: np.array([float(count(step.text)) for step in self._steps])
                for name, count in STYLES.items()
            },
        )

    def _at(self, value_BK: Tensor) -> Array:
        """The steps' entries of an array over rows."""
        return np.asarray(value_BK[*self._place.T].double().cpu().numpy())

    def _unit(self, value_N: Array | Sequence[float]) -> Array:
        """Return units as shares of the return range."""
        return np.asarray((np.asarray(value_N, np.float64) - self._low) / self._size)

    def _whole(self, known: Callable[[Step], int]) -> Whole:
        return np.array([known(step) for step in self._steps], dtype=np.int64)

    def _words(self, known: Callable[[Step], str]) -> Words:
        return np.array([known(step) for step in self._steps], dtype=np.str_)

    def _calibrated(self, first_N: Array, *others: Array) -> list[Array]:
        """First and others by the map that is fitted on the first, of other customers."""
        out = [x_N.copy() for x_N in (first_N, *others)]
        for fold in set(self.fold_N.tolist()):
            here = np.flatnonzero(self.fold_N == fold)
            score_N = scores(first_N[here], loss=self._loss)
            split_N, maps = split_maps(
                score_N, self.target_N[here], self.customer_N[here], loss=self._loss
            )
            for x_N in out:
                x_N[here] = mapped(x_N[here], split_N, maps, loss=self._loss)
        return out

    def _shuffled(self) -> Array:
        rows = shuffled_rows(self._steps, self._config.seed)
        folds = [self._steps[n].episode.fold for n in rows]
        values = held_out_values(self._crossed, list(rows.values()), folds)
        out_N = np.full(len(self._steps), np.nan)
        if rows:
            out_N[list(rows)] = self._unit(values.q_BK[:, 0].double().numpy())
        return out_N

    def _turn_mean(self) -> Array:
        """Mean target of the other fold's steps of the same turn; of all of them for a new turn."""
        mean_N = np.full(len(self._steps), 0.5)
        for fold in set(self.fold_N.tolist()):
            others_N = self.fold_N != fold
            for turn in set(self.turn_N.tolist()):
                alike_N = others_N & (self.turn_N == turn)
                known_N = alike_N if alike_N.any() else others_N
                if known_N.any():
                    here_N = (self.fold_N == fold) & (self.turn_N == turn)
                    mean_N[here_N] = self.target_N[known_N].mean()
        return mean_N

    def _sampled(self, sampler: Sampler | None, chat: ChatFormat) -> Array | None:
        """Spread of the heads on replies that the policy itself gives to logged states."""
        if sampler is None:
            return None
        config = self._config
        prompts = draw_prompts(
            prompts_of(self._episodes, discount=1.0),
            config.gate.coverage_prompts,
            (config.seed,),
            distinct=True,
        )
        replies = sample_replies(
            sampler,
            prompts,
            1,
            stop_id=chat.stop_id,
            max_tokens=config.rollout.max_turn_tokens,
            key=(config.seed, "coverage"),
        )
        values = held_out_values(self._crossed, replies.rows, [one.fold for one in prompts])
        spread_M = values.spread_BK[~replies.truncated_B, 0]
        return np.asarray(spread_M.double().numpy() / self._size)

    def _groups(self) -> dict[str, Words]:
        """Labels by which calibration is told apart; those that all steps share are left out."""
        labels = {
            "reply length": self._lengths(),
            "policy version": self._words(lambda step: step.episode.version[step.k] or "unknown"),
            "tenant": self._words(lambda step: step.episode.tenant or "unknown"),
            "language": self._words(lambda step: step.episode.language or "unknown"),
        }
        return {name: x_N for name, x_N in labels.items() if len(set(x_N.tolist())) > 1}

    def _lengths(self) -> Words:
        """Quarters by the number of tokens."""
        count_N = self._whole(lambda step: step.turn.num_tokens)
        if not len(count_N):
            return count_N.astype(np.str_)
        edges = [math.floor(edge) for edge in np.quantile(count_N, _QUARTERS)]
        names = [f"up to {edge} tokens" for edge in edges] + [f"over {edges[-1]} tokens"]
        return np.array(names)[np.searchsorted(edges, count_N)]
