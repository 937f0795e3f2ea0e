"""Rows of trees cut into rows that a model can read: one tree each, or one text each.

Pure: arrays in, arrays out, on the CPU. Axes: `R` rows of `S` columns that come out, `N` tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from turnwise.errors import ShapeError
from turnwise.tokens import TurnBatch
from turnwise.tokens.tree import Places, Tree


@dataclass(frozen=True)
class Cut:
    """Other rows with the same tokens, and the way back to where they stood."""

    batch: TurnBatch
    row_RS: Tensor  # int64: where the token at (r, s) stood; meaningless on padding
    column_RS: Tensor
    shape: tuple[int, int]  # of the rows that were cut

    def home(self, value_RS: Tensor) -> Tensor:
        """Values of scored tokens where these stood, 0 elsewhere; differentiable."""
        scored_RS = self.batch.written_BT.to(value_RS.device)
        place = (self.row_RS.to(value_RS.device), self.column_RS.to(value_RS.device))
        blank = value_RS.new_zeros(self.shape)
        return blank.index_put((place[0][scored_RS], place[1][scored_RS]), value_RS[scored_RS])

    def places(self, old: Places) -> Places:
        """Where the tokens at these rows and columns stand now.

        Raises ShapeError for a place that holds no token.
        """
        width = self.batch.token_BT.shape[1]
        real_RS = is_token(self.batch)
        number_N = real_RS.flatten().nonzero()[:, 0]
        now = torch.full(self.shape, -1)
        now[self.row_RS[real_RS], self.column_RS[real_RS]] = number_N
        now_N = now[old]
        if bool((now_N < 0).any()):
            n = int((now_N < 0).nonzero()[0])
            raise ShapeError(
                f"expected places that hold a token, found row {int(old[0][n])}, column "
                f"{int(old[1][n])}; give places inside the packed rows"
            )
        return now_N // width, now_N % width


def tree_of(batch: TurnBatch) -> Tree:
    """The batch's tree; rows without one are texts at positions 0, 1, 2, …"""
    if batch.tree is not None:
        return batch.tree
    column_BT = torch.arange(batch.token_BT.shape[1]).expand(batch.token_BT.shape)
    stop_BT = batch.length_B[:, None].expand_as(column_BT)
    inside_BT = is_token(batch)
    return Tree(
        position_BT=torch.where(inside_BT, column_BT, 0),
        end_BT=torch.where(inside_BT, stop_BT, column_BT + 1),
        parent_BT=torch.where(inside_BT, column_BT - 1, -1),
    )


def is_token(batch: TurnBatch) -> Tensor:
    """Which columns are before the row's end, B × T."""
    return torch.arange(batch.token_BT.shape[1]) < batch.length_B[:, None]


def depth(tree: Tree) -> Tensor:
    """How many tokens each token sees before itself, B × T."""
    B, T = tree.end_BT.shape
    gone = torch.zeros(B, T + 1, dtype=torch.int64)
    gone.scatter_add_(1, tree.end_BT.clamp(max=T), torch.ones_like(tree.end_BT))
    return torch.arange(T) - gone[:, :T].cumsum(dim=1)


def has_child(batch: TurnBatch) -> Tensor:
    """Which tokens another one continues, B × T."""
    parent_BT = tree_of(batch).parent_BT
    row_N, column_N = ((parent_BT >= 0) & is_token(batch)).nonzero(as_tuple=True)
    out_BT = torch.zeros(parent_BT.shape, dtype=torch.bool)
    out_BT[row_N, parent_BT[row_N, column_N]] = True
    return out_BT


def are_texts(batch: TurnBatch) -> bool:
    """Whether no row holds a fork or a second root."""
    tree = tree_of(batch)
    follows = tree.parent_BT == torch.arange(batch.token_BT.shape[1]) - 1
    return bool((follows | ~is_token(batch)).all())


def positions_are_columns(batch: TurnBatch) -> bool:
    """Whether every token stands where its column says."""
    here = tree_of(batch).position_BT == torch.arange(batch.token_BT.shape[1])
    return bool((here | ~is_token(batch)).all())


