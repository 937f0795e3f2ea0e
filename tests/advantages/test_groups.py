"""Siblings are found by id, compared fairly, and alone they are left alone."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.advantages import (
    group_standardise,
    group_std,
    has_siblings,
    leave_one_out,
    mean_of_others,
    num_siblings,
    over_group_std,
)
from turnwise.errors import ConfigError

NAN = math.nan
DIALOGUES = st.lists(
    st.tuples(st.floats(0, 1), st.integers(-2, 2), st.booleans()), min_size=1, max_size=12
)
Statistic = Callable[[Tensor, Tensor, Tensor], Tensor]
STATISTICS: list[Statistic] = [leave_one_out, mean_of_others, group_standardise, group_std]


def columns(rows: list[tuple[float, int, bool]]) -> tuple[Tensor, Tensor, Tensor]:
    """Outcomes (NaN where not valid), group ids of odd sizes, validity."""
    x_B = tensor([x if valid else NAN for x, _, valid in rows], dtype=torch.float64)
    return x_B, tensor([group * 10**12 for _, group, _ in rows]), tensor([v for *_, v in rows])


def test_leave_one_out_by_hand() -> None:
    # Siblings 1, 2, 6: others' means 4, 3.5, 1.5. The group with one valid sibling gets 0.
    x_B = tensor([1.0, 5.0, 2.0, NAN, 6.0])
    group_B = tensor([3, -8, 3, -8, 3])
    valid_B = tensor([True, True, True, False, True])
    assert_close(leave_one_out(x_B, group_B, valid_B), tensor([-3.0, 0.0, -1.5, 0.0, 4.5]))
    assert_close(mean_of_others(x_B, group_B, valid_B), tensor([4.0, 0.0, 3.5, 0.0, 1.5]))
    assert num_siblings(group_B, valid_B).tolist() == [3, 1, 3, 1, 3]
    assert has_siblings(group_B, valid_B).tolist() == [True, False, True, False, True]


def test_group_standardise_by_hand() -> None:
    # 0, 1: mean .5, std √.5; then a constant group and a group of one
    x_B = tensor([0.0, 1.0, 0.3, 0.3, 0.7])
    group_B = tensor([0, 0, 1, 1, 2])
    valid_B = torch.ones(5, dtype=torch.bool)
    half = 0.5 / math.sqrt(0.5)
    expected_B = tensor([-half, half, 0.0, 0.0, 0.0])
    assert_close(group_standardise(x_B, group_B, valid_B), expected_B)
    assert_close(group_std(x_B, group_B, valid_B)[:2], torch.full((2,), math.sqrt(0.5)))


def test_a_std_below_the_floor_gives_exactly_zero() -> None:
    group_B, valid_B = torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.bool)
    x_B = tensor([0.5, 0.5001], dtype=torch.float64)  # std 7e-5
    assert group_standardise(x_B, group_B, valid_B).tolist() == [0.0, 0.0]
    above_B = group_standardise(x_B, group_B, valid_B, floor=1e-5)
    assert_close(above_B, tensor([-1.0, 1.0], dtype=torch.float64) / math.sqrt(2))
    equal_B = tensor([0.1, 0.1])
    assert group_standardise(equal_B, group_B, valid_B, floor=0.0).tolist() == [0.0, 0.0]


def test_a_penalty_is_divided_by_the_outcomes_std() -> None:
    group_B, valid_B = tensor([0, 0, 1, 1]), torch.ones(4, dtype=torch.bool)
    centred_B = tensor([-0.03, 0.03, -0.03, 0.03])
    outcome_B = tensor([0.0, 1.0, 1.0, 1.0])
    expected_B = tensor([-0.03, 0.03, 0.0, 0.0]) * math.sqrt(2)
    assert_close(over_group_std(centred_B, outcome_B, group_B, valid_B), expected_B)


@pytest.mark.parametrize("statistic", STATISTICS)
@settings(deadline=None, max_examples=40)
@given(rows=DIALOGUES, data=st.data())
def test_order_of_rows_and_ids_of_groups_do_not_matter(
    statistic: Statistic, rows: list[tuple[float, int, bool]], data: st.DataObject
) -> None:
    x_B, group_B, valid_B = columns(rows)
    order_B = tensor(data.draw(st.permutations(range(len(rows)))))
    there_B = statistic(x_B, group_B, valid_B)[order_B]
    shuffled_B = statistic(x_B[order_B], -7 * group_B[order_B], valid_B[order_B])
    assert_close(shuffled_B, there_B, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("statistic", STATISTICS)
@settings(deadline=None, max_examples=40)
@given(rows=DIALOGUES)
def test_invalid_rows_get_zero_and_leave_the_others_alone(
    statistic: Statistic, rows: list[tuple[float, int, bool]]
) -> None:
    x_B, group_B, valid_B = columns(rows)
    out_B = statistic(x_B, group_B, valid_B)
    assert not out_B[~valid_B].any()
    kept_B = statistic(x_B[valid_B], group_B[valid_B], valid_B[valid_B])
    assert_close(out_B[valid_B], kept_B, atol=1e-12, rtol=0)


@settings(deadline=None, max_examples=60)
@given(rows=DIALOGUES, shift=st.floats(-10, 10), scale=st.floats(0.1, 10))
def test_leave_one_out_ignores_shift_follows_scale_and_sums_to_zero(
    rows: list[tuple[float, int, bool]], shift: float, scale: float
) -> None:
    x_B, group_B, valid_B = columns(rows)
    out_B = leave_one_out(x_B, group_B, valid_B)
    assert_close(
        leave_one_out(scale * x_B + shift, group_B, valid_B), scale * out_B, atol=1e-9, rtol=0
    )
    for group in group_B.unique():
        assert abs(float(out_B[group_B == group].sum())) < 1e-9


@settings(deadline=None, max_examples=60)
@given(value=st.floats(0, 1), size=st.integers(1, 9), is_double=st.booleans())
def test_equal_siblings_get_exactly_zero(value: float, size: int, is_double: bool) -> None:
    dtype = torch.float64 if is_double else torch.float32
    x_B = torch.full((size,), value, dtype=dtype)
    group_B, valid_B = torch.full((size,), 5), torch.ones(size, dtype=torch.bool)
    assert not leave_one_out(x_B, group_B, valid_B).any()
    assert not group_standardise(x_B, group_B, valid_B).any()
    assert leave_one_out(x_B, group_B, valid_B).dtype == dtype


@settings(deadline=None, max_examples=60)
@given(rows=DIALOGUES, shift=st.floats(-1, 1), scale=st.floats(1, 10))
def test_standardising_ignores_shift_and_scale(
    rows: list[tuple[float, int, bool]], shift: float, scale: float
) -> None:
    x_B, group_B, valid_B = columns(rows)
    x_B = (8 * x_B).round() / 8  # far from the floor, or exactly equal
    there_B = group_standardise(x_B, group_B, valid_B)
    again_B = group_standardise(scale * x_B + shift, group_B, valid_B)
    assert_close(again_B, there_B, atol=1e-9, rtol=0)


def test_no_dialogue_gives_no_advantage() -> None:
    none_B, group_B = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    assert leave_one_out(none_B, group_B, group_B.bool()).shape == (0,)


def test_a_negative_floor_is_refused() -> None:
    one_B = torch.ones(2)
    with pytest.raises(ConfigError, match="floor"):
        group_standardise(one_B, one_B.long(), one_B.bool(), floor=-1.0)
