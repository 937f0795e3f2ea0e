"""From played dialogues to branches: what the next turn would have followed without the feedback.

For each eligible turn k a branch holds another text in the place of the feedback that the turn
caused, then everything that followed up to the end of turn k + 1, whose tokens are scored. Nothing
but the bodies of the replies is replaced. No equation here: gains are in `credit`.

Axes: `B` dialogues, `K` turns, `M` other feedbacks of one turn.
Source: Kong et al. 2026, arXiv:2603.00656; InfoPO method page, sections 1, 2 and 4.8.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from turnwise.conversation import Trajectory, Turn
from turnwise.conversation.trajectory import Span
from turnwise.errors import ConfigError
from turnwise.tokens.batch import TurnBatch
from turnwise.tokens.chat import ChatFormat
from turnwise.tokens.eligibility import (
    Bodies,
    Refusal,
    bodies_of,
    eligible,
    refusals,
    refuse_groups,
)
from turnwise.tokens.tree import Branch

Fill = Literal["gap", "compact", "pad_repeat", "drop", "marginal"]

_GRAM = 4  # tokens in a row that count as copied


@dataclass(frozen=True)
class Counterfactuals:
    """The branches of a step's dialogues, and what became of each turn.

    K is the largest index of a turn with a token + 1, as of the dialogues' `TurnBatch`.
    """

    branches: tuple[Branch, ...]  # kind "counterfactual"; several of one turn with fill marginal
    is_eligible_BK: Tensor  # bool: the gain of turn k is asked for
    is_identical_BK: Tensor  # bool, of eligible turns: nothing would change, so there is no branch
    copied_share_BK: Tensor  # float32: see `copied_share`; 0 where not eligible
    refusal: tuple[tuple[str, ...], ...]  # of each turn of each dialogue; "" where eligible
    fill_used: tuple[tuple[str, ...], ...]  # likewise; "" without a branch

    def sums(self, logp_I: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Log-probability of turn k + 1 after each other feedback: sum_BKM and where there is one.

        logp_I: scored log-probabilities of each of the branches, in their order (`of_branches`).
        """
        B, K = self.is_eligible_BK.shape
        sums: dict[tuple[int, int], list[Tensor]] = {}
        for branch, logp_N in zip(self.branches, logp_I, strict=True):
            sums.setdefault((branch.dialogue, branch.turn), []).append(logp_N.sum())
        M = max(map(len, sums.values()), default=0)
        sum_BKM = torch.zeros(B, K, M)
        is_there_BKM = torch.zeros(B, K, M, dtype=torch.bool)
        for (b, k), of_turn in sums.items():
            sum_BKM[b, k, : len(of_turn)] = torch.stack(of_turn)
            is_there_BKM[b, k, : len(of_turn)] = True
        return sum_BKM, is_there_BKM


def counterfactuals(
    trajectories: Sequence[Trajectory],
    *,
    placeholder_ids: Sequence[int],
    fill: Fill = "gap",
    chat: ChatFormat | None = None,
    alternatives: Mapping[tuple[int, int], Sequence[Bodies]] | None = None,
    is_scored_B: Tensor | None = None,
    min_group_turns: int = 2,
    score_markup: bool = False,
) -> Counterfactuals:
    """Branches in which turn k + 1 follows something else than the feedback to turn k.

    | fill | instead of each body | positions of what follows |
    | --- | --- | --- |
    | gap | the placeholder | as in the trunk, a hole before it; compact where it is too long |
    | compact | the placeholder | directly after it |
    | pad_repeat | the placeholder, cut or its last token repeated to fit | as in the trunk |
    | drop | nothing, nor the replies' markup: as if nobody had answered | directly after it |
    | marginal | other feedback, a branch for each | each by the rule of gap |

    trajectories: rows of the trunk batch, in its order. Dialogues without an outcome are to be left
    out before: here only an infrastructure failure refuses a dialogue.
    placeholder_ids: not read by drop and marginal.
    chat: needed by drop and score_markup; with it a body also counts as straddled unless its tokens
    are those of its text alone.
    alternatives: of fill marginal, other feedback by (dialogue, turn), with as many bodies as the
    turn's own; None: what siblings (equal group_id) were told at the same turn.
    is_scored_B: bool; False: the group's gate is closed. min_group_turns: groups with fewer
    candidate turns are not scored.
    score_markup: what the template puts right after turn k + 1 (after its end-of-turn token, which
    is part of the turn) is scored too, where the dialogue goes on; the trunks must come from
    `with_markup`.
    Raises ConfigError for settings that make no sense together, TokensError for a dialogue whose
    messages and turns do not fit.
    """
    _check(placeholder_ids, fill, chat, alternatives, score_markup=score_markup)
    refusal = [refusals(trajectory, chat) for trajectory in trajectories]
    if fill == "marginal":
        alternatives = _siblings(trajectories, refusal) if alternatives is None else alternatives
        alternatives = _usable(trajectories, refusal, alternatives)
    refuse_groups(trajectories, refusal, is_scored_B, min_group_turns)

    num_turns = max((k + 1 for one in trajectories for k in one.written_turns), default=0)
    shape = (len(trajectories), num_turns)
    is_eligible_BK = torch.zeros(shape, dtype=torch.bool)
    is_identical_BK, copied_share_BK = is_eligible_BK.clone(), torch.zeros(shape)
    fill_used = [[""] * len(words) for words in refusal]
    branches: list[Branch] = []
    for b, k in eligible(refusal):
        asked = _Asked(b, k, trajectories[b], chat if score_markup else None)
        others = () if alternatives is None else alternatives[b, k]
        fill_used[b][k], new = _branches(asked, fill, tuple(placeholder_ids), others, chat)
        branches += new
        is_eligible_BK[b, k], is_identical_BK[b, k] = True, not new
        copied_share_BK[b, k] = copied_share(asked.answer_ids, asked.bodies)
    return Counterfactuals(
        branches=tuple(branches),
        is_eligible_BK=is_eligible_BK,
        is_identical_BK=is_identical_BK,
        copied_share_BK=copied_share_BK,
        refusal=tuple(map(tuple, refusal)),
        fill_used=tuple(map(tuple, fill_used)),
    )


