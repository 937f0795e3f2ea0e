"""Returns over tokens, the task's exact credit, and the published code's view of turns."""

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from turnwise.credit import (
    oracle_turn_rewards,
    token_returns,
    turns_from_mask_runs,
    without_last_token,
)
from turnwise.errors import ShapeError


def test_token_returns_by_hand() -> None:
    reward_BT = tensor([[float("nan"), 1.0, 99.0, 2.0, -0.5, float("nan")]])
    return_BT = token_returns(reward_BT, tensor([[-1, 0, -1, 1, 1, -1]]))
    assert_close(return_BT, tensor([[0.0, 2.5, 0.0, 1.5, -0.5, 0.0]]))


def test_oracle_credits_become_an_array() -> None:
    is_turn_BK = tensor([[True, False, True], [True, False, False], [False, False, False]])
    reward_BK = oracle_turn_rewards([[0.25, 0.5, -0.25], [1.0], []], is_turn_BK)
    assert reward_BK.tolist() == [[0.25, 0.0, -0.25], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("credits", "message"),
    [
        ([[0.5]], "expected 2 lists of oracle credits, got 1"),
        ([[0.5, 0.1], []], "dialogue 1: expected 1 to 2 oracle credits.*got 0"),
        ([[0.5, 0.1, 0.2], [0.1]], "dialogue 0: expected 2 to 2 oracle credits.*got 3"),
    ],
)
def test_oracle_credits_for_other_turns_are_refused(
    credits: list[list[float]], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        oracle_turn_rewards(credits, tensor([[True, True], [True, False]]))


def test_runs_of_a_mask_join_touching_turns_and_cut_split_ones() -> None:
    recorded_BT = tensor([[-1, 0, 0, 1, -1, 2, -1, 2], [0, -1, -1, 1, 1, -1, -1, -1]])
    rebuilt_BT = turns_from_mask_runs(recorded_BT >= 0)
    expected = [[-1, 0, 0, 0, -1, 1, -1, 2], [0, -1, -1, 1, 1, -1, -1, -1]]
    assert rebuilt_BT.tolist() == expected


def test_only_a_dialogue_that_fills_its_row_loses_its_last_reward() -> None:
    reward_BT = torch.ones(3, 4)
    out_BT = without_last_token(reward_BT, tensor([4, 3, 2]), budget=4)
    assert out_BT.tolist() == [[1.0, 1.0, 1.0, 0.0], [1.0] * 4, [1.0] * 4]
    assert_close(without_last_token(reward_BT, tensor([4, 3, 2]), budget=9), reward_BT)
    with pytest.raises(ShapeError):
        without_last_token(reward_BT, tensor([4]), budget=4)
