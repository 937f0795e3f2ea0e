"""Side texts of dialogues, and the rows in which a model reads them beside their dialogues.

A branch starts at a boundary of its dialogue (the *trunk*) and is seen by nothing else. `pack` lays
trunks and branches out as trees, each token once; `separate` gives every context a row of its own.
Both give a `Packed`, which carries home what a model says of the tokens.

Axes: `B` trunks of `T` columns, `R` packed rows of `S` columns, `N` tokens.
Source: InfoPO method page, 4.1 to 4.5.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain

import torch
from torch import Tensor

from turnwise.conversation.trajectory import Span
from turnwise.errors import TokensError
from turnwise.tokens.batch import TurnBatch
from turnwise.tokens.layout import Pool, Segment, rows_of
from turnwise.tokens.tree import Branch, Places


@dataclass(frozen=True)
class Packed:
    """Rows for a model, and the way home for what it says of them.

    A place is row · S + column of a packed row, a home b · T + t of a trunk's token.
    """

    batch: TurnBatch  # R rows; without a tree each row is one text at positions 0, 1, 2, …
    shape_BT: tuple[int, int]
    written_N: Tensor  # home of every written token
    written_place_N: Tensor
    num_scored: tuple[int, ...]  # scored tokens of each branch, which follow each other here:
    scored_place_N: Tensor
    has_target_N: Tensor  # bool over these scored tokens
    target_N: Tensor  # home of the target of each that has one
    target_place_N: Tensor

    def factual(self, logp_RS: Tensor) -> Tensor:
        """logp_BT of what was played: at written tokens, 0 elsewhere."""
        return self._home(self.written_N, logp_RS.flatten()[self.written_place_N], 0.0)

    def of_branches(self, logp_RS: Tensor) -> list[Tensor]:
        """The scored log-probabilities of each branch, in the order they were given."""
        return list(logp_RS.flatten()[self.scored_place_N].split(self.num_scored))

    def counterfactual(self, logp_RS: Tensor) -> Tensor:
        """logp_BT: what a branch says of a trunk's token; NaN where no branch has it as target.

        Of several branches with one target it keeps any one: take `of_branches` then.
        """
        return self.at_targets(logp_RS.flatten()[self.scored_place_N[self.has_target_N]])

    def pairs(self) -> tuple[Places, Places]:
        """Places after which the same tokens are predicted: in the trunk, and in the branch.

        Of scored tokens with a target, in the order of the branches: the arguments `here` and
        `there` of a branch scorer's `divergence`; `at_targets` carries its answer home.
        """
        return (
            self._before(self.target_place_N),
            self._before(self.scored_place_N[self.has_target_N]),
        )

    def at_targets(self, value_N: Tensor) -> Tensor:
        """value_BT of values in the order of `pairs`, at their targets; NaN elsewhere."""
        return self._home(self.target_N, value_N, math.nan)

    def _home(self, home_N: Tensor, value_N: Tensor, blank: float) -> Tensor:
        blank_N = value_N.new_full((self.shape_BT[0] * self.shape_BT[1],), blank)
        return blank_N.index_put((home_N,), value_N).reshape(self.shape_BT)

    def _before(self, place_N: Tensor) -> Places:
        width = max(self.batch.token_BT.shape[1], 1)
        row_N, column_N = place_N // width, place_N % width
        tree = self.batch.tree
        return row_N, column_N - 1 if tree is None else tree.parent_BT[row_N, column_N]


def pack(
    trunks: TurnBatch,
    branches: Sequence[Branch],
    *,
    max_tokens: int,
    group_B: Tensor | None = None,
) -> Packed:
    """Trunks and branches as trees, each token once: depth first, branches before what follows.

    Scored are the written tokens of the trunks (to leave them out give trunks whose turns are all
    -1) and the scored tokens of the branches. What follows a trunk's last needed token is left out.

    max_tokens: of a row. Dialogues share rows of about equal length as long as none is longer; a
    longer dialogue has a row of its own. 1 = each dialogue has (a dense mask costs the square of a
    row's length).
    group_B: siblings have equal numbers; what those in one row have in common before the first
    written token is there once. None: nothing is shared.
    Raises TokensError naming a branch that does not fit its trunk or the other branches.
    """
    texts = _Texts(trunks, branches)
    units = _units(texts, max_tokens, group_B)
    segments: list[Segment] = []
    for row, members in enumerate(_balanced([unit.length for unit in units], max_tokens)):
        for u in members:
            _add_tree(segments, texts, row, units[u])
    batch, place_P = rows_of(segments, texts.pool)
    for unit in units:
        first = unit.dialogues[0] * texts.width
        for b in unit.dialogues[1:]:  # their copy of the opening is in no row
            home = b * texts.width
            place_P[home : home + unit.opening] = place_P[first : first + unit.opening]
    return _packed(texts, batch, place_P)


def separate(trunks: TurnBatch, branches: Sequence[Branch]) -> Packed:
    """Every context as a row of its own: what each trunk, then each branch with scored tokens sees.

    What `pack` must agree with, and the way of models that read no trees: the batch has a tree only
    if a row has other positions than 0, 1, 2, … (each row is then a chain). A trunk of which
    nothing is read has no row.
    Raises TokensError as `pack` does.
    """
    texts = _Texts(trunks, branches)
    is_read_B = trunks.written_BT.any(dim=1)
    is_read_B[[branch.dialogue for branch in branches if branch.target is not None]] = True
    segments: list[Segment] = []
    for b in is_read_B.nonzero()[:, 0].tolist():
        segments.append(Segment(len(segments), b * texts.width, texts.stop_B[b], -1, True))
    row = len(segments)
    for i, branch in enumerate(branches):
        if branch.scored[0] == branch.scored[1]:
            continue
        tip = len(segments)
        segments.append(Segment(row, branch.dialogue * texts.width, branch.fork, -1, False))
        for j in texts.line(i):
            size = len(branches[j].token_ids)
            segments.append(Segment(row, texts.first[j], size, tip, is_scored=i == j))
            tip += 1
        row += 1
    batch, place_P = rows_of(segments, texts.pool)
    return _packed(texts, batch, place_P)


@dataclass(frozen=True)
class _Unit:
    """Dialogues that stand in one row on one copy of their common opening."""

    dialogues: list[int]
    opening: int  # columns they share
    length: int  # of all their tokens, branches included


def _units(texts: "_Texts", max_tokens: int, group_B: Tensor | None) -> list[_Unit]:
    """Single dialogues, or as many siblings of a group as fit into a row."""
    if group_B is None:
        return [_Unit([b], 0, size) for b, size in enumerate(texts.size_B)]
    units: list[_Unit] = []
    for group in group_B.unique().tolist():
        siblings: list[int] = (group_B == group).nonzero()[:, 0].tolist()
        opening = texts.common_opening(siblings)
        part, length = [siblings[0]], texts.size_B[siblings[0]]
        for b in siblings[1:]:
            more = texts.size_B[b] - opening
            if length + more > max_tokens:
                units.append(_Unit(part, opening, length))
                part, length = [], opening
            part.append(b)
            length += more
        units.append(_Unit(part, opening, length))
    return units


def _balanced(length_U: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Units of each row: few rows of about equal length, none too long that holds two units."""
    longest_first = sorted(range(len(length_U)), key=lambda u: -length_U[u])
    number = min(math.ceil(sum(length_U) / max(max_tokens, 1)), len(length_U))
    while True:
        rows: list[list[int]] = [[] for _ in range(number)]
        filled = [0] * number
        for u in longest_first:
            row = filled.index(min(filled))
            rows[row].append(u)
            filled[row] += length_U[u]
        if all(len(row) == 1 or n <= max_tokens for row, n in zip(rows, filled, strict=True)):
            return sorted(sorted(row) for row in rows)
        number += 1


def _add_tree(segments: list[Segment], texts: "_Texts", row: int, unit: _Unit) -> None:
    """The unit's segments: its opening, then each dialogue, branches before what follows them."""

    def add_branches(indices: list[int], tip: int) -> None:
        for i in indices:
            size = len(texts.branches[i].token_ids)
            segments.append(Segment(row, texts.first[i], size, tip, is_scored=True))
            add_branches(texts.nested.get(i, []), len(segments) - 1)

    def add_trunk(dialogues: list[int], start: int, stop: int, tip: int) -> int:
        """Columns start..stop, which these dialogues share, and what forks behind them."""
        forks = {fork for b in dialogues for fork in texts.forks[b] if start < fork < stop}
        for edge in sorted(forks | ({stop} - {start})):
            first = dialogues[0] * texts.width + start
            segments.append(Segment(row, first, edge - start, tip, is_scored=True))
            tip = len(segments) - 1
            for b in dialogues:
                add_branches(texts.at.get((b, edge), []), tip)
            start = edge
        return tip

    root = add_trunk(unit.dialogues, 0, unit.opening, -1)
    for b in unit.dialogues:
        add_trunk([b], unit.opening, texts.stop_B[b], root)


def _packed(texts: "_Texts", batch: TurnBatch, place_P: Tensor) -> Packed:
    """The rows with the way home; a tree that says nothing is dropped."""
    B, T = texts.trunks.token_BT.shape
    written_N = texts.trunks.written_BT.flatten().nonzero()[:, 0]
    scored_N = _numbers(
        (first + branch.scored[0], first + branch.scored[1])
        for first, branch in zip(texts.first, texts.branches, strict=True)
    )
    num_scored = tuple(branch.scored[1] - branch.scored[0] for branch in texts.branches)
    has_target = [branch.target is not None for branch in texts.branches]
    target_N = _numbers(
        (branch.dialogue * T + branch.target[0], branch.dialogue * T + branch.target[1])
        for branch in texts.branches
        if branch.target is not None
    )
    return Packed(
        batch=replace(batch, tree=None) if _is_plain(batch) else batch,
        shape_BT=(B, T),
        written_N=written_N,
        written_place_N=place_P[written_N],
        num_scored=num_scored,
        scored_place_N=place_P[scored_N],
        has_target_N=torch.tensor(has_target, dtype=torch.bool).repeat_interleave(
            torch.tensor(num_scored, dtype=torch.int64)
        ),
        target_N=target_N,
        target_place_N=place_P[target_N],
    )


def _is_plain(batch: TurnBatch) -> bool:
    """Whether each row is one text at positions 0, 1, 2, …"""
    tree = batch.tree
    assert tree is not None
    column_S = torch.arange(batch.token_BT.shape[1])
    padding_RS = column_S >= batch.length_B[:, None]
    plain_RS = (tree.position_BT == column_S) & (tree.parent_BT == column_S - 1)
    return bool((plain_RS | padding_RS).all())


def _numbers(spans: Iterable[Span]) -> Tensor:
    """The numbers of all spans, one after the other."""
    parts = [torch.arange(start, stop) for start, stop in spans]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)


