"""The published estimator's defects and refusals."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.advantages import RewardSource, leave_one_out, masked_rloo, whiten_with_shift
from turnwise.errors import GroupError, ShapeError, TokensError

GROUP_B = tensor([4, -1, 4, -1])  # rows of a group are not neighbours
VALID_B = torch.ones(4, dtype=torch.bool)


def batch(seed: int) -> tuple[Tensor, Tensor]:
    """Rewards on all written tokens; the first token is always written."""
    random = torch.Generator().manual_seed(seed)
    written_BT = torch.rand(4, 6, generator=random) < 0.5
    written_BT[:, 0] = True
    return torch.randn(4, 6, dtype=torch.float64, generator=random), written_BT


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31))
def test_the_first_token_has_the_closed_form(seed: int) -> None:
    reward_BT, written_BT = batch(seed)
    suffix_BT = masked_rloo([RewardSource(reward_BT, written_BT)], written_BT, GROUP_B, VALID_B)
    total_B = torch.where(written_BT, reward_BT, 0.0).sum(dim=1)
    count_B = written_BT.sum(dim=1)
    other_B = (total_B / count_B)[[2, 3, 0, 1]]
    assert_close(suffix_BT[:, 0], total_B - count_B * other_B)
    assert not suffix_BT[~written_BT].any()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), order=st.permutations(range(4)))
def test_rows_are_gathered_by_id(seed: int, order: list[int]) -> None:
    reward_BT, written_BT = batch(seed)
    out_BT = masked_rloo([RewardSource(reward_BT, written_BT)], written_BT, GROUP_B, VALID_B)
    source = RewardSource(reward_BT[order], written_BT[order])
    shuffled_BT = masked_rloo([source], written_BT[order], GROUP_B[order], VALID_B)
    assert_close(shuffled_BT, out_BT[order])


def test_a_single_outcome_reward_gives_exact_leave_one_out() -> None:
    outcome_B = tensor([1.0, 0.25, 0.0, 0.5])
    reward_BT = torch.nn.functional.pad(outcome_B.unsqueeze(1), (2, 0))
    is_reward_BT = tensor([[False, False, True]]).expand(4, 3)
    written_BT = torch.ones(4, 3, dtype=torch.bool)
    out_BT = masked_rloo([RewardSource(reward_BT, is_reward_BT)], written_BT, GROUP_B, VALID_B)
    expected_B = leave_one_out(outcome_B, GROUP_B, VALID_B)
    assert_close(out_BT, expected_B.unsqueeze(1).expand(4, 3))


def test_sources_add_up_with_their_coefficients() -> None:
    reward_BT, written_BT = batch(0)
    one = RewardSource(reward_BT, written_BT)
    ends = RewardSource(reward_BT.square(), torch.arange(6).expand(4, 6) == 0, 3.0)
    both_BT = masked_rloo([one, ends], written_BT, GROUP_B, VALID_B)
    parts = [masked_rloo([source], written_BT, GROUP_B, VALID_B) for source in (one, ends)]
    assert_close(both_BT, parts[0] + parts[1])
    assert_close(parts[1][:, 0], 3 * (ends.reward_BT[:, 0] - ends.reward_BT[[2, 3, 0, 1], 0]))


def test_a_group_that_was_not_judged_is_left_out() -> None:
    reward_BT, written_BT = batch(1)
    valid_B = tensor([True, False, True, False])
    reward_BT[~valid_B] = math.nan
    out_BT = masked_rloo([RewardSource(reward_BT, written_BT)], written_BT, GROUP_B, valid_B)
    assert not out_BT[~valid_B].any()
    kept = RewardSource(reward_BT[valid_B], written_BT[valid_B])
    alone_BT = masked_rloo([kept], written_BT[valid_B], GROUP_B[valid_B], VALID_B[valid_B])
    assert_close(out_BT[valid_B], alone_BT)


def test_a_dialogue_without_a_written_token_is_refused_or_ruins_all_as_published() -> None:
    reward_BT, written_BT = batch(2)
    written_BT[2] = False
    sources = [RewardSource(reward_BT, written_BT)]
    with pytest.raises(GroupError, match="dialogue 2: expected a written token"):
        masked_rloo(sources, written_BT, GROUP_B, VALID_B)
    out_BT = masked_rloo(sources, written_BT, GROUP_B, VALID_B, on_empty="propagate")
    assert torch.isfinite(out_BT[[1, 3]]).all()
    assert whiten_with_shift(out_BT, written_BT)[written_BT].isnan().all()


@pytest.mark.parametrize(
    ("group_B", "sizes"), [([0, 0, 0, 1], r"\[1, 3\]"), ([0, 1, 2, 3], r"\[1\]")]
)
def test_groups_of_unequal_size_or_of_one_are_refused(group_B: list[int], sizes: str) -> None:
    reward_BT, written_BT = batch(3)
    with pytest.raises(GroupError, match=sizes):
        masked_rloo([RewardSource(reward_BT, written_BT)], written_BT, tensor(group_B), VALID_B)


def test_a_reward_where_nothing_was_written_is_refused() -> None:
    written_BT = tensor([[True, True], [True, False]])
    source = RewardSource(tensor([[1.0, 2.0], [3.0, 4.0]]), torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(TokensError, match=r"dialogue 1, position 1: .* found 4.0"):
        masked_rloo([source], written_BT, tensor([0, 0]), VALID_B[:2])


def test_arrays_of_different_shapes_are_refused() -> None:
    reward_BT, written_BT = batch(4)
    with pytest.raises(ShapeError, match="is_reward_BT"):
        masked_rloo([RewardSource(reward_BT, written_BT[:, 1:])], written_BT, GROUP_B, VALID_B)
