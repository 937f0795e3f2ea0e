"""The gate on a toy of two replies: a good one is worth .35 more, whatever the customer's mood."""

from dataclasses import replace

import numpy as np
import pytest

from turnwise.errors import ShapeError
from turnwise.qvalues.coverage import ranking_agreement, strange_share
from turnwise.qvalues.gate import Check, Gate, Limits, gate
from turnwise.qvalues.held_out import HeldOut, losses, mean_interval
from turnwise.qvalues.leakage import emoji_count, partial_correlation

TURNS = 3
LIMITS = Limits(num_bootstrap=400)


def toy(customers: int = 300, *, effect: float = 0.35, seed: int = 0) -> HeldOut:
    """One conversation a customer; Q and V are the truth. effect: what the good reply adds."""
    random = np.random.default_rng(seed)
    mood_C, N = random.uniform(0.1, 0.5, size=customers), customers * TURNS
    mood_N, turn_N = np.repeat(mood_C, TURNS), np.tile(np.arange(TURNS), customers)
    good_N, other_N = random.integers(0, 2, size=(2, N))
    q_N = mood_N + effect * good_N
    target_N = (random.uniform(size=N) < q_N).astype(float)
    name_N = np.repeat([f"c{i}" for i in range(customers)], TURNS)
    return HeldOut(
        target_N=target_N,
        q_N=q_N,
        v_N=mood_N + effect / 2,
        turn_mean_N=np.full(N, 0.3 + effect / 2),
        shuffled_N=mood_N + effect * other_N,
        customer_N=name_N,
        conversation_N=name_N,
        fold_N=np.repeat(np.arange(customers) % 2, TURNS),
        turn_N=turn_N,
        slopes=(1.1, 0.9),
        judge_N=mood_N,
        spread_N=random.uniform(0.01, 0.02, size=N),
        sampled_spread_M=random.uniform(0.01, 0.02, size=100),
        residual_N=target_N - q_N,
        groups={"language": np.where(np.arange(N) % 2, "de", "en")},
        style={"length": random.normal(size=N)},
    )


def check(found: Gate, name: str) -> Check:
    return next(one for one in found.checks if one.name == name)


def test_the_gate_opens_for_a_q_that_is_true() -> None:
    found = gate(toy(1000), LIMITS)
    assert found.is_open and found.refusal == ""
    assert [one.name for one in found.checks] == [
        *("G1", "G2", "G3", "G4", "slope", "G5", "G6", "G7", "G8")
    ]
    assert {one.verdict for one in found.checks} == {"passes"}
    assert (found.num_steps, found.num_customers) == (3000, 1000)


def test_the_gate_stays_shut_for_a_q_blind_to_the_reply() -> None:
    held_out = toy(1000)
    blind = replace(held_out, q_N=held_out.v_N, shuffled_N=held_out.v_N)
    found = gate(blind, LIMITS)
    assert not found.is_open
    assert [one.name for one in found.checks if one.verdict == "refuses"] == ["G1", "G2"]
    first = found.refusal.splitlines()[0]
    assert first == (
        "gate G1: expected Q to predict held-out outcomes better than V, found 0.0000 [0.0000, "
        "0.0000] over 1000 customers: Q does not depend on the reply. Collect more conversations "
        "or switch on exploration. Nothing was trained."
    )


def test_the_gate_stays_shut_where_replies_have_no_effect() -> None:
    """Q then differs from V by noise alone. By G1's 95 % interval 1 toy in 40 may open: of 20
    three open with a chance of 1 %."""
    opened = 0
    for seed in range(20):
        held_out = toy(300, effect=0.0, seed=seed)
        noise_N = np.random.default_rng(100 + seed).normal(0, 0.03, size=900)
        opened += gate(replace(held_out, q_N=held_out.q_N + noise_N), LIMITS).is_open
    assert opened <= 2


def test_a_badly_fitted_v_cannot_open_the_gate() -> None:
    held_out = toy(1000)
    blind = replace(held_out, q_N=held_out.turn_mean_N, v_N=np.full(3000, 0.9))
    found = check(gate(blind, LIMITS), "G1")
    assert found.verdict == "refuses" and found.value == pytest.approx(0, abs=1e-12)
    assert set(found.parts) == {"Q", "the V head", "the mean by turn"}


