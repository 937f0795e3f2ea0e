"""Information gains as advantages: golden numbers of both readings, laws, degenerate groups."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.advantages import (
    centre_turn_index,
    centre_turns,
    decayed_twice,
    decayed_weight,
    fused,
    gain_moments,
    group_sum,
    groups_without_spread,
    information_share,
    magnitude_cap,
    nonzero_turns,
    raw_or_standardised,
    standardise_tokens_div_len,
    standardise_turns,
    sum_with_last_max,
    variance_gate,
)
from turnwise.errors import ConfigError, EmptyStepError

NAN = math.nan
Centring = Callable[[Tensor, Tensor, Tensor], Tensor]
CENTRINGS: list[Centring] = [
    lambda gain_BK, valid_BK, group_B: standardise_turns(gain_BK, valid_BK, group_B, min_std=1e-3),
    centre_turns,
    centre_turn_index,
]

# A group of three with a last turn each: the worked example of the method page.
GROUP_B = torch.zeros(3, dtype=torch.int64)
OUTCOME_B = tensor([1.0, 0.0, 0.0])
GAIN_BK = tensor([[0.30, 0.10, NAN], [0.20, NAN, NAN], [0.00, NAN, NAN]])
ELIGIBLE_BK = tensor([[True, True, False], [True, False, False], [True, False, False]])
LENGTH_BK = tensor([[20, 40, 10], [25, 10, 0], [50, 15, 0]])
TURN_BT = torch.stack(
    [
        torch.nn.functional.pad(
            torch.repeat_interleave(torch.arange(3), LENGTH_BK[b]),
            (0, 70 - int(LENGTH_BK[b].sum())),
            value=-1,
        )
        for b in range(3)
    ]
)


def by_turn(advantage_BT: Tensor) -> list[list[float]]:
    """The advantage of each turn's first token."""
    return [
        [float(row_T[turn_T == k][0]) for k in range(int(turn_T.max()) + 1)]
        for row_T, turn_T in zip(advantage_BT, TURN_BT, strict=True)
    ]


@pytest.mark.parametrize(
    ("gains", "lengths", "over_turns", "over_tokens"),
    [
        # tokens: .2/20 = .01 twenty times, .001 two hundred times; mean .4/220, std .002593
        ([0.2, 0.2], [20, 200], [0.0, 0.0], [3.1539, -0.3154]),
        # turns: mean .23333, std .11547
        ([0.1, 0.3, 0.3], [60, 60, 240], [-1.1547, 0.5773, 0.5773], [-0.2016, 2.2176, -0.5040]),
        ([0.1, 0.3], [20, 200], [-0.7071, 0.7071], [3.1520, -0.3152]),  # the order is reversed
    ],
)
def test_statistics_over_turns_and_over_tokens_by_hand(
    gains: list[float], lengths: list[int], over_turns: list[float], over_tokens: list[float]
) -> None:
    gain_BK, length_BK = tensor([gains]).T, tensor([lengths]).T  # siblings of one turn each
    group_B, valid_BK = torch.zeros(len(gains), dtype=torch.int64), torch.ones_like(gain_BK).bool()
    turns_BK = standardise_turns(gain_BK, valid_BK, group_B, min_std=1e-3)
    assert turns_BK[:, 0].tolist() == pytest.approx(over_turns, abs=1e-4)
    tokens_BK = standardise_tokens_div_len(gain_BK, valid_BK, length_BK, group_B, min_std=0.0)
    assert tokens_BK[:, 0].tolist() == pytest.approx(over_tokens, abs=1e-4)


def test_a_whole_group_by_default() -> None:
    external_B = raw_or_standardised(OUTCOME_B, GROUP_B)
    assert external_B.tolist() == pytest.approx([1.1547, -0.5773, -0.5773], abs=1e-4)
    gate_B = variance_gate(OUTCOME_B, GROUP_B, temperature=0.5)
    assert gate_B.tolist() == pytest.approx([0.2396] * 3, abs=1e-4)
    info_BK = standardise_turns(GAIN_BK, ELIGIBLE_BK, GROUP_B, min_std=1e-3)
    assert info_BK[0].tolist() == pytest.approx([1.1619, -0.3873, 0], abs=1e-4)
    assert info_BK[1:, 0].tolist() == pytest.approx([0.3873, -1.1619], abs=1e-4)
    advantage_BT = fused(external_B[:, None], info_BK, gate_B, TURN_BT, weight=0.5)
    expected = [[1.2939, 1.1083, 1.1547], [-0.5309, -0.5773], [-0.7166, -0.5773]]
    for found, wanted in zip(by_turn(advantage_BT), expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-4)
    assert not advantage_BT[TURN_BT < 0].any()
    share = information_share(external_B[:, None], info_BK, gate_B, LENGTH_BK, weight=0.5)
    assert share == pytest.approx(0.0843, abs=1e-4)


