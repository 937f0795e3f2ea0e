import numpy as np
import pytest
from scipy.special import expit

from turnwise.errors import ShapeError
from turnwise.qvalues.calibration import (
    LinearMap,
    fit_linear_map,
    isotonic_curve,
    log_odds,
    mapped,
    reliability,
    split_maps,
)


def test_the_map_of_two_scores_hits_both_rates_exactly() -> None:
    # Scores 0 (outcomes 0, 1: rate 1/2, log-odds 0) and 1 (0, 1, 1, 1: rate 3/4, log-odds ln 3):
    # b = 0, a + b = ln 3.
    score_N = np.array([0.0, 0, 1, 1, 1, 1])
    found = fit_linear_map(score_N, np.array([0.0, 1, 0, 1, 1, 1]), loss="log")
    assert found.a == pytest.approx(np.log(3), abs=1e-4)
    assert found.b == pytest.approx(0.0, abs=1e-4)


def test_the_map_of_values_is_least_squares() -> None:
    # Line through the group means (0, 1/2) and (1, 3/4).
    found = fit_linear_map(
        np.array([0.0, 0, 1, 1, 1, 1]), np.array([0.0, 1, 0, 1, 1, 1]), loss="square"
    )
    assert (found.a, found.b) == pytest.approx((0.25, 0.5), abs=1e-4)


@pytest.mark.parametrize(("a", "b"), [(0.3, -2.0), (1.0, 0.0), (-0.7, 0.5)])
def test_the_map_finds_what_distorted_the_scores(a: float, b: float) -> None:
    random = np.random.default_rng(0)
    score_N = random.normal(size=50_000)
    target_N = (random.uniform(size=50_000) < expit(a * score_N + b)).astype(float)
    found = fit_linear_map(score_N, target_N, loss="log")
    assert (found.a, found.b) == pytest.approx((a, b), abs=0.05)


def test_the_map_balances_predictions_and_soft_targets() -> None:
    random = np.random.default_rng(1)
    score_N, target_N = random.normal(size=400), random.uniform(size=400)
    one = fit_linear_map(score_N, target_N, loss="log")
    assert expit(one.a * score_N + one.b).mean() == pytest.approx(target_N.mean(), abs=1e-5)


def test_the_map_stays_finite_where_scores_separate_or_all_targets_agree() -> None:
    score_N = np.array([-1.0, -0.5, 0.5, 1.0])
    separated = fit_linear_map(score_N, (score_N > 0).astype(float), loss="log")
    assert 1 < separated.a < 1e3
    equal = fit_linear_map(score_N, np.zeros(4), loss="log")
    assert -50 < equal.b < -5


def test_a_map_needs_a_target_for_every_score() -> None:
    with pytest.raises(ShapeError, match="target for each"):
        fit_linear_map(np.zeros(3), np.zeros(2), loss="log")
    with pytest.raises(ShapeError, match="1 or more"):
        fit_linear_map(np.zeros(0), np.zeros(0), loss="log")


def test_a_split_is_mapped_by_what_other_customers_showed() -> None:
    random = np.random.default_rng(2)
    customer_N = np.repeat([f"c{i}" for i in range(50)], 4)
    score_N = random.normal(size=200)
    target_N = (random.uniform(size=200) < expit(score_N)).astype(float)
    split_N, maps = split_maps(score_N, target_N, customer_N, loss="log")
    for split in range(5):
        others_N = split_N != split
        expected = fit_linear_map(score_N[others_N], target_N[others_N], loss="log")
        assert maps[split] == expected
    assert all(len(set(split_N[customer_N == one])) == 1 for one in customer_N)
    moved_N = mapped(expit(score_N), split_N, maps, loss="log")
    n = 17
    of_n = maps[split_N[n]]
    assert log_odds(moved_N)[n] == pytest.approx(of_n.a * score_N[n] + of_n.b)


def test_a_lone_customer_is_not_calibrated_on_himself() -> None:
    split_N, maps = split_maps(np.zeros(4), np.ones(4), np.array(["only"] * 4), loss="log")
    assert maps[split_N[0]] == LinearMap(1.0, 0.0)


def test_brier_is_reliability_less_resolution_plus_uncertainty() -> None:
    # Bins of value .2 (targets 0, 0, 0, 1) and .8 (1, 1, 1, 1), all of mean .625:
    # ECE = (|.2 − .25| + |.8 − 1|)/2 = .125; reliability (.0025 + .04)/2 = .02125;
    # resolution .375² = .140625; uncertainty .625·.375 = .234375; Brier (.19 + .04)/2 = .115.
    value_N = np.array([0.2, 0.8] * 4)
    target_N = np.array([0.0, 1, 0, 1, 0, 1, 1, 1])
    found = reliability(value_N, target_N, num_bins=2)
    assert found.predicted_M == pytest.approx((0.2, 0.8))
    assert found.came_true_M == pytest.approx((0.25, 1.0))
    assert found.count_M == (4, 4)
    assert found.ece == pytest.approx(0.125)
    assert found.reliability == pytest.approx(0.02125)
    assert found.resolution == pytest.approx(0.140625)
    assert found.uncertainty == pytest.approx(0.234375)
    assert found.brier == pytest.approx(0.115)
    assert found.brier == pytest.approx(found.reliability - found.resolution + found.uncertainty)


def test_bins_have_equal_mass_and_no_more_than_there_are_steps() -> None:
    value_N = np.linspace(0, 1, 1003) ** 3
    assert {max(c) - min(c) for c in [reliability(value_N, value_N).count_M]} == {1}
    assert reliability(value_N[:3], value_N[:3]).count_M == (1, 1, 1)
    with pytest.raises(ShapeError, match="1 or more values"):
        reliability(np.zeros(0), np.zeros(0))


def test_the_isotonic_curve_pools_what_falls() -> None:
    # 0, then 1 before 0 (pooled to 1/2), then 1.
    curve = isotonic_curve(np.array([0.4, 0.1, 0.2, 0.3]), np.array([1.0, 0, 1, 0]))
    assert curve == [(0.1, 0.0), (0.2, 0.5), (0.3, 0.5), (0.4, 1.0)]
    # Equal values count together: 0, 1, 1 at .2 are 2/3.
    ((x, y),) = isotonic_curve(np.full(3, 0.2), np.array([0.0, 1, 1]))
    assert (x, y) == pytest.approx((0.2, 2 / 3))