def test_a_true_difference_that_is_not_shown_yet_names_the_customers_it_needs() -> None:
    """A difference of mean .01 with lower end −.01 over C customers needs 4·C of them."""
    held_out = toy(60, effect=0.15, seed=3)
    found = check(gate(held_out, LIMITS), "G1")
    assert found.value > 0 > found.low
    needed = int(np.ceil(60 * ((found.value - found.low) / found.value) ** 2))
    assert f"about {needed} customers would show it" in found.message


def test_a_shuffled_reply_is_left_out_where_there_is_none() -> None:
    held_out = toy(300)
    gaps_N = np.where(np.arange(900) % 3 == 0, np.nan, held_out.shuffled_N)
    found = check(gate(replace(held_out, shuffled_N=gaps_N), LIMITS), "G2")
    kept_N = np.isfinite(gaps_N)
    gain_N = losses(held_out.shuffled_N, held_out.target_N, loss="log") - losses(
        held_out.q_N, held_out.target_N, loss="log"
    )
    assert found.value == pytest.approx(gain_N[kept_N].mean())


def test_a_better_judge_shuts_the_gate_and_a_missing_one_does_not() -> None:
    held_out = toy(1000)
    worse = replace(held_out, q_N=held_out.v_N, judge_N=held_out.q_N)
    found = check(gate(worse, LIMITS), "G3")
    assert found.verdict == "refuses" and "a loss higher by" in found.message
    assert check(gate(replace(held_out, judge_N=None), LIMITS), "G3").verdict == "off"


def test_too_few_customers_shut_the_gate_with_the_numbers() -> None:
    found = gate(toy(40), LIMITS)
    assert not found.is_open
    words = check(found, "G4").message
    assert "at least 30 customers and 20 conversations of the rarer outcome in each fold" in words
    assert "found 20 customers and" in words and "in fold A and 20 customers" in words


def test_one_outcome_alone_shuts_the_gate() -> None:
    held_out = toy(300)
    found = gate(replace(held_out, target_N=np.zeros(900)), LIMITS)
    assert "150 customers and 0 conversations of the rarer outcome" in found.refusal


def test_no_held_out_step_shuts_the_gate() -> None:
    none = toy(0)
    found = gate(none, LIMITS)
    assert not found.is_open and "found 0 customers and 0 conversations" in found.refusal


@pytest.mark.parametrize("slope", [0.0, -0.4])
def test_a_calibration_that_does_not_rise_shuts_the_gate(slope: float) -> None:
    found = gate(replace(toy(1000), slopes=(1.0, slope)), LIMITS)
    assert [one.name for one in found.checks if one.verdict == "refuses"] == ["slope"]
    assert f"a = {slope:.3g}" in found.refusal


def test_values_that_are_off_warn_and_far_off_refuse() -> None:
    held_out = toy(2000)
    warned = gate(replace(held_out, q_N=held_out.q_N + 0.08), LIMITS)
    assert check(warned, "G5").verdict == "warns" and warned.is_open
    assert any(words.startswith("gate G5") for words in warned.warnings)
    refused = check(gate(replace(held_out, q_N=held_out.q_N * 0.2), LIMITS), "G5")
    assert (refused.verdict, refused.kind) == ("refuses", "hard")


def test_one_language_that_is_off_is_named() -> None:
    held_out = toy(2000)
    is_german_N = held_out.groups["language"] == "de"
    shifted_N = held_out.q_N + np.where(is_german_N, 0.07, -0.02)
    found = check(gate(replace(held_out, q_N=shifted_N), LIMITS), "G5")
    assert found.verdict == "warns" and "for language de" in found.message
    assert {"all", "turn 1", "turn 3", "language de", "language en"} <= set(found.parts)


def test_a_residual_at_one_turn_warns_and_keeps_customers_whole() -> None:
    held_out = toy(1000)
    residual_N = np.asarray(held_out.residual_N) + np.where(held_out.turn_N == 1, 0.1, 0.0)
    found = check(gate(replace(held_out, residual_N=residual_N), LIMITS), "G6")
    assert found.verdict == "warns" and "at turn 2" in found.message
    # Two customers with residuals 1, 1, 1 and 0, 0, 0: mean 1/2, sums about it ±1.5, error
    # sqrt((2.25 + 2.25)·2/1)/6 = 1/2; as six independent steps it would be .22.
    residual_N = np.array([1.0, 1, 1, 0, 0, 0])
    two = replace(toy(2), residual_N=residual_N, turn_N=np.zeros(6, np.int64))
    parts = check(gate(two, LIMITS), "G6").parts["turn 1"]
    assert (parts["mean"], parts["error"]) == pytest.approx((0.5, 0.5))