def test_a_whole_group_as_the_public_code_counts() -> None:
    valid_BK = nonzero_turns(GAIN_BK, ELIGIBLE_BK)
    assert valid_BK.tolist() == [[True, True, False], [True, False, False], [False] * 3]
    info_BK = standardise_tokens_div_len(GAIN_BK, valid_BK, LENGTH_BK, GROUP_B, min_std=0.0)
    assert info_BK[:2, 0].tolist() == pytest.approx([1.5824, 0.1875], abs=1e-4)
    assert info_BK[0, 1].item() == pytest.approx(-0.9084, abs=1e-4)
    external_B = raw_or_standardised(OUTCOME_B, GROUP_B)
    cap = magnitude_cap(external_B, info_BK, LENGTH_BK)
    assert cap.item() == pytest.approx(1.0, abs=1e-6)
    gate_B = variance_gate(OUTCOME_B, GROUP_B, temperature=0.5)
    advantage_BT = fused(external_B[:, None], cap * info_BK, gate_B, TURN_BT, weight=0.5)
    expected = [[1.3443, 1.0459, 1.1547], [-0.5549, -0.5773], [-0.5773, -0.5773]]
    for found, wanted in zip(by_turn(advantage_BT), expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-4)


def test_with_equal_outcomes_the_information_term_alone_trains() -> None:
    external_B = raw_or_standardised(torch.zeros(3), GROUP_B)
    gate_B = variance_gate(torch.zeros(3), GROUP_B, temperature=0.5)
    assert external_B.tolist() == [0.0, 0.0, 0.0]
    assert gate_B.tolist() == [0.5, 0.5, 0.5]
    info_BK = standardise_turns(GAIN_BK, ELIGIBLE_BK, GROUP_B, min_std=1e-3)
    advantage_BT = fused(external_B[:, None], info_BK, gate_B, TURN_BT, weight=0.5)
    expected = [[0.2905, -0.0968, 0], [0.0968, 0], [-0.2905, 0]]
    for found, wanted in zip(by_turn(advantage_BT), expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-4)
    assert information_share(external_B[:, None], info_BK, gate_B, LENGTH_BK, weight=0.5) == 1.0
    external_B1 = external_B[:, None]
    assert information_share(external_B1, 0 * info_BK, gate_B, LENGTH_BK, weight=0.5) is None


def test_equal_outcomes_that_floats_cannot_hold_give_exactly_zero() -> None:
    assert not raw_or_standardised(torch.full((7,), 0.3), torch.zeros(7).long()).any()


@pytest.mark.parametrize(
    ("temperature", "gates"),
    [
        (0.5, [0.5, 0.4750, 0.4502, 0.4013, 0.3543, 0.2902, 0.2506]),
        (0.05, [0.5, 0.2689, 0.1192, 0.0180, 0.00247, 1.30e-4, 1.75e-5]),
    ],
)
def test_the_gate_by_hand(temperature: float, gates: list[float]) -> None:
    # Two siblings at ±s/√2 have the std s. The last two: 1 and 2 of 5 solved.
    pairs = [0.5 + tensor([-s, s]) / math.sqrt(2) for s in (0, 0.05, 0.1, 0.2, 0.3)]
    fives = [(torch.arange(5) < solved).float() for solved in (1, 2)]
    for outcome_B, gate in zip([*pairs, *fives], gates, strict=True):
        found_B = variance_gate(
            outcome_B, torch.zeros_like(outcome_B).long(), temperature=temperature
        )
        # As many digits as the table has: 4 decimals, or 3 digits of what is smaller.
        assert found_B[0].item() == pytest.approx(
            gate, abs=6e-5 if gate > 0.01 else 0, rel=4e-3 if gate < 0.01 else 0
        )


def test_the_cap_by_hand() -> None:
    # Four tokens: ±x has the std x·√(4/3).
    external_B = tensor([-0.8, 0.8]) / math.sqrt(4 / 3)
    info_BK = tensor([[2.5], [-2.5]]) / math.sqrt(4 / 3)
    length_BK = tensor([[2], [2]])
    assert magnitude_cap(external_B, info_BK, length_BK).item() == pytest.approx(0.4, abs=1e-4)
    # 3 and 2.5: the term is the smaller one, nothing to cap
    assert magnitude_cap(external_B * 3 / 0.8, info_BK, length_BK).item() == 1.0


