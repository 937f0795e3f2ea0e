"""Branches are read beside their dialogues exactly as if each stood alone, however packed."""


import torch
from hypothesis import given, settings
from hypothesis.strategies import booleans, integers
from torch import Tensor
from torch.testing import assert_close

from tests.tokens.trees import chain, context, scores, seen, value, worlds
from turnwise.tokens import Branch, Packed, TurnBatch, pack, separate

World = tuple[TurnBatch, list[Branch], Tensor]
budgets = integers(1, 40)


def read(packed: Packed) -> tuple[Tensor, list[Tensor]]:
    value_RS = scores(packed.batch)
    return packed.factual(value_RS), packed.of_branches(value_RS)


def truth(trunks: TurnBatch, branches: list[Branch]) -> tuple[Tensor, list[Tensor]]:
    """What every token is worth after exactly its own path."""
    of_branches = []
    for i, branch in enumerate(branches):
        whole = context(trunks, branches, i)
        before = len(whole) - len(branch.token_ids)
        values = [value(whole[: before + n], branch.token_ids[n]) for n in range(*branch.scored)]
        of_branches.append(torch.tensor(values, dtype=torch.float64))
    return scores(trunks), of_branches


@settings(deadline=None)
@given(world=worlds(), max_tokens=budgets, shared=booleans())
def test_every_token_sees_exactly_its_own_path(world: World, max_tokens: int, shared: bool) -> None:
    trunks, branches, group_B = world
    group = group_B if shared else None
    expected = truth(trunks, branches)
    assert_close(read(pack(trunks, branches, max_tokens=max_tokens, group_B=group)), expected)
    assert_close(read(separate(trunks, branches)), expected)


@settings(deadline=None)
@given(world=worlds(), max_tokens=budgets)
def test_parent_is_the_last_but_one_of_what_a_token_sees(world: World, max_tokens: int) -> None:
    trunks, branches, group_B = world
    batch = pack(trunks, branches, max_tokens=max_tokens, group_B=group_B).batch
    tree = batch.tree or chain(batch)
    for row, length in enumerate(batch.length_B.tolist()):
        for column in range(length):
            parent = int(tree.parent_BT[row, column])
            before = seen(batch, row, parent) if parent >= 0 else ()
            assert seen(batch, row, column)[:-1] == before
        for column in range(length, batch.token_BT.shape[1]):
            assert int(tree.end_BT[row, column]) == column + 1
