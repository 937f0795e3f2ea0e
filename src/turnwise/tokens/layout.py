"""From segments of texts to packed rows: columns, ends and parents of every token at once.

Axes: `P` tokens of all texts (the pool), `M` segments, `N` tokens placed in rows, `R` rows of `S`
columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from turnwise.tokens.batch import TurnBatch
from turnwise.tokens.tree import Tree


@dataclass(frozen=True)
class Pool:
    """Tokens of texts that follow each other."""

    token_P: Tensor
    position_P: Tensor
    turn_P: Tensor  # -1: not scored
    logp_P: Tensor  # of what sampled it; 0 where the turn is -1


class Segment(NamedTuple):
    """Consecutive tokens of a text in a row; each continues its parent's last token."""

    row: int
    first: int  # in the pool
    length: int  # >= 1
    parent: int  # a segment before it; -1: a root
    is_scored: bool  # False: only there to be seen


def rows_of(segments: Sequence[Segment], pool: Pool) -> tuple[TurnBatch, Tensor]:
    """The rows that hold the segments in their order, descendants right after their ancestors.

    Returns the batch and place_P: row · S + column of each token of the pool where it is scored or
    could be; -1 where it stands in no such segment.
    """
    table = torch.tensor(segments, dtype=torch.int64).reshape(-1, 5)
    row_M, first_M, length_M, parent_M, scored_M = table.unbind(dim=1)
    start_M, end_M, width_R = _columns(segments)
    begin_M = torch.tensor(start_M, dtype=torch.int64)
    tip_M = torch.where(parent_M < 0, -1, (begin_M + length_M - 1)[parent_M])

    m_N = torch.arange(len(segments)).repeat_interleave(length_M)
    offset_N = torch.arange(len(m_N)) - (length_M.cumsum(0) - length_M)[m_N]
    source_N = first_M[m_N] + offset_N
    row_N, column_N = row_M[m_N], begin_M[m_N] + offset_N
    parent_N = torch.where(offset_N == 0, tip_M[m_N], column_N - 1)
    scored_N = scored_M[m_N] > 0

    S = max(width_R, default=0)
    shape, place = (len(width_R), S), (row_N, column_N)

    def spread(value_N: Tensor, blank: int) -> Tensor:
        return value_N.new_full(shape, blank).index_put(place, value_N)

    turn_N = torch.where(scored_N, pool.turn_P[source_N], -1)
    logp_N = torch.where(scored_N, pool.logp_P[source_N], 0.0)
    own_end_RS = (torch.arange(S) + 1).repeat(len(width_R), 1)
    batch = TurnBatch(
        token_BT=spread(pool.token_P[source_N], 0),
        turn_of_token_BT=spread(turn_N, -1),
        logp_behaviour_BT=spread(logp_N, 0),
        length_B=torch.tensor(width_R, dtype=torch.int64),
        tree=Tree(
            position_BT=spread(pool.position_P[source_N], 0),
            end_BT=own_end_RS.index_put(place, torch.tensor(end_M, dtype=torch.int64)[m_N]),
            parent_BT=spread(parent_N, -1),
        ),
    )
    place_P = torch.full_like(pool.token_P, -1)
    place_P[source_N[scored_N]] = (row_N * S + column_N)[scored_N]
    return batch, place_P


def _columns(segments: Sequence[Segment]) -> tuple[list[int], list[int], list[int]]:
    """First column of each segment, one past its last descendant, and the length of each row."""
    width_R = [0] * (1 + max((segment.row for segment in segments), default=-1))
    start_M, end_M = [], []
    for segment in segments:
        start_M.append(width_R[segment.row])
        width_R[segment.row] += segment.length
        end_M.append(width_R[segment.row])
    for m in reversed(range(len(segments))):  # descendants come later
        parent = segments[m].parent
        if parent >= 0:
            end_M[parent] = max(end_M[parent], end_M[m])
    return start_M, end_M, width_R