def test_decay_by_hand() -> None:
    assert decayed_weight(0.5, decay=0.1, epoch=3) == pytest.approx(0.3704, abs=1e-4)
    assert decayed_twice(0.5, decay=0.1, epoch=3) == pytest.approx(0.2744, abs=1e-4)
    assert decayed_weight(0.5, decay=0.0, epoch=9) == 0.5


def test_the_published_outcome_overwrites_the_last_reward() -> None:
    reward_BK = tensor([[0.0, 1.0, 0.0], [0.123456, 0.2, 9.0], [-1.0, NAN, NAN], [NAN] * 3])
    is_turn_BK = tensor([[True] * 3, [True, True, False], [True, False, False], [False] * 3])
    # 0 + 1 + max 1; .123456 + max .2, rounded; one turn keeps its own reward; none has none
    assert_close(sum_with_last_max(reward_BK, is_turn_BK), tensor([2.0, 0.3235, -1.0, 0.0]))


def test_moments_of_a_group_and_how_many_say_nothing() -> None:
    gain_BK = tensor([[0.1, 0.3], [0.2, NAN], [0.7, NAN], [0.7, 0.7], [NAN, NAN], [1.0, 1.0005]])
    valid_BK = tensor([[1, 1], [1, 0], [1, 0], [1, 1], [0, 0], [1, 1]]).bool()
    group_B = tensor([4, 4, 5, 6, 7, 8])  # three turns; one; two equal; none; nearly equal
    mean_B, std_B = gain_moments(gain_BK, valid_BK, group_B)
    assert_close(mean_B, tensor([0.2, 0.2, 0.7, 0.7, 0.0, 1.00025]))
    assert_close(std_B, tensor([0.1, 0.1, 0.0, 0.0, 0.0, 3.5355e-4]), atol=1e-6, rtol=0)
    assert groups_without_spread(std_B, group_B, min_std=1e-3) == 4
    assert groups_without_spread(std_B, group_B, min_std=0.0) == 3
    info_BK = standardise_turns(gain_BK, valid_BK, group_B, min_std=1e-3)
    assert info_BK[2:].tolist() == [[0.0, 0.0]] * 4
    assert info_BK[1, 1].item() == 0.0
    assert standardise_turns(gain_BK, valid_BK, group_B, min_std=0.0)[5].abs().min() > 0.5


def test_gains_at_the_same_turn_are_compared_where_two_siblings_have_one() -> None:
    gain_BK = tensor([[0.5, 0.1, 0.4], [0.3, 0.3, NAN], [0.9, NAN, NAN]])
    valid_BK = tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]]).bool()
    group_B = tensor([2, 2, 1])  # the third dialogue has no siblings
    expected_BK = tensor([[0.1, -0.1, 0.4], [-0.1, 0.1, 0.0], [0.9, 0.0, 0.0]])
    assert_close(centre_turn_index(gain_BK, valid_BK, group_B), expected_BK)


gains = st.lists(
    st.tuples(st.integers(0, 2), *[st.one_of(st.none(), st.integers(-8, 8))] * 3),
    min_size=2,
    max_size=8,
)
Rows = list[tuple[int, int | None, int | None, int | None]]


