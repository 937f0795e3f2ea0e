"""Is the reward model's ranking right, and how far may it steer?"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor

from turnwise.credit import Trust, order_accuracy, sign_accuracy

DIALOGUES = st.lists(
    st.tuples(
        st.integers(-3, 3),
        st.integers(0, 4).map(lambda y: y / 4),
        st.integers(-1, 1),
        st.booleans(),
    ),
    max_size=14,
)
Rows = list[tuple[int, float, int, bool]]


def columns(rows: Rows) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    logit_B = tensor([float(z) if valid else math.nan for z, _, _, valid in rows])
    outcome_B = tensor([y if valid else math.nan for _, y, _, valid in rows])
    group_B = tensor([group for _, _, group, _ in rows], dtype=torch.int64)
    return logit_B, outcome_B, group_B, tensor([valid for *_, valid in rows], dtype=torch.bool)


def by_pairs(rows: Rows) -> float | None:
    """The definition, pair by pair."""
    right = total = 0.0
    for i, (z_i, y_i, group_i, valid_i) in enumerate(rows):
        for z_j, y_j, group_j, valid_j in rows[:i]:
            if group_i == group_j and valid_i and valid_j:
                total += abs(y_i - y_j)
                agreement = (z_i - z_j) * (y_i - y_j)
                right += abs(y_i - y_j) * (0.5 if agreement == 0 else float(agreement > 0))
    return right / total if total else None


def test_order_accuracy_by_hand() -> None:
    # Pairs (1, ½) wrong with weight ½, (1, 0) and (½, 0) right with 1 and ½
    logit_B, outcome_B = tensor([2.0, 3.0, -1.0]), tensor([1.0, 0.5, 0.0])
    valid_B = torch.ones(3, dtype=torch.bool)
    assert order_accuracy(logit_B, outcome_B, tensor([8, 8, 8]), valid_B) == 0.75
    assert order_accuracy(0 * logit_B, outcome_B, tensor([8, 8, 8]), valid_B) == 0.5
    assert order_accuracy(logit_B, outcome_B, tensor([1, 2, 3]), valid_B) is None


@settings(deadline=None, max_examples=60)
@given(rows=DIALOGUES)
def test_order_accuracy_is_a_mean_over_pairs_of_siblings(rows: Rows) -> None:
    expected = by_pairs(rows)
    actual = order_accuracy(*columns(rows))
    assert actual == (None if expected is None else pytest.approx(expected))


def test_sign_accuracy_by_hand() -> None:
    # Right, wrong, a tie, skipped, not judged
    logit_B = tensor([2.0, 2.0, 0.0, 5.0, math.nan])
    outcome_B = tensor([1.0, 0.0, 0.75, 0.5, math.nan])
    assert sign_accuracy(logit_B, outcome_B, ~outcome_B.isnan()) == 0.5
    assert sign_accuracy(logit_B[3:], outcome_B[3:], tensor([True, False])) is None


def test_trust_opens_between_chance_and_ten_points_above() -> None:
    assert Trust().gate == 0.0
    assert Trust(0.55).gate == 0.0 and Trust(0.3).gate == 0.0
    assert Trust(0.60).gate == pytest.approx(0.5)
    assert Trust(0.65).gate == pytest.approx(1.0) and Trust(0.9).gate == 1.0


def test_trust_is_a_running_mean_that_starts_at_the_first_value() -> None:
    first = Trust().updated(0.8)
    assert first == Trust(0.8)
    assert first.updated(0.4).accuracy == pytest.approx(0.9 * 0.8 + 0.1 * 0.4)
    assert first.updated(None) == first and Trust().updated(None) == Trust()
