"""Fitted Q evaluation: targets for the Q of a policy from logs of any policy.

y_t = r_t + γ·(1/M)·Σ_m Q̄(s_{t+1}, y^m) with y^m drawn by the policy itself. Neither the logged next
reply (its fixed point is the Q of whoever wrote the logs) nor a value head fitted to mixed logs may
stand in its place, so neither is offered.

Source: fitted Q evaluation, Le et al. 2019, arXiv:1903.08738.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from turnwise.backends.protocol import Sampler
from turnwise.conversation import Trajectory
from turnwise.errors import OutcomeError
from turnwise.iteration.episodes import Episode, prompts_of
from turnwise.iteration.q_values import FittedQ, read_scores
from turnwise.iteration.replies import sample_replies
from turnwise.qvalues import fqe_target

StateName = tuple[int, str, int]  # round, conversation, decision step


@dataclass(frozen=True)
class NextReplies:
    """What the policy would say at every state that follows a step: M replies each."""

    rows: Sequence[Trajectory]  # prompt and reply, each different one once
    of_state: Mapping[StateName, Sequence[int]]  # rows of a state's replies


def next_replies(
    episodes: Sequence[Episode],
    sampler: Sampler,
    *,
    number: int,
    stop_id: int,
    max_tokens: int,
    key: tuple[int | str, ...],
) -> NextReplies:
    """Sampled once, at temperature 1; the noise is a function of the key and the states' names."""
    states = {
        (episode.round, episode.conversation_id, prompt.turn_index): prompt
        for episode in episodes
        for prompt in prompts_of([episode], discount=1.0)
        if prompt.turn_index > 0
    }
    names = sorted(states)
    prompts = [states[name] for name in names]
    if not prompts:
        return NextReplies([], {})
    replies = sample_replies(
        sampler, prompts, number, stop_id=stop_id, max_tokens=max_tokens, key=key,
        keeps_caches=True,
    )  # fmt: skip
    place: dict[tuple[int, ...], int] = {}
    rows: list[Trajectory] = []
    of_state: dict[StateName, list[int]] = {name: [] for name in names}
    for s, row in zip(replies.prompt_B.tolist(), replies.rows, strict=True):
        if row.token_ids not in place:
            place[row.token_ids] = len(rows)
            rows.append(row)
        of_state[names[s]].append(place[row.token_ids])
    return NextReplies(rows, of_state)


def fqe_targets(
    q: FittedQ, episodes: Sequence[Episode], following: NextReplies, *, discount: float
) -> list[list[float]]:
    """Each decision step's target under the frozen `q`, return units; NaN where it has none.

    None have: the last step of a censored conversation, a step whose next state is in no row, and
    steps that the exporter took out. Human-written steps have one: Q is asked about any action.
    Raises OutcomeError naming conversation, value and range for a target outside the return range.
    """
    q_EBK, _ = q.returns(read_scores(q.network, following.rows))
    # No return leaves the range, so no mean of them does, whatever an unbounded head may say.
    value_BK = q_EBK.mean(dim=0).clamp(q.low, q.high).double()
    value_R = value_BK[:, 0].numpy() if following.rows else np.zeros(0)
    mean = {name: float(value_R[rows].mean()) for name, rows in following.of_state.items()}
    targets = []
    for episode in episodes:
        names = [(episode.round, episode.conversation_id, k + 1) for k in episode.turn_index]
        next_value = [mean.get(name, math.nan) for name in names]
        y_K = fqe_target(
            torch.tensor(episode.reward, dtype=torch.float64),
            torch.tensor(next_value, dtype=torch.float64),
            torch.tensor(episode.is_last),
            discount=discount,
        )
        learns = zip(episode.trains_q, episode.is_human, strict=True)
        y = [y if t or h else math.nan for y, (t, h) in zip(y_K.tolist(), learns, strict=True)]
        _check_range(q, episode, y)
        targets.append(y)
    return targets


def num_sweeps(episodes: Sequence[Episode], limit: int) -> int:
    """At most `limit`, and no more than nearly every conversation has steps: a target moves one
    step further with each sweep."""
    steps = {(one.round, one.conversation_id): one.num_steps for one in episodes}
    return min(limit, math.ceil(float(np.percentile(list(steps.values()), 95))))


def _check_range(q: FittedQ, episode: Episode, target: Sequence[float]) -> None:
    for k, y in zip(episode.turn_index, target, strict=True):
        if not math.isnan(y) and not q.low <= y <= q.high:
            raise OutcomeError(
                f"conversation {episode.conversation_id}, decision step {k}: expected a target of "
                f"fitted Q evaluation in [{q.low:g}, {q.high:g}], found {y:g}; set q.return_low "
                "and q.return_high so that a reward and the value after it fit in (never clipped)"
            )
