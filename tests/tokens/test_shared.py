"""Rows that share what they begin with: each token once, and home again."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from tests.backends.test_local import backend
from turnwise.backends import AdapterSpec
from turnwise.tokens import TurnBatch, share_prefixes

TEXTS = st.lists(st.lists(st.integers(1, 3), min_size=2, max_size=6), min_size=1, max_size=6)


def batch_of(texts: list[list[int]]) -> TurnBatch:
    """Padded rows whose last token was written."""
    T = max(map(len, texts))
    token_BT = torch.tensor([text + [0] * (T - len(text)) for text in texts])
    turn_BT = torch.full_like(token_BT, -1)
    for b, text in enumerate(texts):
        turn_BT[b, len(text) - 1] = 0
    length_B = torch.tensor([len(text) for text in texts])
    return TurnBatch(token_BT, turn_BT, torch.zeros(token_BT.shape), length_B)


def test_a_common_beginning_stands_there_once() -> None:
    # 1 2 is shared by three rows, 1 2 3 by two of them; the last row begins otherwise.
    shared = share_prefixes(batch_of([[1, 2, 3, 4], [1, 2, 5], [1, 2, 3, 6], [7, 8]]), [0, 0, 0, 1])
    assert shared.batch.length_B.tolist() == [6, 2]  # 1 2 · 3 · 4 · 6 · 5 and 7 8
    assert shared.batch.token_BT[0].tolist() == [1, 2, 3, 4, 6, 5]
    tree = shared.batch.tree
    assert tree is not None
    assert tree.parent_BT[0].tolist() == [-1, 0, 1, 2, 2, 1]
    assert tree.position_BT[0].tolist() == [0, 1, 2, 3, 3, 2]


@given(TEXTS, st.data())
def test_every_token_finds_its_way_home(texts: list[list[int]], data: st.DataObject) -> None:
    batch = batch_of(texts)
    groups = data.draw(st.lists(st.integers(0, 2), min_size=len(texts), max_size=len(texts)))
    shared = share_prefixes(batch, groups)
    assert torch.equal(shared.home(shared.batch.token_BT), batch.token_BT)
    scored_BT = shared.home(shared.batch.turn_of_token_BT + 1) > 0
    assert bool(scored_BT[batch.written_BT].all())
    different = {(group, tuple(text[:i])) for group, text in zip(groups, texts, strict=True)
                 for i in range(1, len(text) + 1)}  # fmt: skip
    assert int(shared.batch.length_B.sum()) == len(different)


def test_what_rows_share_gets_the_gradients_of_all() -> None:
    shared = share_prefixes(batch_of([[1, 2], [1, 2], [1, 3]]), [0, 0, 0])
    value_RS = torch.ones(shared.batch.token_BT.shape, requires_grad=True)
    shared.home(value_RS).sum().backward()
    assert value_RS.grad is not None
    assert value_RS.grad.tolist() == [[3.0, 2.0, 1.0]]  # 1 in three rows, 2 in two, 3 in one


def test_a_model_says_the_same_of_shared_and_of_separate_rows() -> None:
    made = backend()
    batch = batch_of([[5, 6, 7, 8, 9], [5, 6, 7, 3], [5, 6, 7, 8, 2, 4], [9, 8]])
    shared = share_prefixes(batch, [0, 0, 0, 1])
    learner = made.create("policy", AdapterSpec())
    assert_close(shared.home(learner.logp(shared.batch)) * batch.written_BT, learner.logp(batch))
    reader = made.create_reader("q", AdapterSpec(seed=3), start=[0.1, -0.2])
    reader.forward_backward(batch, lambda output: (output - 1).square().sum())
    reader.optim_step(0.1)
    assert_close(shared.home(reader.read(shared.batch)), reader.read(batch), rtol=1e-4, atol=1e-5)
