"""Trunks with random branches, and a scorer without a model: a value is a hash of a whole path."""

import torch
from hypothesis.strategies import DrawFn, composite, integers, lists, permutations, sampled_from
from torch import Tensor

from turnwise.tokens import Branch, Tree, TurnBatch

Path = tuple[tuple[int, int], ...]  # token and position of everything seen, in order


def chain(batch: TurnBatch) -> Tree:
    """The tree of rows that are one dialogue each."""
    column_BT = torch.arange(batch.token_BT.shape[1]).expand_as(batch.token_BT)
    inside_BT = column_BT < batch.length_B[:, None]
    return Tree(
        position_BT=torch.where(inside_BT, column_BT, 0),
        end_BT=torch.where(inside_BT, batch.length_B[:, None], column_BT + 1),
        parent_BT=torch.where(inside_BT, column_BT - 1, -1),
    )


def seen(batch: TurnBatch, row: int, query: int) -> Path:
    """What the token at column `query` sees by the rule of the mask, itself included."""
    tree = chain(batch) if batch.tree is None else batch.tree
    return tuple(
        (int(batch.token_BT[row, k]), int(tree.position_BT[row, k]))
        for k in range(batch.token_BT.shape[1])
        if k <= query < tree.end_BT[row, k]
    )


def value(path: Path, token: int) -> float:
    """A number in [0, 1) that stands for the log-probability of a token after a path."""
    return hash((path, token)) % 2**52 / 2**52


def scores(batch: TurnBatch) -> Tensor:
    """Float64 value of every token to be scored, 0 elsewhere."""
    tree = chain(batch) if batch.tree is None else batch.tree
    out_BT = torch.zeros(batch.token_BT.shape, dtype=torch.float64)
    for row, column in batch.written_BT.nonzero().tolist():
        path = seen(batch, row, int(tree.parent_BT[row, column]))
        out_BT[row, column] = value(path, int(batch.token_BT[row, column]))
    return out_BT


def context(trunks: TurnBatch, branches: list[Branch], i: int) -> Path:
    """Everything a branch's last token sees, itself included, from the definition."""
    branch = branches[i]
    own = tuple(zip(branch.token_ids, branch.position_ids, strict=True))
    if branch.parent is not None:
        return context(trunks, branches, branch.parent) + own
    prefix = trunks.token_BT[branch.dialogue, : branch.fork].tolist()
    return tuple(zip(prefix, range(branch.fork), strict=True)) + own


def batch_of(rows: list[tuple[list[int], list[int]]]) -> TurnBatch:
    """A batch of rows given as tokens and turns."""
    width = max(len(tokens) for tokens, _ in rows)
    turn_BT = torch.tensor([turns + [-1] * (width - len(turns)) for _, turns in rows])
    return TurnBatch(
        torch.tensor([tokens + [0] * (width - len(tokens)) for tokens, _ in rows]),
        turn_BT,
        torch.where(turn_BT >= 0, -0.5, 0.0),
        torch.tensor([len(tokens) for tokens, _ in rows]),
    )


@composite
def trunk_batches(draw: DrawFn) -> tuple[TurnBatch, Tensor]:
    """1 to 5 dialogues in 1 to 3 groups whose siblings begin alike."""
    rows, groups = [], []
    openings = draw(lists(lists(integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=3))
    for _ in range(draw(integers(1, 5))):
        group = draw(integers(0, len(openings) - 1))
        rest = draw(lists(integers(0, 3), max_size=8))
        turn = [draw(sampled_from([-1, 0, 1])) for _ in rest]
        rows.append((openings[group] + rest, [-1] * len(openings[group]) + turn))
        groups.append(group)
    return batch_of(rows), torch.tensor(groups)


@composite
def branch_lists(draw: DrawFn, trunks: TurnBatch) -> list[Branch]:
    """0 to 5 branches anywhere, on trunks or on each other; some go back to played tokens."""
    out: list[Branch] = []
    for i in range(draw(integers(0, 5))):
        parent = draw(integers(-1, i - 1))
        if parent >= 0:
            dialogue, fork = out[parent].dialogue, out[parent].fork
        else:
            dialogue = draw(integers(0, len(trunks.length_B) - 1))
            fork = draw(integers(1, int(trunks.length_B[dialogue])))
        ids = tuple(draw(lists(integers(0, 3), min_size=1, max_size=4)))
        start = fork + draw(integers(0, 3))
        edges = sorted((draw(integers(0, len(ids))), draw(integers(0, len(ids)))))
        span = (edges[0], edges[1])
        size = span[1] - span[0]
        room = int(trunks.length_B[dialogue]) - size
        at = draw(integers(1, room)) if room >= 1 and draw(integers(0, 1)) else None
        out.append(
            Branch(
                dialogue,
                fork,
                ids,
                tuple(range(start, start + len(ids))),
                span,
                "side",
                draw(integers(0, 2)),
                parent if parent >= 0 else None,
                None if at is None else (at, at + size),
            )
        )
    return out


@composite
def worlds(draw: DrawFn) -> tuple[TurnBatch, list[Branch], Tensor]:
    trunks, group_B = draw(trunk_batches())
    return trunks, draw(branch_lists(trunks)), group_B


@composite
def reordered(draw: DrawFn, branches: list[Branch]) -> list[int]:
    """An order of the branches in which parents stay before their children."""
    waiting: list[int] = draw(permutations(range(len(branches))))
    order: list[int] = []
    while waiting:
        ready = next(i for i in waiting if branches[i].parent in (None, *order))
        order.append(ready)
        waiting = [i for i in waiting if i != ready]
    return order
