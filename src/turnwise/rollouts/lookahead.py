"""What a dialogue was worth after each turn, by playing it on from there.

Monte Carlo values, the idea of CollabLLM's multi-turn-aware rewards: the clone of a dialogue is the
words said so far. Turning values into credit is an equation's business (`turnwise.credit`).

Axes: `B` dialogues, `K` turns, `N` states (a dialogue after a turn that is not its last), `M`
continuations of a state.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan, nan

import torch
from torch import Tensor

from turnwise.backends.protocol import Sampler
from turnwise.conversation import Trajectory
from turnwise.errors import ConfigError
from turnwise.rollouts.dialogue import cut_after
from turnwise.rollouts.play import Plan, Stage, keyed_seed, play
from turnwise.tasks.protocol import S


@dataclass(frozen=True)
class LookaheadValues:
    """Values of B dialogues in outcome units, and what they cost."""

    value_BK: Tensor  # float32; NaN where no continuation was judged, 0 where there is no turn
    std_error_BK: Tensor  # float32; NaN where fewer than two continuations were judged
    num_dialogues: int  # continuations played
    num_failed: int  # of them: no outcome, since a speaker failed or it could not be judged
    num_tokens: int  # that the policy wrote in them

    def metrics(self) -> dict[str, float]:
        """What a step reports; "lookahead/std_error" only where a state was judged twice."""
        error = float(self.std_error_BK.nanmean())
        return {
            "lookahead/dialogues": float(self.num_dialogues),
            "lookahead/tokens": float(self.num_tokens),
            "lookahead/failed": float(self.num_failed),
            "lookahead/unknown": float(self.value_BK.isnan().sum()),
            **({} if isnan(error) else {"lookahead/std_error": error}),
        }


async def lookahead_values(
    stage: Stage[S],
    sampler: Sampler,
    trajectories: Sequence[Trajectory],
    *,
    samples: int,
    seed: int,
    scenario_seed_of: Callable[[Trajectory], int],
) -> LookaheadValues:
    """Mean outcome of `samples` continuations after each turn's reply.

        V_k = mean_m y_m   (k < K),     V_K = the dialogue's own outcome

    All continuations are played side by side. Each draws its noise from (seed, scenario, dialogue
    seed, turn, number) alone, so that neither the order nor the number of dialogues changes a
    value; what the user's luck is in them stands at `Plan`. A continuation without an outcome is
    counted and left out. A state that none of its continuations could judge has the value NaN:
    nothing is put in its place, so neither the turn before it nor the one after it has a credit.

    Raises ConfigError unless samples >= 1.
    Source: Wu et al. 2025 (CollabLLM), arXiv:2502.00640, reward a message with the mean over
    sampled futures; Kazemnejad et al. 2024 (VinePPO), arXiv:2410.01679, take such means for values.
    """
    if samples < 1:
        raise ConfigError(f"expected at least one continuation of each turn, got {samples}")
    states = [(b, k) for b, one in enumerate(trajectories) for k in range(len(one.turns) - 1)]
    plans = [
        _continuation(trajectories[b], k, scenario_seed_of, (seed, k, number))
        for b, k in states
        for number in range(samples)
    ]
    played, _ = await play(stage, sampler, plans)
    score_NM = torch.tensor([_score(one) for one in played]).reshape(-1, samples)
    value_BK = _own_outcomes(trajectories)
    error_BK = torch.full_like(value_BK, nan)
    if states:
        place = tuple(torch.tensor(states).T)
        value_BK[place], error_BK[place] = score_NM.nanmean(dim=1), _std_error(score_NM)
    return LookaheadValues(
        value_BK,
        error_BK,
        num_dialogues=len(played),
        num_failed=int(score_NM.isnan().sum()),
        num_tokens=sum(_written_after(one, plan) for one, plan in zip(played, plans, strict=True)),
    )


def _continuation(
    trajectory: Trajectory,
    k: int,
    scenario_seed_of: Callable[[Trajectory], int],
    key: tuple[int, ...],
) -> Plan:
    noise = keyed_seed("lookahead", trajectory.scenario_id, trajectory.seed, *key)
    return Plan(scenario_seed_of(trajectory), trajectory.group_id, noise, cut_after(trajectory, k))


def _score(trajectory: Trajectory) -> float:
    score = trajectory.outcome.score
    return nan if score is None else score


def _own_outcomes(trajectories: Sequence[Trajectory]) -> Tensor:
    """Each dialogue's own outcome after its last turn, 0 elsewhere. Returns value_BK."""
    K = max((len(one.turns) for one in trajectories), default=0)
    value_BK = torch.zeros(len(trajectories), K)
    for b, one in enumerate(trajectories):
        if one.turns:
            value_BK[b, len(one.turns) - 1] = _score(one)
    return value_BK


def _std_error(score_NM: Tensor) -> Tensor:
    """Standard error of each state's mean over its judged continuations; NaN for fewer than 2."""
    count_N = (~score_NM.isnan()).sum(dim=1)
    squares_NM = (score_NM - score_NM.nanmean(dim=1, keepdim=True)).square()
    return (squares_NM.nansum(dim=1) / (count_N - 1) / count_N).sqrt()


def _written_after(trajectory: Trajectory, plan: Plan) -> int:
    assert plan.prefix is not None, "a continuation continues something"
    later = trajectory.turns[len(plan.prefix.turns) :]
    return sum(turn.num_tokens for turn in later)
