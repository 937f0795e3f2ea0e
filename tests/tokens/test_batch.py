"""A batch holds what was said, neither more nor less, however it is padded, ordered or split."""

import math
from itertools import pairwise
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import DrawFn, composite, integers, lists, permutations
from torch import Tensor
from torch.testing import assert_close

from tests.tokens.templates import TOKENIZERS
from turnwise.backends import AdapterSpec
from turnwise.backends.fake import FakeBackend
from turnwise.backends.protocol import Tokenizer
from turnwise.conversation import Ending, Message, Outcome, Trajectory, Turn
from turnwise.errors import EmptyStepError, ShapeError, TokensError
from turnwise.tokens import TurnBatch, microbatches, turn_batch

VOCABULARY = 7
SAID = (Message("user", "a"), Message("assistant", "b"))


def trajectory(
    token_ids: tuple[int, ...], spans: list[tuple[int, int]], logp: float = -0.5
) -> Trajectory:
    turns = tuple(Turn(a, b, (logp,) * (b - a), "stop") for a, b in spans)
    return Trajectory("t-1", "g", 0, SAID, token_ids, turns, Outcome(1.0), Ending.TASK_DONE)


@composite
def trajectories(draw: DrawFn) -> Trajectory:
    """1 to 3 turns anywhere after the first token; empty and touching ones too."""
    token_ids = draw(lists(integers(0, VOCABULARY - 1), min_size=3, max_size=12).map(tuple))
    inside = integers(1, len(token_ids))
    edges = sorted(draw(lists(inside, min_size=2, max_size=6).filter(lambda x: len(x) % 2 == 0)))
    return trajectory(token_ids, list(zip(edges[::2], edges[1::2], strict=True)))


steps = lists(trajectories(), min_size=1, max_size=5)


@settings(deadline=None)
@given(played=steps)
def test_a_token_belongs_to_the_turn_that_wrote_it_and_to_no_other(
    played: list[Trajectory],
) -> None:
    batch = turn_batch(played)
    for b, one in enumerate(played):
        owner = [-1] * batch.token_BT.shape[1]
        for k, turn in enumerate(one.turns):
            for t in range(turn.start, turn.stop):
                assert owner[t] == -1  # no token is trained twice
                owner[t] = k
        assert batch.turn_of_token_BT[b].tolist() == owner
        assert batch.token_BT[b, : len(one.token_ids)].tolist() == list(one.token_ids)
    written = sum(turn.stop - turn.start for one in played for turn in one.turns)
    assert batch.num_written == written
    assert batch.length_B.tolist() == [len(one.token_ids) for one in played]


def scores_and_gradient(batch: TurnBatch, weight_B: Tensor) -> tuple[Tensor, Tensor]:
    """logp_BT of a table, and what its table learns from Σ weight_b·logp_bt in one step."""
    learner = FakeBackend(cast(Tokenizer, TOKENIZERS["tiny"]), VOCABULARY).create(
        "policy", AdapterSpec()
    )
    logp_BT = learner.logp(batch)
    learner.forward_backward(batch, lambda logp_BT: (weight_B[:, None] * logp_BT).sum())
    gradient_VV = learner._parameter.grad
    assert gradient_VV is not None
    return logp_BT, gradient_VV


@settings(deadline=None, max_examples=50)
@given(played=steps, pad_id=integers(0, VOCABULARY - 1), extra=integers(0, 3))
def test_padding_changes_neither_scores_nor_gradient(
    played: list[Trajectory], pad_id: int, extra: int
) -> None:
    batch, weight_B = turn_batch(played), torch.arange(1.0, len(played) + 1)
    pad = torch.nn.functional.pad
    wider = TurnBatch(
        pad(turn_batch(played, pad_id=pad_id).token_BT, (0, extra), value=pad_id),
        pad(batch.turn_of_token_BT, (0, extra), value=-1),
        pad(batch.logp_behaviour_BT, (0, extra)),
        batch.length_B,
    )
    logp_BT, gradient_VV = scores_and_gradient(batch, weight_B)
    wider_logp_BT, wider_gradient_VV = scores_and_gradient(wider, weight_B)
    assert_close(wider_logp_BT[:, : logp_BT.shape[1]], logp_BT)
    assert_close(wider_gradient_VV, gradient_VV)