def test_strange_samples_warn_and_heads_that_agree_cannot_tell() -> None:
    held_out = toy(300)
    strange = replace(held_out, sampled_spread_M=np.full(10, 0.5))
    assert check(gate(strange, LIMITS), "G7").verdict == "warns"
    alike = replace(held_out, spread_N=np.zeros(900))
    assert check(gate(alike, LIMITS), "G7").verdict == "off"
    # Of 0 .. 99 the 95th percentile is 94.05.
    assert strange_share(np.arange(100.0), np.array([94.0, 95.0, 96.0, 10.0])) == 0.5


def test_a_q_that_pays_for_length_is_named() -> None:
    held_out = toy(300)
    paid = replace(held_out, style={"length": held_out.q_N - held_out.v_N})
    found = check(gate(paid, LIMITS), "G8")
    assert found.verdict == "warns" and "1.00 with length" in found.message


def test_partial_correlation_takes_the_turn_off() -> None:
    # Within turns x − mean = (−1, 1, −1, 1) and y − mean = (−1, 1, 1, −1): 0, though x and y rise.
    turn_N = np.array([0, 0, 1, 1])
    x_N, y_N = np.array([1.0, 3, 11, 13]), np.array([0.0, 2, 12, 10])
    assert partial_correlation(x_N, y_N, turn_N) == pytest.approx(0)
    assert np.corrcoef(x_N, y_N)[0, 1] > 0.9
    assert np.isnan(partial_correlation(np.array([1.0, 1, 2, 2]), y_N, turn_N))


def test_emoji_are_counted_without_what_joins_them() -> None:
    assert emoji_count("fine \U0001f600\U0001f44d\U0001f3fd ok? 5 €") == 2


def test_replies_to_one_context_are_compared_in_pairs() -> None:
    # Context a: returns 1, 0, 0 and Q .9, .2, .9: one pair right, one tied. b: one pair, wrong.
    share, pairs = ranking_agreement(
        np.array([0.9, 0.2, 0.9, 0.1, 0.6, 0.5]), np.array([1.0, 0, 0, 1, 0, 1]), list("aaabbc")
    )
    assert (share, pairs) == (0.5, 3)
    assert np.isnan(ranking_agreement(np.zeros(2), np.zeros(2), list("ab"))[0])


def test_a_context_of_many_replies_is_compared_in_bounded_memory() -> None:
    target_N = np.arange(100_000) % 7 / 6  # all pairs at once would take 80 GB
    share, pairs = ranking_agreement(target_N, target_N, ["a"] * len(target_N))
    assert share == 1.0
    assert 100_000 < pairs < 1000**2 / 2


def test_losses_by_hand() -> None:
    # −.25 ln .8 − .75 ln .2; (.8 − .25)².
    value_N, target_N = np.array([0.8]), np.array([0.25])
    assert losses(value_N, target_N, loss="log")[0] == pytest.approx(1.2628643)
    assert losses(value_N, target_N, loss="square")[0] == pytest.approx(0.3025)
    assert np.isfinite(losses(np.array([0.0, 1.0]), np.array([1.0, 0.0]), loss="log")).all()


def test_the_interval_resamples_customers_and_is_the_same_every_time() -> None:
    """Ten steps of one customer say as much as one: the interval is that of the customers."""
    x_C, name_C = np.random.default_rng(0).normal(size=80), np.array([f"c{i}" for i in range(80)])
    alone = mean_interval(x_C, name_C, num_samples=2000, seed=0)
    tenfold = mean_interval(np.repeat(x_C, 10), np.repeat(name_C, 10), num_samples=2000, seed=0)
    assert tenfold == pytest.approx(alone)
    assert alone[0] - alone[1] == pytest.approx(1.96 * x_C.std() / 80**0.5, rel=0.1)
    assert np.isnan(mean_interval(x_C, np.array(["one"] * 80), num_samples=9, seed=0)[1])
    assert np.isnan(mean_interval(np.full(80, np.nan), name_C, num_samples=9, seed=0)[0])


def test_arrays_of_different_length_are_refused() -> None:
    with pytest.raises(ShapeError, match="axis N"):
        replace(toy(10), style={"length": np.zeros(3)})
