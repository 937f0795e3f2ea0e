"""The judge that a fitted Q must not lose to: a language model that is asked, and never trained.

Axes: `B` rows, `K` decision steps of a row.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from turnwise.backends.protocol import Backend, Scorer
from turnwise.conversation import Trajectory
from turnwise.errors import SpeakerError
from turnwise.iteration.config import IterateConfig, QConfig
from turnwise.judges import GoalJudge
from turnwise.losses import verdict_value
from turnwise.tokens import turn_batch
from turnwise.training.config import CriticConfig
from turnwise.training.judging import judge_endpoint
from turnwise.training.value_models import Verdict, answers, asked, verdict_of

_ROWS = 32  # that are asked about at once


class PromptedJudge(Protocol):
    """Says of each reply how likely the goal of its conversation is."""

    @property
    def name(self) -> str: ...

    def chances(self, rows: Sequence[Trajectory]) -> Tensor:
        """chance_BK in [0, 1] after each decision step; NaN where there is none, or no answer."""


@dataclass(frozen=True)
class SelfJudge:
    """The base itself, asked the verdict question after each reply: p(yes) / (p(yes) + p(no))."""

    scorer: Scorer
    verdict: Verdict
    has_branches: bool  # False: each answer is scored in a row of its own
    name: str = "the base model"

    def chances(self, rows: Sequence[Trajectory]) -> Tensor:
        chance_BK = torch.full((len(rows), max(len(row.turns) for row in rows)), torch.nan)
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            forks = [
                (b, turn.stop, k) for b, row in enumerate(some) for k, turn in enumerate(row.turns)
            ]
            packed = asked(turn_batch(some), forks, self.verdict, has_branches=self.has_branches)
            chance_N = verdict_value(*answers(packed, self.scorer.logp(packed.batch)))
            for (b, _, k), chance in zip(forks, chance_N.tolist(), strict=True):
                chance_BK[start + b, k] = chance
        return chance_BK


@dataclass(frozen=True)
class EndpointJudge:
    """A chat model behind an address, which reads the conversation up to each reply."""

    judge: GoalJudge

    @property
    def name(self) -> str:
        return self.judge.endpoint.model

    def chances(self, rows: Sequence[Trajectory]) -> Tensor:
        chance_BK = torch.full((len(rows), max(len(row.turns) for row in rows)), torch.nan)
        places = [
            (b, k, place)
            for b, row in enumerate(rows)
            for k, place in enumerate(row.message_of_turn)
        ]
        found = asyncio.run(self._all(rows, [(b, place) for b, _, place in places]))
        for (b, k, _), chance in zip(places, found, strict=True):
            chance_BK[b, k] = chance
        return chance_BK

    async def _all(
        self, rows: Sequence[Trajectory], places: Sequence[tuple[int, int]]
    ) -> list[float]:
        return list(await asyncio.gather(*(self._one(rows[b], place) for b, place in places)))

    async def _one(self, row: Trajectory, place: int) -> float:
        try:
            return await self.judge.chance(row.conversation[: place + 1])
        except SpeakerError:
            return float("nan")  # counted by the gate; nothing is made up


def prompted_judge(config: IterateConfig, backend: Backend) -> PromptedJudge | None:
    """The judge that the section [gate] names; None: the gate asks none.

    Raises ConfigError where an endpoint is wanted and [judge] has no address or name, or where
    nothing tells the two answers of the verdict apart.
    """
    if config.gate.judge == "none":
        return None
    if config.gate.judge == "endpoint":
        return EndpointJudge(GoalJudge(judge_endpoint(config.judge), config.judge.seed))
    verdict = _verdict(config.q, backend)
    return SelfJudge(backend.reference(), verdict, backend.capabilities.branches)


def _verdict(q: QConfig, backend: Backend) -> Verdict:
    words = CriticConfig(
        verdict_question=q.verdict_question, verdict_yes=q.verdict_yes, verdict_no=q.verdict_no
    )
    return verdict_of(words, backend.tokenizer)