@settings(deadline=None, max_examples=50)
@given(played=steps.flatmap(lambda rows: permutations(list(enumerate(rows)))))
def test_the_order_of_a_batch_changes_neither_scores_nor_gradient(
    played: list[tuple[int, Trajectory]],
) -> None:
    order = torch.tensor([number for number, _ in played])
    shuffled = turn_batch([one for _, one in played])
    sorted_batch = turn_batch([one for _, one in sorted(played, key=lambda pair: pair[0])])
    weight_B = torch.arange(1.0, len(played) + 1)
    logp_BT, gradient_VV = scores_and_gradient(sorted_batch, weight_B)
    shuffled_logp_BT, shuffled_gradient_VV = scores_and_gradient(shuffled, weight_B[order])
    assert_close(shuffled_logp_BT, logp_BT[order])
    assert_close(shuffled_gradient_VV, gradient_VV)


@settings(deadline=None, max_examples=50)
@given(played=steps, numbers=lists(integers(0, 4), max_size=4))
def test_rows_are_what_a_batch_of_those_dialogues_would_be(
    played: list[Trajectory], numbers: list[int]
) -> None:
    index = [number % len(played) for number in numbers]
    rows = turn_batch(played).rows(index)
    assert len(rows.length_B) == len(index)
    if index:
        assert_close(vars(rows), vars(turn_batch([played[i] for i in index])))


def test_an_empty_turn_keeps_its_number() -> None:
    batch = turn_batch([trajectory((1, 2, 3, 4), [(1, 2), (2, 2), (3, 4)])])
    assert batch.turn_of_token_BT.tolist() == [[-1, 0, -1, 2]]
    assert batch.num_turns == 3


def test_nothing_to_batch_is_said() -> None:
    with pytest.raises(EmptyStepError):
        turn_batch([])


def test_a_policy_does_not_speak_first() -> None:
    with pytest.raises(TokensError, match=r"dialogue 1 \(t-1\): turn 0 starts at position 0"):
        turn_batch([trajectory((1, 2), [(1, 2)]), trajectory((1, 2), [(0, 1)])])


@pytest.mark.parametrize("logp", [math.nan, math.inf, -math.inf])
def test_a_log_probability_that_is_no_number_is_found(logp: float) -> None:
    good = trajectory((1, 2, 3), [(1, 3)])
    bad = trajectory((1, 2, 3, 4), [(2, 4)], logp)
    with pytest.raises(TokensError, match=r"dialogue 1 \(t-1\), position 2"):
        turn_batch([good, bad])


def test_fields_of_different_shapes_are_refused() -> None:
    batch = turn_batch([trajectory((1, 2, 3), [(1, 3)])])
    with pytest.raises(ShapeError, match="length_B"):
        TurnBatch(
            batch.token_BT, batch.turn_of_token_BT, batch.logp_behaviour_BT, torch.tensor([3, 3])
        )
    with pytest.raises(ShapeError, match="axes B, T"):
        TurnBatch(
            batch.token_BT[:, :2], batch.turn_of_token_BT, batch.logp_behaviour_BT, batch.length_B
        )


@given(
    lengths=lists(integers(1, 50), min_size=1, max_size=30),
    max_rows=integers(1, 8),
    max_tokens=integers(1, 200),
)
def test_micro_batches_part_the_rows(lengths: list[int], max_rows: int, max_tokens: int) -> None:
    passes = [
        rows.tolist()
        for rows in microbatches(torch.tensor(lengths), max_rows=max_rows, max_tokens=max_tokens)
    ]
    assert sorted(sum(passes, [])) == list(range(len(lengths)))
    for rows in passes:
        assert 1 <= len(rows) <= max_rows
        assert len(rows) == 1 or len(rows) * max(lengths[i] for i in rows) <= max_tokens
    # Similar lengths together: no pass holds a row longer than any of a later pass.
    assert all(
        max(lengths[i] for i in first) <= min(lengths[i] for i in second)
        for first, second in pairwise(passes)
    )
