"""Two scorings of the same things: rank correlations, stability, best and worst turns."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor

from turnwise.credit import (
    best_turn_agreement,
    credit_agreement,
    kendall_tau_b,
    rank_stability,
    spearman,
)
from turnwise.errors import ShapeError

NAN = math.nan


def test_rank_correlations_by_hand() -> None:
    # ranks of y: 1, 3, 2, 4 -> Σd² = 2, ρ = 1 − 6·2/(4·15) = 0.8; 5 of 6 pairs agree: τ = 4/6
    assert spearman([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(0.8)
    assert kendall_tau_b([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(4 / 6)
    # one tie in y: 5 agreeing pairs of 6, τ-b = 5 / √(6·5)
    assert kendall_tau_b([1, 2, 3, 4], [1, 2, 2, 3]) == pytest.approx(5 / math.sqrt(30))


def test_pairs_that_were_not_judged_do_not_count() -> None:
    assert spearman([1, 2, None, 3], [1, 2, 9, math.nan]) == pytest.approx(1.0)


@pytest.mark.parametrize("correlation", [spearman, kendall_tau_b])
def test_a_constant_orders_nothing(correlation: Callable[..., float]) -> None:
    assert math.isnan(correlation([1, 1, 1], [1, 2, 3]))
    assert math.isnan(correlation([1, 2, 3], [0.1, 0.1, 0.1]))
    assert math.isnan(correlation([1], [2]))


def test_two_scorings_have_one_length() -> None:
    with pytest.raises(ShapeError, match="got 3 and 2 numbers"):
        spearman([1, 2, 3], [1, 2])


def test_stability_by_hand() -> None:
    before_BN = tensor([[1.0, 2, 3, NAN], [1, 2, 9, 9], [5, 9, 9, 9], [1, 1, 1, 9], [4, 3, 2, 1]])
    after_BN = tensor([[10.0, 20, 30, NAN], [2, 1, 9, 9], [5, 9, 9, 9], [1, 2, 3, 9], [1, 3, 2, 4]])
    length_B1 = tensor([[3], [2], [1], [3], [4]])
    found = rank_stability(before_BN, after_BN, torch.arange(4) < length_B1)
    # 1 and −1; one item; a constant; ranks 4321 against 1324: Σd² = 9+0+0+9, ρ = 1 − 6·18/60 = −.8
    assert found == pytest.approx((1 - 1 - 0.8) / 3)


def test_without_a_dialogue_that_orders_something_stability_is_unknown() -> None:
    one_BN = torch.ones(2, 3)
    assert math.isnan(rank_stability(one_BN, one_BN, one_BN.bool()))


def test_best_and_worst_turns_by_hand() -> None:
    score_BK = tensor([[0.1, 0.9, 0.5], [3.0, 1.0, NAN], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    truth_BK = tensor([[0.0, 0.4, -0.1], [0.0, 1.0, NAN], [0.2, 0.2, 0.2], [0.0, 0.0, 1.0]])
    is_turn_BK = tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 1, 1]]).bool()
    found = best_turn_agreement(score_BK, truth_BK, is_turn_BK)
    # best: yes, no, (constant), yes; worst: no, no, (constant), turn 0 is one of two worst
    assert found.best == pytest.approx(2 / 3)
    assert found.worst == pytest.approx(1 / 3)
    assert found.best_chance == pytest.approx((1 / 3 + 1 / 2 + 1 / 3) / 3)
    assert found.worst_chance == pytest.approx((1 / 3 + 1 / 2 + 2 / 3) / 3)


def test_a_scoring_without_an_opinion_agrees_at_the_level_of_chance() -> None:
    truth_BK = tensor([[0.0, 1.0, 0.0, 0.0]])
    found = best_turn_agreement(torch.zeros(1, 4), truth_BK, torch.ones(1, 4).bool())
    assert (found.best, found.worst) == (found.best_chance, found.worst_chance) == (0.25, 0.75)


def test_dialogues_of_one_turn_or_without_a_number_say_nothing() -> None:
    score_BK = tensor([[1.0, 9.0], [NAN, 1.0], [1.0, 2.0]])
    truth_BK = tensor([[1.0, 9.0], [1.0, 2.0], [1.0, 1.0 + 1e-7]])
    is_turn_BK = tensor([[True, False], [True, True], [True, True]])
    found = best_turn_agreement(score_BK, truth_BK, is_turn_BK)
    assert math.isnan(found.best) and math.isnan(found.worst_chance)


tables = st.lists(
    st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=3, max_size=3),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, max_examples=50)
@given(table=tables)
def test_an_increasing_function_of_the_scores_changes_nothing(
    table: list[list[tuple[int, int]]],
) -> None:
    both_BK2 = tensor(table, dtype=torch.float64)
    score_BK, truth_BK = both_BK2.unbind(2)
    every_BK = torch.ones_like(score_BK).bool()
    found = best_turn_agreement(score_BK, truth_BK, every_BK)
    again = best_turn_agreement(score_BK.exp(), truth_BK, every_BK)
    assert (again == found) or (math.isnan(found.best) and math.isnan(again.best))
    stable = rank_stability(score_BK, score_BK**3 + score_BK, every_BK)
    assert math.isnan(stable) or stable == pytest.approx(1.0)
    # The worst turn is the best one of the mirrored numbers.
    mirrored = best_turn_agreement(-score_BK, -truth_BK, every_BK)
    assert math.isnan(found.best) or (mirrored.best, mirrored.best_chance) == (
        found.worst,
        found.worst_chance,
    )


def test_agreement_of_credits_by_hand() -> None:
    first_BK = tensor([[0.1, 0.2, 0.3], [0.6, 0.4, NAN], [0.5, 9.0, 9.0], [0.2, 0.2, 0.2]])
    second_BK = tensor([[1.0, 3.0, 2.0], [5.0, 6.0, 7.0], [0.0, 9.0, 9.0], [1.0, 2.0, 3.0]])
    length_B1 = tensor([[3], [3], [1], [3]])
    found = credit_agreement(first_BK, second_BK, torch.arange(3) < length_B1)
    # Σd² = 2: ρ = 1 − 6·2/(3·8) = .5; two turns in reverse order: −1; one turn; a constant
    assert found.within == pytest.approx((0.5 - 1) / 2)
    assert found.num_dialogues == 2
    # ranks of .1 .2 .3 .6 .4 .5 .2 .2 .2: 1 3.5 6 9 7 8 3.5 3.5 3.5
    # ranks of  1  3  2  5  6  0  1  2  3: 2.5 6.5 4.5 8 9 1 2.5 4.5 6.5
    # about their mean 5: Σxy = 17.5, Σx² = 55, Σy² = 58.5
    assert found.overall == pytest.approx(17.5 / math.sqrt(55 * 58.5))


def test_what_rounding_tells_apart_is_equal() -> None:
    thirds_BK = tensor([[1 / 3, 1 - 2 / 3, 1 / 3 + 1e-8]], dtype=torch.float64)
    other_BK = tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    found = credit_agreement(thirds_BK, other_BK, torch.ones(1, 3).bool())
    assert math.isnan(found.within) and math.isnan(found.overall)
    # The unit of a credit changes nothing: nats of 1e-9 are ordered as well as outcomes.
    assert credit_agreement(1e-9 * other_BK, other_BK, torch.ones(1, 3).bool()).within == 1.0


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-9, 9), min_size=6, max_size=6), min_size=1, max_size=5))
def test_agreement_is_symmetric(numbers: list[list[float]]) -> None:
    x_BK = tensor(numbers, dtype=torch.float64)
    first_BK, second_BK, is_turn_BK = x_BK[:, :3], x_BK[:, 3:], torch.ones(len(x_BK), 3).bool()
    there = credit_agreement(first_BK, second_BK, is_turn_BK)
    back = credit_agreement(second_BK, first_BK, is_turn_BK)
    assert (there.within, there.overall) == pytest.approx((back.within, back.overall), nan_ok=True)