def columns(rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    """Gains in eighths (NaN where not valid), validity, group ids of odd sizes."""
    table = [[NAN if x is None else x / 8 for x in row[1:]] for row in rows]
    gain_BK = tensor(table, dtype=torch.float64)
    return gain_BK, ~gain_BK.isnan(), tensor([row[0] * 10**12 - 7 for row in rows])


@settings(deadline=None, max_examples=60)
@given(rows=gains, shift=st.integers(-80, 80))
def test_a_constant_on_a_groups_gains_changes_nothing_and_groups_sum_to_zero(
    rows: Rows, shift: int
) -> None:
    gain_BK, valid_BK, group_B = columns(rows)
    for centring in CENTRINGS[:2]:
        info_BK = centring(gain_BK, valid_BK, group_B)
        assert_close(centring(gain_BK + shift / 8, valid_BK, group_B), info_BK, atol=1e-9, rtol=0)
        assert not info_BK[~valid_BK].any()
        for group in group_B.unique():
            assert abs(float(info_BK[group_B == group].sum())) < 1e-9


@settings(deadline=None, max_examples=60)
@given(rows=gains, data=st.data())
def test_the_order_of_siblings_and_the_other_groups_do_not_matter(
    rows: Rows, data: st.DataObject
) -> None:
    gain_BK, valid_BK, group_B = columns(rows)
    order_B = tensor(data.draw(st.permutations(range(len(rows)))))
    first_B = group_B == group_B[0]
    for centring in CENTRINGS:
        info_BK = centring(gain_BK, valid_BK, group_B)
        shuffled_BK = centring(gain_BK[order_B], valid_BK[order_B], group_B[order_B])
        assert_close(shuffled_BK, info_BK[order_B], atol=1e-12, rtol=0)
        alone_BK = centring(gain_BK[first_B], valid_BK[first_B], group_B[first_B])
        assert_close(alone_BK, info_BK[first_B], atol=1e-12, rtol=0)


@settings(deadline=None, max_examples=60)
@given(rows=gains, scale=st.floats(0.1, 10))
def test_scaling_gains_acts_through_epsilon_alone(rows: Rows, scale: float) -> None:
    gain_BK, valid_BK, group_B = columns(rows)
    _, std_B = gain_moments(gain_BK, valid_BK, group_B)
    info_BK = standardise_turns(gain_BK, valid_BK, group_B, min_std=0.0)
    scaled_BK = standardise_turns(scale * gain_BK, valid_BK, group_B, min_std=0.0)
    ratio_B = scale * (std_B + 1e-6) / (scale * std_B + 1e-6)
    assert_close(scaled_BK, info_BK * ratio_B.unsqueeze(1), atol=1e-9, rtol=0)


@settings(deadline=None, max_examples=40)
@given(rows=gains, length=st.integers(1, 9))
def test_with_equal_lengths_tokens_weigh_turns_as_turns_do(rows: Rows, length: int) -> None:
    gain_BK, valid_BK, group_B = columns(rows)
    length_BK = torch.full_like(gain_BK, length, dtype=torch.int64)
    over_tokens_BK = standardise_tokens_div_len(gain_BK, valid_BK, length_BK, group_B, min_std=0.0)
    over_turns_BK = standardise_turns(gain_BK, valid_BK, group_B, min_std=0.0)
    # n turns of L tokens: σ over tokens is σ over turns, divided by n·L − 1 in place of L·(n − 1).
    n_B = group_sum(valid_BK.sum(dim=1), group_B).clamp(min=2)
    factor_B = ((n_B * length - 1) / (length * (n_B - 1))).sqrt()
    expected_BK = over_turns_BK * factor_B.unsqueeze(1)
    assert_close(over_tokens_BK, expected_BK, atol=1e-9, rtol=1e-3)


@settings(deadline=None, max_examples=40)
@given(rows=gains, data=st.data())
def test_turns_that_are_not_valid_get_the_external_advantage_alone(
    rows: Rows, data: st.DataObject
) -> None:
    gain_BK, valid_BK, group_B = columns(rows)
    values = data.draw(st.lists(st.integers(0, 8), min_size=len(rows), max_size=len(rows)))
    outcome_B = tensor(values, dtype=torch.float64) / 8
    external_B = raw_or_standardised(outcome_B, group_B)
    info_BK = standardise_turns(gain_BK, valid_BK, group_B, min_std=1e-3)
    gate_B = variance_gate(outcome_B, group_B, temperature=0.5)
    turn_BT = torch.arange(3).expand(len(rows), 3)
    advantage_BK = fused(external_B[:, None], info_BK, gate_B, turn_BT, weight=0.5)
    external_BK = external_B.unsqueeze(1).expand_as(advantage_BK)
    assert bool((advantage_BK[~valid_BK] == external_BK[~valid_BK]).all())
    assert bool(((gate_B > 0) & (gate_B <= 0.5)).all())
    # β = 0 is plain group-relative training, bit for bit.
    assert torch.equal(
        fused(external_B[:, None], info_BK, gate_B, turn_BT, weight=0.0), external_BK
    )


def test_a_dialogue_alone_in_its_group_keeps_its_outcome() -> None:
    outcome_B, group_B = tensor([0.7, 0.0, 1.0]), tensor([3, 9, 9])
    half = 0.5 / (math.sqrt(0.5) + 1e-6)
    assert_close(raw_or_standardised(outcome_B, group_B), tensor([0.7, -half, half]))
    assert variance_gate(outcome_B, group_B, temperature=0.5)[0].item() == 0.5


def test_settings_out_of_range_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="gate_temperature"):
        variance_gate(OUTCOME_B, GROUP_B, temperature=0.0)
    with pytest.raises(ConfigError, match="min_info_std"):
        standardise_turns(GAIN_BK, ELIGIBLE_BK, GROUP_B, min_std=-1.0)
    with pytest.raises(ConfigError, match="beta"):
        decayed_weight(-0.5, decay=0.1, epoch=0)
    with pytest.raises(ConfigError, match="decay"):
        decayed_twice(0.5, decay=-0.1, epoch=0)


def test_a_step_without_written_tokens_has_no_cap() -> None:
    with pytest.raises(EmptyStepError, match="two or more written tokens, got 0"):
        magnitude_cap(torch.zeros(2), torch.zeros(2, 1), torch.zeros(2, 1, dtype=torch.int64))