class _Texts:
    """Trunks and branches, checked, with what is needed to cut and place them."""

    def __init__(self, trunks: TurnBatch, branches: Sequence[Branch]) -> None:
        _check(trunks, branches)
        self.trunks, self.branches = trunks, branches
        B, self.width = trunks.token_BT.shape
        self.pool = _pool(trunks, branches)
        sizes = [len(branch.token_ids) for branch in branches]
        self.first = list(accumulate(sizes, initial=B * self.width))[:-1]  # in the pool
        self.stop_B = _stops(trunks, branches)
        self.size_B = list(self.stop_B)  # with branches
        self.forks: list[set[int]] = [set() for _ in range(B)]
        self.at: dict[tuple[int, int], list[int]] = {}  # branches by dialogue and fork
        self.nested: dict[int, list[int]] = {}
        for i, branch in enumerate(branches):
            self.size_B[branch.dialogue] += sizes[i]
            if branch.parent is None:
                self.forks[branch.dialogue].add(branch.fork)
                self.at.setdefault((branch.dialogue, branch.fork), []).append(i)
            else:
                self.nested.setdefault(branch.parent, []).append(i)

    def line(self, i: int) -> list[int]:
        """The branch after those it continues, outermost first."""
        parent = self.branches[i].parent
        return [i] if parent is None else [*self.line(parent), i]

    def common_opening(self, siblings: list[int]) -> int:
        """Columns before the first written token in which the siblings do not differ."""
        token_GT, written_GT = self.trunks.token_BT[siblings], self.trunks.written_BT[siblings]
        same_T = (token_GT == token_GT[:1]).all(dim=0) & ~written_GT.any(dim=0)
        same_T[min(self.stop_B[b] for b in siblings) :] = False
        return int(same_T.long().cumprod(dim=0).sum())


