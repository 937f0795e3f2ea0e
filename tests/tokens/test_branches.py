"""Branches are read beside their dialogues exactly as if each stood alone, however packed."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import DataObject, booleans, data, integers
from torch import Tensor
from torch.testing import assert_close

from tests.tokens.trees import batch_of, chain, context, reordered, scores, seen, value, worlds
from turnwise.errors import TokensError
from turnwise.tokens import Branch, Packed, TurnBatch, microbatches, pack, separate

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


@settings(deadline=None, max_examples=50)
@given(world=worlds(), max_tokens=budgets)
def test_the_parent_of_a_token_sees_all_that_the_token_sees(world: World, max_tokens: int) -> None:
    trunks, branches, group_B = world
    batch = pack(trunks, branches, max_tokens=max_tokens, group_B=group_B).batch
    tree = batch.tree or chain(batch)
    for row, length in enumerate(batch.length_B.tolist()):
        for column in range(length):
            parent = int(tree.parent_BT[row, column])
            before = seen(batch, row, parent) if parent >= 0 else ()
            assert seen(batch, row, column)[:-1] == before
        for column in range(length, batch.token_BT.shape[1]):  # padding sees and shows nothing
            assert int(tree.end_BT[row, column]) == column + 1
            assert int(tree.parent_BT[row, column]) == -1


@settings(deadline=None, max_examples=50)
@given(world=worlds(), max_tokens=budgets, drawn=data())
def test_the_order_of_branches_changes_nothing(
    world: World, max_tokens: int, drawn: DataObject
) -> None:
    trunks, branches, group_B = world
    order = drawn.draw(reordered(branches))
    moved = [
        one if one.parent is None else replace(one, parent=order.index(one.parent))
        for one in (branches[i] for i in order)
    ]
    played, of_branches = read(pack(trunks, moved, max_tokens=max_tokens, group_B=group_B))
    assert_close(played, scores(trunks))
    assert_close(of_branches, [truth(trunks, branches)[1][i] for i in order])


@settings(deadline=None, max_examples=50)
@given(world=worlds(), max_tokens=budgets, pad_id=integers(0, 3), extra=integers(0, 3))
def test_padding_changes_nothing(world: World, max_tokens: int, pad_id: int, extra: int) -> None:
    trunks, branches, group_B = world
    pad = torch.nn.functional.pad
    wider = TurnBatch(
        pad(trunks.token_BT, (0, extra), value=pad_id),
        pad(trunks.turn_of_token_BT, (0, extra), value=-1),
        pad(trunks.logp_behaviour_BT, (0, extra)),
        trunks.length_B,
    )
    packed = pack(wider, branches, max_tokens=max_tokens, group_B=group_B)
    played, of_branches = read(packed)
    assert_close(played[:, : trunks.token_BT.shape[1]], scores(trunks))
    assert not played[:, trunks.token_BT.shape[1] :].any()
    assert_close(of_branches, truth(trunks, branches)[1])
    narrow = pack(trunks, branches, max_tokens=max_tokens, group_B=group_B)
    assert packed.batch.length_B.tolist() == narrow.batch.length_B.tolist()


@settings(deadline=None, max_examples=50)
@given(world=worlds(), max_tokens=budgets, shared=booleans())
def test_values_of_written_tokens_come_home_as_they_went(
    world: World, max_tokens: int, shared: bool
) -> None:
    trunks, branches, group_B = world
    number_BT = torch.arange(1.0, trunks.token_BT.numel() + 1).reshape(trunks.token_BT.shape)
    logp_BT = -number_BT * trunks.written_BT
    sent = replace(trunks, logp_behaviour_BT=logp_BT)
    group = group_B if shared else None
    for packed in (
        pack(sent, branches, max_tokens=max_tokens, group_B=group),
        separate(sent, branches),
    ):
        assert_close(packed.factual(packed.batch.logp_behaviour_BT), logp_BT)
        assert all(not sum_N.any() for sum_N in packed.of_branches(packed.batch.logp_behaviour_BT))


@settings(deadline=None, max_examples=50)
@given(world=worlds(), max_tokens=budgets)
def test_a_packed_batch_splits_like_any_other(world: World, max_tokens: int) -> None:
    trunks, branches, group_B = world
    packed = pack(trunks, branches, max_tokens=max_tokens, group_B=group_B)
    whole_RS, parts_RS = scores(packed.batch), torch.zeros(packed.batch.token_BT.shape).double()
    for rows in microbatches(packed.batch.length_B, max_rows=2, max_tokens=30):
        value_RS = scores(packed.batch.rows(rows))
        parts_RS[rows, : value_RS.shape[1]] = value_RS
    assert_close(parts_RS, whole_RS)


@settings(deadline=None, max_examples=50)
@given(world=worlds(), max_tokens=budgets, shared=booleans())
def test_rows_are_no_longer_than_allowed_unless_one_dialogue_is(
    world: World, max_tokens: int, shared: bool
) -> None:
    trunks, branches, group_B = world
    alone = pack(trunks, branches, max_tokens=1).batch.length_B.tolist()
    packed = pack(trunks, branches, max_tokens=max_tokens, group_B=group_B if shared else None)
    assert all(n <= max_tokens or n in alone for n in packed.batch.length_B.tolist())
    assert len(alone) == len(trunks.length_B)
    assert len(packed.batch.length_B) <= len(alone)
    if not shared:
        assert int(packed.batch.length_B.sum()) == sum(alone)


@settings(deadline=None, max_examples=50)
@given(world=worlds(), max_tokens=budgets)
def test_pairs_are_the_places_before_the_same_token_in_trunk_and_branch(
    world: World, max_tokens: int
) -> None:
    trunks, branches, group_B = world
    expected = []
    for i, branch in enumerate(branches):
        whole = context(trunks, branches, i)
        before = len(whole) - len(branch.token_ids)
        for n, t in zip(range(*branch.scored), range(*(branch.target or (0, 0))), strict=False):
            expected.append((seen(trunks, branch.dialogue, t - 1), whole[: before + n]))
    for packed in (
        pack(trunks, branches, max_tokens=max_tokens, group_B=group_B),
        separate(trunks, branches),
    ):
        here, there = packed.pairs()
        found = [
            tuple(seen(packed.batch, int(row), int(column)) for row, column in pair)
            for pair in zip(zip(*here, strict=True), zip(*there, strict=True), strict=True)
        ]
        assert found == expected


def two_turns() -> tuple[TurnBatch, list[Branch]]:
    # x x | a0 | w0 o0 v0 | a1 | w1 o1 v1 | a2, and nothing in the place of o0 and of o1
    ids = [10, 11, 20, 30, 40, 50, 21, 31, 41, 51, 22, 99]
    turns = [-1, -1, 0, -1, -1, -1, 1, -1, -1, -1, 2, -1]
    trunks = batch_of([(ids, turns)])
    first = Branch(0, 4, (70, 50, 21), (4, 5, 6), (2, 3), "counterfactual", 0, target=(6, 7))
    second = Branch(0, 8, (70, 51, 22), (8, 9, 10), (2, 3), "counterfactual", 1, target=(10, 11))
    return trunks, [first, second]


def test_a_branch_stands_before_what_follows_its_fork() -> None:
    trunks, branches = two_turns()
    batch = pack(trunks, branches, max_tokens=1).batch
    tree = batch.tree
    assert tree is not None
    # x x a0 w0 | ∅ v0 a1 | o0 v0 a1 w1 | ∅ v1 a2 | o1 v1 a2; what follows the last turn is left out
    pieces = [[10, 11, 20, 30], [70, 50, 21], [40, 50, 21, 31], [70, 51, 22], [41, 51, 22]]
    assert batch.token_BT.tolist() == [sum(pieces, [])]
    assert tree.position_BT.tolist() == [[0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 7, 8, 9, 10, 8, 9, 10]]
    assert tree.end_BT.tolist() == [[17] * 4 + [7] * 3 + [17] * 4 + [14] * 3 + [17] * 3]
    assert tree.parent_BT.tolist() == [[-1, 0, 1, 2, 3, 4, 5, 3, 7, 8, 9, 10, 11, 12, 10, 14, 15]]
    assert batch.written_BT[0].nonzero()[:, 0].tolist() == [2, 6, 9, 13, 16]


def test_the_values_of_a_branch_stand_at_its_targets() -> None:
    trunks, branches = two_turns()
    packed = pack(trunks, branches, max_tokens=1)
    logp_RS = torch.arange(17.0)[None]
    assert_close(packed.factual(logp_RS)[0, [2, 6, 10]], torch.tensor([2.0, 9.0, 16.0]))
    counterfactual_BT = packed.counterfactual(logp_RS)
    assert_close(counterfactual_BT[0, [6, 10]], torch.tensor([6.0, 13.0]))
    assert int(counterfactual_BT.isnan().sum()) == trunks.token_BT.numel() - 2
    here, there = packed.pairs()
    assert (here[1].tolist(), there[1].tolist()) == ([8, 15], [5, 12])


def test_a_context_of_its_own_needs_no_tree_unless_positions_have_holes() -> None:
    trunks, branches = two_turns()
    compact = separate(trunks, branches).batch
    assert compact.tree is None
    assert compact.token_BT[1, :7].tolist() == [10, 11, 20, 30, 70, 50, 21]
    assert compact.length_B.tolist() == [11, 7, 11]
    with_hole = replace(branches[0], position_ids=(4, 7, 8))
    tree = separate(trunks, [with_hole]).batch.tree
    assert tree is not None
    assert tree.position_BT[1, :7].tolist() == [0, 1, 2, 3, 4, 7, 8]


def test_dialogues_without_branches_need_no_tree() -> None:
    trunks = two_turns()[0]
    packed = pack(trunks, [], max_tokens=1)
    assert packed.batch.tree is None
    assert_close(packed.batch.token_BT, trunks.token_BT[:, :11])
    assert packed.of_branches(torch.zeros(1, 11)) == []


def test_siblings_stand_on_one_copy_of_their_opening_and_groups_in_one_row() -> None:
    row = ([1, 2, 3, 7, 8], [-1, -1, -1, 0, 0])
    other = ([1, 2, 3, 9], [-1, -1, -1, 0])
    third = ([5, 6, 7], [-1, 0, 0])
    trunks, group_B = batch_of([row, third, other, third]), torch.tensor([4, 0, 4, 0])
    packed = pack(trunks, [], max_tokens=20, group_B=group_B)
    # opening 3 + 2 + 1, and opening 1 + 2 + 2: openings end where the first written token begins
    assert packed.batch.length_B.tolist() == [6 + 5]
    assert_close(packed.factual(scores(packed.batch)), scores(trunks))
    apart = pack(trunks, [], max_tokens=6, group_B=group_B)
    assert sorted(apart.batch.length_B.tolist()) == [5, 6]
    tight = pack(trunks, [], max_tokens=5, group_B=group_B)  # the first group is cut
    assert sorted(tight.batch.length_B.tolist()) == [4, 5, 5]
    assert_close(tight.factual(scores(tight.batch)), scores(trunks))


def test_a_group_that_is_too_long_is_cut_and_each_part_has_the_opening() -> None:
    trunks = batch_of([([1, 2, 3, b, 9], [-1, -1, -1, -1, 0]) for b in range(5)])
    packed = pack(trunks, [], max_tokens=7, group_B=torch.zeros(5))
    assert sorted(packed.batch.length_B.tolist()) == [5, 7, 7]
    assert_close(packed.factual(scores(packed.batch)), scores(trunks))


def test_a_target_may_stand_in_a_shared_opening() -> None:
    trunks = batch_of([([1, 2, 3, b, 9], [-1, -1, -1, -1, 0]) for b in range(2)])
    again = Branch(1, 1, (2, 3), (1, 2), (0, 2), "candidate", 0, target=(1, 3))
    packed = pack(trunks, [again], max_tokens=20, group_B=torch.zeros(2))
    (row_N, column_N), _ = packed.pairs()
    paths = [seen(packed.batch, int(r), int(c)) for r, c in zip(row_N, column_N, strict=True)]
    assert paths == [seen(trunks, 1, 0), seen(trunks, 1, 1)]


def test_without_sharing_a_row_is_the_dialogue_of_its_number() -> None:
    trunks = batch_of([([b] * n, [-1] * (n - 1) + [0]) for b, n in enumerate([2, 5, 3, 4])])
    packed = pack(trunks, [], max_tokens=1)
    assert packed.batch.token_BT[:, 0].tolist() == [0, 1, 2, 3]
    assert packed.batch.length_B.tolist() == [2, 5, 3, 4]


def test_rows_that_share_the_load_are_of_about_equal_length() -> None:
    trunks = batch_of([([1] * 10, [-1] * 9 + [0])] * 10)
    assert pack(trunks, [], max_tokens=69).batch.length_B.tolist() == [50, 50]


def test_answers_are_nested_in_their_question() -> None:
    trunks, _ = two_turns()
    question = Branch(0, 6, (60, 61), (6, 7), (0, 0), "verdict", 1)
    answers = [Branch(0, 6, (i,), (8,), (0, 1), "verdict", 1, parent=0) for i in (80, 81)]
    packed = pack(trunks, [question, *answers], max_tokens=1)
    value_RS = scores(packed.batch)
    before = (*seen(trunks, 0, 5), (60, 6), (61, 7))
    nothing, yes, no = (values.tolist() for values in packed.of_branches(value_RS))
    assert (nothing, yes, no) == ([], [value(before, 80)], [value(before, 81)])
    apart = separate(trunks, [question, *answers])
    assert len(apart.batch.length_B) == 3  # nobody reads the question alone


def test_a_silent_trunk_costs_no_row_of_its_own() -> None:
    trunks, branches = two_turns()
    silent = replace(trunks, turn_of_token_BT=torch.full_like(trunks.turn_of_token_BT, -1))
    asked = [replace(branch, target=None) for branch in branches]
    assert separate(silent, asked).batch.length_B.tolist() == [7, 11]
    packed = pack(silent, asked, max_tokens=1)
    assert packed.batch.num_written == 2
    assert not packed.factual(scores(packed.batch)).any()


def test_gradients_flow_home() -> None:
    trunks, branches = two_turns()
    packed = pack(trunks, branches, max_tokens=1)
    logp_RS = torch.zeros(1, 17, requires_grad=True)
    (packed.factual(logp_RS).sum() + 2 * torch.cat(packed.of_branches(logp_RS)).sum()).backward()
    assert logp_RS.grad is not None
    assert logp_RS.grad[0].tolist() == [0, 0, 1, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0, 2, 0, 0, 1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dialogue": 1}, "dialogue of 0..0"),
        ({"fork": 0}, "fork of 1..12"),
        ({"fork": 13}, "fork of 1..12"),
        ({"token_ids": (), "position_ids": ()}, "as many positions as tokens"),
        ({"position_ids": (4,)}, "as many positions as tokens"),
        ({"scored": (2, 4)}, "scored tokens within 0..3"),
        ({"turn": -1}, "a turn >= 0"),
        ({"target": (6, 8)}, "one target for each scored token"),
        ({"target": (12, 13)}, "target within 1..12"),
        ({"parent": 1}, "an earlier branch as parent"),
    ],
)
def test_a_branch_that_does_not_fit_is_named(change: dict[str, object], reason: str) -> None:
    trunks, branches = two_turns()
    with pytest.raises(TokensError, match=rf"branch 1 .*{reason}"):
        pack(trunks, [branches[0], replace(branches[1], **change)], max_tokens=1)  # type: ignore[arg-type]  # any field


def test_a_nested_branch_forks_where_its_parent_does() -> None:
    trunks, branches = two_turns()
    with pytest.raises(TokensError, match=r"its parent's dialogue and fork \(0, 4\)"):
        separate(trunks, [branches[0], replace(branches[1], parent=0)])


def test_trunks_are_plain_dialogues() -> None:
    trunks, branches = two_turns()
    with pytest.raises(TokensError, match="packed rows or a token written at column 0"):
        pack(pack(trunks, branches, max_tokens=1).batch, [], max_tokens=1)
    with pytest.raises(TokensError, match="column 0"):
        pack(batch_of([([1, 2], [0, 0])]), [], max_tokens=1)