def with_markup(
    batch: TurnBatch, trajectories: Sequence[Trajectory], chat: ChatFormat
) -> TurnBatch:
    """The batch in which the template's tokens right after a turn's end belong to the turn too.

    They are the closing markup behind the end-of-turn token (and that token itself where a length
    limit cut the turn), where something follows. For scoring with `score_markup` only: nobody
    trains on them.
    """
    turn_BT = batch.turn_of_token_BT.clone()
    for b, trajectory in enumerate(trajectories):
        for k, turn in enumerate(trajectory.turns):
            turn_BT[b, turn.stop : _stop_with_markup(trajectory, k, chat)] = k
    return replace(batch, turn_of_token_BT=turn_BT)


def copied_share(token_ids: Sequence[int], bodies: Bodies) -> float:
    """Share of the tokens that stand in four in a row which also occur in one of the bodies.

    In [0, 1]. High where the next turn only quotes its feedback, which makes any gain large.
    """
    if len(token_ids) < _GRAM:
        return 0.0
    known = {gram for body in bodies for gram in _grams(body)}
    is_hit = np.array([gram in known for gram in _grams(token_ids)])
    return float((np.convolve(is_hit, np.ones(_GRAM)) > 0).mean())


def _grams(token_ids: Sequence[int]) -> list[tuple[int, ...]]:
    return list(zip(*(token_ids[i:] for i in range(_GRAM)), strict=False))


@dataclass(frozen=True)
class _Asked:
    """Turn k of a dialogue, whose feedback is to be replaced, and the turn that answers it."""

    dialogue: int
    k: int
    trajectory: Trajectory
    markup: ChatFormat | None  # given: the template's tokens after the next turn are scored too

    @property
    def turn(self) -> Turn:
        return self.trajectory.turns[self.k]

    @property
    def target(self) -> Span:
        following = self.trajectory.turns[self.k + 1]
        if self.markup is None:
            return following.start, following.stop
        return following.start, _stop_with_markup(self.trajectory, self.k + 1, self.markup)

    @property
    def answer_ids(self) -> tuple[int, ...]:
        following = self.trajectory.turns[self.k + 1]
        return self.trajectory.token_ids[following.start : following.stop]

    @property
    def bodies(self) -> Bodies:
        return bodies_of(self.trajectory, self.k)

    def exchanged(self, bodies: Bodies, *, at_trunk_positions: bool) -> Branch:
        """What followed from the first body on, with other bodies."""
        fork, stop = self.turn.feedback[0][0], self.target[1]
        begin_of_next = [start for start, _ in self.turn.feedback[1:]]
        ids, positions = list[int](), list[int]()
        for (start, end), after, body in zip(
            self.turn.feedback, [*begin_of_next, stop], bodies, strict=True
        ):
            ids += [*body, *self.trajectory.token_ids[end:after]]
            positions += [*range(start, start + len(body)), *range(end, after)]
        return self._branch(fork, ids, positions if at_trunk_positions else None)

    def dropped(self, chat: ChatFormat) -> Branch:
        """What followed as if nobody had answered."""
        piece = chat.continuation([], is_closed=self.turn.stop_reason == "stop")
        start, stop = self.target
        return self._branch(
            self.turn.stop, [*piece.token_ids, *self.trajectory.token_ids[start:stop]], None
        )

    def _branch(self, fork: int, ids: list[int], positions: list[int] | None) -> Branch:
        size = self.target[1] - self.target[0]
        return Branch(
            dialogue=self.dialogue,
            fork=fork,
            token_ids=tuple(ids),
            position_ids=tuple(positions or range(fork, fork + len(ids))),
            scored=(len(ids) - size, len(ids)),
            kind="counterfactual",
            turn=self.k,
            target=self.target,
        )