def _pool(trunks: TurnBatch, branches: Sequence[Branch]) -> Pool:
    """All tokens: the trunks row by row, then the branches in their order."""
    B, T = trunks.token_BT.shape
    token_N = torch.tensor(list(chain.from_iterable(one.token_ids for one in branches)))
    position_N = torch.tensor(list(chain.from_iterable(one.position_ids for one in branches)))
    turn_N = torch.full((len(token_N),), -1, dtype=torch.int64)
    start = 0
    for branch in branches:
        turn_N[start + branch.scored[0] : start + branch.scored[1]] = branch.turn
        start += len(branch.token_ids)
    return Pool(
        token_P=torch.cat([trunks.token_BT.flatten(), token_N.long()]),
        position_P=torch.cat([torch.arange(T).repeat(B), position_N.long()]),
        turn_P=torch.cat([trunks.turn_of_token_BT.flatten(), turn_N]),
        logp_P=torch.cat([trunks.logp_behaviour_BT.flatten(), torch.zeros(len(token_N))]),
    )


def _stops(trunks: TurnBatch, branches: Sequence[Branch]) -> list[int]:
    """Columns of each trunk up to the last that is scored, seen by a branch or a target."""
    column_T = torch.arange(1, trunks.token_BT.shape[1] + 1)
    stop_B: list[int] = (column_T * trunks.written_BT).amax(dim=1).clamp(min=1).tolist()
    for branch in branches:
        target_stop = 0 if branch.target is None else branch.target[1]
        stop_B[branch.dialogue] = max(stop_B[branch.dialogue], branch.fork, target_stop)
    return stop_B