def trees_apart(batch: TurnBatch) -> Cut:
    """A row for each tree. Lone tokens that nobody scores (padding on the left) are dropped."""
    tree = tree_of(batch)
    row_R, start_R = ((tree.parent_BT < 0) & is_token(batch)).nonzero(as_tuple=True)
    size_R = tree.end_BT[row_R, start_R] - start_R
    kept_R = (size_R > 1) | batch.written_BT[row_R, start_R]
    row_R, start_R, size_R = row_R[kept_R], start_R[kept_R], size_R[kept_R]
    offset_S = torch.arange(int(size_R.max()) if len(size_R) else 0)
    inside_RS = offset_S < size_R[:, None]
    row_RS = row_R[:, None].expand_as(inside_RS)
    column_RS = torch.where(inside_RS, start_R[:, None] + offset_S, 0)
    apart = Tree(
        position_BT=torch.where(inside_RS, tree.position_BT[row_RS, column_RS], 0),
        end_BT=torch.where(
            inside_RS, tree.end_BT[row_RS, column_RS] - start_R[:, None], offset_S + 1
        ),
        parent_BT=torch.where(
            inside_RS, (tree.parent_BT[row_RS, column_RS] - start_R[:, None]).clamp(min=-1), -1
        ),
    )
    return _cut(batch, row_RS, column_RS, inside_RS, inside_RS, apart)


def paths_apart(batch: TurnBatch) -> Cut:
    """A row for each way from a root to a leaf; a scored token is scored on the first of its ways.

    What a model without any notion of branches reads.
    """
    tree, inside_BT = tree_of(batch), is_token(batch)
    is_leaf_BT = inside_BT & ~has_child(batch) & ((tree.parent_BT >= 0) | batch.written_BT)
    row_R, leaf_R = is_leaf_BT.nonzero(as_tuple=True)
    column_S = torch.arange(inside_BT.shape[1])
    seen_RS = (column_S <= leaf_R[:, None]) & (leaf_R[:, None] < tree.end_BT[row_R])
    seen_RS &= inside_BT[row_R]
    length_R = seen_RS.sum(dim=1)
    width = int(length_R.max()) if len(length_R) else 0
    # Stable: what is seen moves to the front in its order.
    column_RS = seen_RS.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :width]
    row_RS, place_S = row_R[:, None].expand_as(column_RS), torch.arange(width)
    path_RS = place_S < length_R[:, None]
    rank_RS = torch.arange(len(row_R))[:, None].expand_as(column_RS)
    place_RS = row_RS * len(column_S) + column_RS
    first = torch.full((inside_BT.numel(),), len(row_R)).scatter_reduce(
        0, place_RS[path_RS], rank_RS[path_RS], "amin"
    )
    mine_RS = path_RS & (first[place_RS] == rank_RS)
    texts = Tree(
        position_BT=torch.where(path_RS, tree.position_BT[row_RS, column_RS], 0),
        end_BT=torch.where(path_RS, length_R[:, None], place_S + 1),
        parent_BT=torch.where(path_RS, place_S - 1, -1),
    )
    return _cut(batch, row_RS, column_RS, path_RS, mine_RS, texts)


def _cut(
    batch: TurnBatch,
    row_RS: Tensor,
    column_RS: Tensor,
    inside_RS: Tensor,
    scored_RS: Tensor,
    tree: Tree,
) -> Cut:
    place = (row_RS, column_RS)
    rows = TurnBatch(
        token_BT=batch.token_BT[place],
        turn_of_token_BT=torch.where(scored_RS, batch.turn_of_token_BT[place], -1),
        logp_behaviour_BT=torch.where(scored_RS, batch.logp_behaviour_BT[place], 0.0),
        length_B=inside_RS.sum(dim=1),
        tree=tree,
    )
    B, T = batch.token_BT.shape
    return Cut(rows, row_RS, column_RS, (B, T))
