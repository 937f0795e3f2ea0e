"""Rows that begin alike, each common beginning once: a model reads a tree in place of many texts.

Siblings that answer one prompt, or prompts cut from one conversation, differ at their ends only.
Axes: `B` rows of `T` columns as they were given, `R` packed rows of `S` columns, `M` segments.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from turnwise.tokens.batch import TurnBatch
from turnwise.tokens.layout import Pool, Segment, rows_of


@dataclass(frozen=True)
class Shared:
    """Packed rows, and where each token of the given rows stands in them."""

    batch: TurnBatch  # a token is scored if it is in any of the rows that share it
    place_BT: Tensor  # int64: row · S + column; 0 on padding
    is_token_BT: Tensor

    def home(self, value_RS: Tensor) -> Tensor:
        """What was said of tokens, for the rows as they were given; further axes stay.

        0 on padding. Differentiable: what rows share gets the gradients of all of them.
        """
        value_BT = value_RS.flatten(0, 1)[self.place_BT.to(value_RS.device)]
        keep = self.is_token_BT.to(value_RS.device)
        return torch.where(keep.reshape(*keep.shape, *(1,) * (value_BT.dim() - 2)), value_BT, 0.0)


def share_prefixes(batch: TurnBatch, group_B: Sequence[int]) -> Shared:
    """Each group's rows as one tree in one row.

    group_B: rows of one group are packed together; any numbers.
    """
    B, T = batch.token_BT.shape
    token_BT, length_B = batch.token_BT.tolist(), batch.length_B.tolist()
    groups: dict[int, list[int]] = {}
    for b, group in enumerate(group_B):
        groups.setdefault(group, []).append(b)
    segments: list[Segment] = []
    first_BT = torch.arange(B * T).reshape(B, T)  # the token that stands for this one
    for row, members in enumerate(groups.values()):
        texts = {b: token_BT[b][: length_B[b]] for b in members}
        _grow(segments, first_BT, texts, sorted(members, key=lambda b: texts[b]), row)
    is_token_BT = torch.arange(T) < batch.length_B.cpu()[:, None]
    turn_P = torch.full((B * T,), -1)
    kept = first_BT[is_token_BT]
    turn_P.scatter_reduce_(0, kept, batch.turn_of_token_BT.cpu()[is_token_BT], "amax")
    pool = Pool(
        token_P=batch.token_BT.cpu().flatten(),
        position_P=torch.arange(T).repeat(B),
        turn_P=turn_P,
        logp_P=torch.zeros(B * T),
    )
    packed, place_P = rows_of(segments, pool)
    place_BT = torch.where(is_token_BT, place_P[first_BT], 0)
    return Shared(packed.to(batch.token_BT.device), place_BT, is_token_BT)


def _grow(
    segments: list[Segment],
    first_BT: Tensor,
    texts: dict[int, list[int]],
    members: Sequence[int],
    row: int,
) -> None:
    """Adds the segments of texts in alphabetical order to a row, ancestors before descendants."""
    T = first_BT.shape[1]
    open_spans = [(list(members), 0, -1)]  # texts that agree up to a column, and the segment there
    while open_spans:
        alike, start, parent = open_spans.pop()
        stop = _agreement(texts[alike[0]], texts[alike[-1]])
        if stop > start:
            leader = alike[0]
            segments.append(Segment(row, leader * T + start, stop - start, parent, is_scored=True))
            parent = len(segments) - 1
            first_BT[alike, start:stop] = first_BT[leader, start:stop].clone()
        longer: dict[int, list[int]] = {}
        for b in alike:
            if len(texts[b]) > stop:
                longer.setdefault(texts[b][stop], []).append(b)
        open_spans += [(part, stop, parent) for part in reversed(longer.values())]


def _agreement(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens with which both begin. Of sorted texts, first and last agree least."""
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return i
    return min(len(one), len(other))