def _check(trunks: TurnBatch, branches: Sequence[Branch]) -> None:
    if trunks.tree is not None or bool(trunks.written_BT[:, :1].any()):
        raise TokensError(
            "expected trunks as rows of one dialogue each with something before the first turn, "
            "found packed rows or a token written at column 0; build them by `turn_batch`"
        )
    length_B: list[int] = trunks.length_B.tolist()
    for i, branch in enumerate(branches):
        fault = _fault(branch, i, branches, length_B)
        if fault:
            raise TokensError(f"branch {i} ({branch.kind} of turn {branch.turn}): {fault}")


def _fault(branch: Branch, i: int, branches: Sequence[Branch], length_B: list[int]) -> str | None:
    """What does not fit, in words."""
    size, (start, stop) = len(branch.token_ids), branch.scored
    if not 0 <= branch.dialogue < len(length_B):
        return f"expected a dialogue of 0..{len(length_B) - 1}, found {branch.dialogue}"
    length = length_B[branch.dialogue]
    if not 1 <= branch.fork <= length:
        return f"expected a fork of 1..{length}, the dialogue's tokens, found {branch.fork}"
    if size == 0 or len(branch.position_ids) != size:
        return f"expected as many positions as tokens, found {len(branch.position_ids)} and {size}"
    if not 0 <= start <= stop <= size or branch.turn < 0:
        return f"expected scored tokens within 0..{size} and a turn >= 0, found {branch.scored}"
    if branch.target is not None:
        if branch.target[1] - branch.target[0] != stop - start:
            return f"expected one target for each scored token, found {branch.target}"
        if not 1 <= branch.target[0] <= branch.target[1] <= length:
            return f"expected a target within 1..{length}, found {branch.target}"
    if branch.parent is not None:
        if not 0 <= branch.parent < i:
            return f"expected an earlier branch as parent, found {branch.parent}"
        parent = branches[branch.parent]
        if (parent.dialogue, parent.fork) != (branch.dialogue, branch.fork):
            return f"expected its parent's dialogue and fork {(parent.dialogue, parent.fork)}"
    return None