def _branches(
    asked: _Asked,
    fill: Fill,
    placeholder: tuple[int, ...],
    others: Sequence[Bodies],
    chat: ChatFormat | None,
) -> tuple[str, list[Branch]]:
    """The fill that was used and its branches; "" and none where nothing would change."""
    own = asked.bodies
    if fill == "drop":
        assert chat is not None
        return fill, [asked.dropped(chat)]
    if fill == "marginal":
        return fill, [
            asked.exchanged(other, at_trunk_positions=_fits(other, own)) for other in others
        ]
    bodies = tuple(
        _stretched(placeholder, len(body)) if fill == "pad_repeat" else placeholder for body in own
    )
    if bodies == own:
        return "", []
    used = "compact" if fill == "gap" and not _fits(bodies, own) else fill
    return used, [asked.exchanged(bodies, at_trunk_positions=used != "compact")]


def _fits(bodies: Bodies, own: Bodies) -> bool:
    return all(len(a) <= len(b) for a, b in zip(bodies, own, strict=True))


def _stretched(placeholder: tuple[int, ...], length: int) -> tuple[int, ...]:
    return (placeholder + placeholder[-1:] * length)[:length]


def _stop_with_markup(trajectory: Trajectory, k: int, chat: ChatFormat) -> int:
    """One past the closing markup of turn k; nothing stands behind a last turn."""
    turn = trajectory.turns[k]
    if k + 1 == len(trajectory.turns):
        return turn.stop
    return turn.stop + len(chat.closing(is_closed=turn.stop_reason == "stop"))


def _siblings(
    trajectories: Sequence[Trajectory], refusal: Sequence[Sequence[str]]
) -> Mapping[tuple[int, int], Sequence[Bodies]]:
    """What siblings were told at the same turn, where their feedback could be measured too."""
    told: dict[tuple[str, int], dict[int, Bodies]] = {}
    for b, k in eligible(refusal):
        told.setdefault((trajectories[b].group_id, k), {})[b] = bodies_of(trajectories[b], k)
    return {
        (b, k): [bodies for other, bodies in of_group.items() if other != b]
        for (_, k), of_group in told.items()
        for b in of_group
    }


def _usable(
    trajectories: Sequence[Trajectory],
    refusal: list[list[str]],
    alternatives: Mapping[tuple[int, int], Sequence[Bodies]],
) -> Mapping[tuple[int, int], Sequence[Bodies]]:
    """Other feedback with as many bodies as the turn's own; a turn without any is refused."""
    out = {}
    for b, k in eligible(refusal):
        number = len(trajectories[b].turns[k].feedback)
        out[b, k] = [one for one in alternatives.get((b, k), ()) if len(one) == number]
        if not out[b, k]:
            refusal[b][k] = Refusal.NO_ALTERNATIVE
    return out


def _check(
    placeholder_ids: Sequence[int],
    fill: Fill,
    chat: ChatFormat | None,
    alternatives: object,
    *,
    score_markup: bool,
) -> None:
    if fill not in get_args(Fill):
        raise ConfigError(f"expected a fill of {', '.join(get_args(Fill))}, found {fill!r}")
    if not placeholder_ids and fill not in ("drop", "marginal"):
        raise ConfigError(
            f'expected a placeholder of at least one token for fill "{fill}", found none; give it '
            'a text, or use fill "drop"'
        )
    if chat is None and (fill == "drop" or score_markup):
        raise ConfigError(
            f'fill "drop" and score_markup need the chat format, found none (fill "{fill}", '
            f"score_markup {score_markup}); pass `chat`"
        )
    if alternatives is not None and fill != "marginal":
        raise ConfigError(
            f'only fill "marginal" compares with other feedback, found some with fill "{fill}"; '
            "leave `alternatives` out"
        )
