"""Intervals cover what they should, and nothing that was not judged counts as a zero."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.errors import GroupError, ShapeError
from turnwise.evaluation.statistics import (
    Interval,
    clustered_bootstrap_mean,
    paired_difference,
    paired_scores,
    pass_at_k,
    pass_hat_k,
)

scores = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5)), min_size=1, max_size=20)


def test_mean_and_interval_by_hand() -> None:
    # Two clusters with means 0 and 1: a sample draws (0,0), (0,1), (1,0) or (1,1), means 0, ½, 1
    # with chances ¼, ½, ¼, so both tails of 2.5 % lie on the ends.
    found = clustered_bootstrap_mean([0, 0, 1, 1], ["a", "a", "b", "b"], seed=0)
    assert found == Interval(mean=0.5, low=0.0, high=1.0, num_clusters=2, not_judged=0)


def test_a_dialogue_that_was_not_judged_is_left_out_and_counted() -> None:
    found = clustered_bootstrap_mean([1, None, math.nan, 1, 0.4], ["a", "a", "b", "c", "c"], seed=0)
    assert found.mean == pytest.approx(0.8)  # (1 + 1 + 0.4) / 3
    assert (found.num_clusters, found.not_judged) == (2, 2)


def test_one_scenario_says_nothing_about_others() -> None:
    found = clustered_bootstrap_mean([0.0, 1.0], ["a", "a"], seed=0)
    assert found.mean == 0.5
    assert math.isnan(found.low) and math.isnan(found.high)


def test_without_a_judged_dialogue_there_is_no_mean() -> None:
    found = clustered_bootstrap_mean([None, None], ["a", "b"], seed=0)
    assert math.isnan(found.mean)
    assert (found.num_clusters, found.not_judged) == (0, 2)


def test_every_score_has_a_scenario() -> None:
    with pytest.raises(ShapeError, match="2 dialogues, got 3"):
        clustered_bootstrap_mean([1, 0, 1], ["a", "b"], seed=0)


@given(table=scores, seed=st.integers(0, 9))
@settings(deadline=None)
def test_the_interval_holds_the_mean_and_lies_in_the_range(
    table: list[tuple[float, int]], seed: int
) -> None:
    score_N, cluster_N = [s for s, _ in table], [c for _, c in table]
    found = clustered_bootstrap_mean(score_N, cluster_N, num_samples=200, seed=seed)
    assert found.mean == pytest.approx(float(np.mean(score_N)))
    if found.num_clusters > 1:
        assert min(score_N) - 1e-9 <= found.low <= found.high <= max(score_N) + 1e-9
    assert found == clustered_bootstrap_mean(score_N, cluster_N, num_samples=200, seed=seed) or (
        found.num_clusters < 2
    )


def test_copies_of_a_dialogue_add_no_certainty() -> None:
    rng = np.random.default_rng(0)
    score_N = rng.random(30)
    once = clustered_bootstrap_mean(score_N, range(30), seed=1)
    copied = clustered_bootstrap_mean(
        np.repeat(score_N, 8), np.repeat(range(30), 8).tolist(), seed=1
    )
    assert copied.high - copied.low == pytest.approx(once.high - once.low)


def test_the_interval_covers_the_truth_about_95_times_in_100() -> None:
    # 300 experiments of 60 scenarios with 4 dialogues each, scenario effects uniform, truth 0.5.
    # Percentile intervals of 60 clusters cover about 94 %; 300 fair draws at 94 % fall outside
    # 90..98 % with a chance below 0.5 %, and the seed is fixed.
    rng = np.random.default_rng(3)
    covered = 0
    for experiment in range(300):
        chance_C = rng.random(60)
        success_N = (rng.random((60, 4)) < chance_C[:, None]).astype(float).ravel()
        found = clustered_bootstrap_mean(
            success_N, np.repeat(range(60), 4).tolist(), num_samples=400, seed=experiment
        )
        covered += found.low <= 0.5 <= found.high
    assert 270 <= covered <= 294


def test_pairing_by_hand() -> None:
    # Differences 0.2, 0.2 and 0.2 whatever the level: no width. The third pair is incomplete.
    found = paired_difference(
        [0.1, 0.5, None, 0.7], [0.3, 0.7, 1.0, 0.9], ["a", "b", "c", "d"], seed=0
    )
    assert found.mean == pytest.approx(0.2)
    assert found.low == pytest.approx(0.2)
    assert found.high == pytest.approx(0.2)
    assert (found.num_clusters, found.not_judged) == (3, 1)


@given(table=scores)
@settings(deadline=None)
def test_swapping_before_and_after_turns_the_sign(table: list[tuple[float, int]]) -> None:
    before_N, cluster_N = [s for s, _ in table], [c for _, c in table]
    after_N = list(reversed(before_N))
    there = paired_difference(before_N, after_N, cluster_N, num_samples=50, seed=0)
    back = paired_difference(after_N, before_N, cluster_N, num_samples=50, seed=0)
    assert there.mean == pytest.approx(-back.mean)


def test_pairs_are_found_by_scenario_and_sample() -> None:
    before = {("a", 0): 0.0, ("a", 1): None, ("b", 0): 0.5}
    after = {("b", 0): 0.6, ("a", 1): 1.0, ("a", 0): 0.1}
    assert paired_scores(before, after) == ([0.0, None, 0.5], [0.1, 1.0, 0.6], ["a", "a", "b"])
    with pytest.raises(GroupError, match=r"1 were played in only one.*\('a', 1\)"):
        paired_scores(before, {("a", 0): 0.1, ("b", 0): 0.6})


def test_pass_rates_by_hand() -> None:
    # a: 2 of 3 succeed -> all of 2: C(2,2)/C(3,2) = 1/3, any of 2: 1 - C(1,2)/C(3,2) = 1
    # b: 1 of 2         -> all of 2: 0,                  any of 2: 1 - C(1,2)/C(2,2) = 1
    # c: 0 of 2         -> 0 and 0;  d: one judged dialogue, left out
    success_N, cluster_N = [1, 1, 0, 1, 0, 0, 0, 1, None], list("aaabbccdd")
    every = pass_hat_k(success_N, cluster_N, k=2)
    some = pass_at_k(success_N, cluster_N, k=2)
    assert every.rate == pytest.approx(1 / 9)
    assert some.rate == pytest.approx(2 / 3)
    assert (every.num_scenarios, every.left_out) == (some.num_scenarios, some.left_out) == (3, 1)


@given(success=st.lists(st.booleans(), min_size=3, max_size=6), k=st.integers(1, 3))
@settings(deadline=None)
def test_pass_rates_are_the_mean_over_all_choices_of_k(success: list[bool], k: int) -> None:
    choices = list(itertools.combinations(success, k))
    cluster_N = [0] * len(success)
    assert pass_hat_k(success, cluster_N, k=k).rate == pytest.approx(np.mean([*map(all, choices)]))
    assert pass_at_k(success, cluster_N, k=k).rate == pytest.approx(np.mean([*map(any, choices)]))


def test_pass_rates_of_too_few_dialogues_are_unknown() -> None:
    found = pass_hat_k([1, 1], ["a", "b"], k=2)
    assert math.isnan(found.rate)
    assert found.left_out == 2


@pytest.mark.parametrize(("success", "k"), [([0.5, 1.0], 1), ([0.0, 1.0], 0)])
def test_pass_rates_refuse_scores_and_empty_choices(success: list[float], k: int) -> None:
    with pytest.raises(GroupError, match="successes of 0 or 1"):
        pass_at_k(success, ["a", "a"], k=k)
