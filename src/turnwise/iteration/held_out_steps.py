"""Decision steps of held-out customers, and what both Q-functions say of them.

Each row is scored by the model that did not train on its customer.
Axes: `N` held-out decision steps, `B` rows, `K` decision steps of a row.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from turnwise.backends.protocol import Sample, SampleRequest
from turnwise.conversation import Trajectory, Turn
from turnwise.iteration.episodes import Episode
from turnwise.iteration.q_model import QModel
from turnwise.iteration.replies import reply_row
from turnwise.users.chance import uniform

Array = NDArray[np.float64]

_ROWS = 512  # that are read before their token values are dropped


class Crossed(Protocol):
    """Two Q-functions, each fitted without the other's customers."""

    @property
    def a(self) -> QModel: ...
    @property
    def b(self) -> QModel: ...
    @property
    def slopes(self) -> tuple[float, ...]:
        """a of every fitted map logit -> a·logit + b."""

    @property
    def facts(self) -> Mapping[str, object]:
        """How they were fitted; "targets" is "mc" or "fqe"."""


@dataclass(frozen=True)
class Values:
    """What was said of rows by the model that did not train on their customers, return units."""

    q_BK: Tensor
    v_BK: Tensor
    spread_BK: Tensor  # standard deviation of q over the heads


def held_out_values(crossed: Crossed, rows: Sequence[Trajectory], fold_B: Sequence[int]) -> Values:
    """NaN where a row has no such turn."""
    num_turns = max((len(row.turns) for row in rows), default=0)
    out = [torch.full((len(rows), num_turns), torch.nan) for _ in range(3)]
    for fold, model in enumerate((crossed.b, crossed.a)):
        mine = [b for b, of_b in enumerate(fold_B) if of_b == fold]
        for start in range(0, len(mine), _ROWS):
            some = mine[start : start + _ROWS]
            values = model.values([rows[b] for b in some])
            for x_BK, found in zip(out, (values.q_BK, values.v_BK, values.spread_BK), strict=True):
                x_BK[some, : found.shape[1]] = found.cpu()
    return Values(*out)


@dataclass(frozen=True)
class Step:
    """One decision step that can be judged: where it stands and what became of it."""

    b: int  # its row
    k: int  # which turn of the row
    episode: Episode

    @property
    def turn(self) -> Turn:
        return self.episode.trajectory.turns[self.k]

    @property
    def turn_index(self) -> int:
        return self.episode.turn_index[self.k]

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        return self.episode.trajectory.token_ids[: self.turn.start]

    @property
    def reply_ids(self) -> tuple[int, ...]:
        return self.episode.trajectory.token_ids[self.turn.start : self.turn.stop]

    @property
    def text(self) -> str:
        row = self.episode.trajectory
        return row.conversation[row.message_of_turn[self.k]].content


def judged_steps(episodes: Sequence[Episode]) -> tuple[list[Step], dict[str, int]]:
    """Steps that the model wrote, with end token and known return, and the others by reason."""
    steps, left_out = [], Counter[str]()
    for b, episode in enumerate(episodes):
        for k, turn in enumerate(episode.trajectory.turns):
            if not episode.trains_q[k]:
                left_out["not written by a known model"] += 1
            elif not episode.has_mc[k]:
                left_out["without a return of the policy (censored, or others wrote on)"] += 1
            elif turn.stop_reason != "stop":
                left_out["cut before the end token, which are worth the least by rule"] += 1
            else:
                steps.append(Step(b, k, episode))
    return steps, dict(left_out)


def shuffled_rows(steps: Sequence[Step], seed: int) -> dict[int, Trajectory]:
    """Each step's state with the reply of another step of the same turn index, by n.

    A step alone with its index has none, nor has one whose row would be longer than every row of
    the logs (the model may not be able to read it).
    """
    longest = max((step.turn.stop for step in steps), default=0)
    by_turn: dict[int, list[int]] = defaultdict(list)
    for n, step in enumerate(steps):
        by_turn[step.turn_index].append(n)
    rows = {}
    for members in by_turn.values():
        members.sort(key=lambda n: uniform(_name(steps[n]), "shuffled reply", seed))
        for n, other in zip(members, members[1:] + members[:1], strict=True):
            prompt, reply = steps[n].prompt_ids, steps[other].reply_ids
            if n != other and len(prompt) + len(reply) <= longest:
                rows[n] = _row(prompt, reply)
    return rows


def _name(step: Step) -> str:
    return f"{step.episode.round} {step.episode.conversation_id} {step.turn_index}"


def _row(prompt: tuple[int, ...], reply: tuple[int, ...]) -> Trajectory:
    request = SampleRequest(prompt, noise_seed=0, max_new_tokens=len(reply), stop_ids=())
    return reply_row(request, Sample(reply, (0.0,) * len(reply), "stop"))


def residuals(
    steps: Sequence[Step], episodes: Sequence[Episode], values: Values, *, discount: float
) -> Array:
    """r + γV(s') − Q(s, a) of each step, return units; NaN where the next state is in no row.

    episodes: all rows, in the order of the values; their steps are where next states are looked up.
    """
    place = {
        (one.round, one.conversation_id, index): (b, k)
        for b, one in enumerate(episodes)
        for k, index in enumerate(one.turn_index)
    }
    residual_N = np.full(len(steps), np.nan)
    for n, step in enumerate(steps):
        one, q = step.episode, float(values.q_BK[step.b, step.k])
        after = place.get((one.round, one.conversation_id, step.turn_index + 1))
        if one.is_last[step.k]:
            residual_N[n] = one.reward[step.k] - q
        elif after is not None:
            residual_N[n] = one.reward[step.k] + discount * float(values.v_BK[after]) - q
    return residual_N
