"""How many conversations a comparison needs, and what follows when it has them."""

from statistics import NormalDist

import numpy as np
import pytest

from turnwise.errors import ConfigError, GroupError, ShapeError
from turnwise.evaluation import (
    Arm,
    Ruling,
    binary_variances,
    clustered_bootstrap_difference,
    compare,
    design_effect,
    intraclass_correlation,
    ruling,
    sample_size,
)

# Two-sided 5 %, power 80 %.
TABLE = [
    (0.05, 0.055, 31_231),
    (0.10, 0.11, 14_749),
    (0.10, 0.12, 3_839),
    (0.30, 0.32, 8_391),
    (0.50, 0.55, 1_562),
]


@pytest.mark.parametrize(("before", "after", "expected"), TABLE)
def test_the_table_of_sample_sizes_is_exact(before: float, after: float, expected: int) -> None:
    assert sample_size(binary_variances(before, after), after - before) == expected


def test_customers_who_come_again_inflate_the_sample() -> None:
    # 3 conversations of a customer with ICC 0.2: 1 + 2·0.2 = 1.4; ⌈1.4 · 3,839⌉ = ⌈5,374.6⌉
    effect = design_effect(3, 0.2)
    assert effect == pytest.approx(1.4)
    assert sample_size(binary_variances(0.10, 0.12), 0.02, design_effect=effect) == 5_375
    assert design_effect(3, -0.1) == 1.0  # an estimate below 0 is noise, no discount


def test_other_outcomes_use_twice_their_variance_and_pairs_that_of_the_difference() -> None:
    # (1.959964 + 0.841621)² = 7.848880; σ = 2, lift 0.5: 7.848880 · 8 / 0.25 = 251.2
    assert sample_size(2 * 2.0**2, 0.5) == 252
    # pairs with Var(difference) = 0.18, lift 0.05: 7.848880 · 0.18 / 0.0025 = 565.1
    assert sample_size(0.18, 0.05) == 566


def test_the_planned_sample_sees_the_lift_as_often_as_it_was_planned_to() -> None:
    # 2,000 experiments with n = 1,562 per arm at 50 → 55 %: the z-test must see the lift in 80 %.
    # Standard error .009; a false alarm beyond .04 has a chance of 1 in 100,000.
    rng, n = np.random.default_rng(0), 1_562
    a, b = rng.binomial(n, 0.50, 2_000) / n, rng.binomial(n, 0.55, 2_000) / n
    error = np.sqrt((a * (1 - a) + b * (1 - b)) / n)
    seen = (np.abs(b - a) / error > NormalDist().inv_cdf(0.975)).mean()
    assert abs(seen - 0.80) < 0.04


@pytest.mark.parametrize(
    ("variances", "difference", "alpha"), [(0.2, 0.0, 0.05), (-1.0, 0.1, 0.05), (0.2, 0.1, 0.0)]
)
def test_a_plan_for_no_lift_is_refused(variances: float, difference: float, alpha: float) -> None:
    with pytest.raises(ConfigError, match="expected"):
        sample_size(variances, difference, alpha=alpha)


def test_a_lift_beyond_certainty_is_refused() -> None:
    with pytest.raises(ConfigError, match="found 0.99 and 1.09"):
        binary_variances(0.99, 1.09)


def test_the_intraclass_correlation_by_hand() -> None:
    # customers a: 1, 1; b: 0, 0; c: 1, 0.  Mean .5, customer means 1, 0, .5.
    # MSB = 2(.25 + .25 + 0) / 2 = .5;  MSW = (0 + 0 + .5) / 3 = 1/6;  n₀ = 2
    # ICC = (1/2 − 1/6) / (1/2 + 1/6) = .5;  m = 12 / 6 = 2
    icc, per_customer = intraclass_correlation([1, 1, 0, 0, 1, 0], ["a", "a", "b", "b", "c", "c"])
    assert icc == pytest.approx(0.5)
    assert per_customer == 2.0


def test_the_intraclass_correlation_is_found_in_customers_of_uneven_size() -> None:
    # A customer's own mean has variance .25, its conversations 1 around it: ICC .25 / 1.25 = .2.
    # Standard error about .012 with 3,000 customers; beyond .05 is a false alarm in 30,000.
    rng = np.random.default_rng(1)
    customer = np.repeat(np.arange(3_000), rng.integers(1, 8, 3_000))
    value = (0.5 * rng.normal(size=3_000))[customer] + rng.normal(size=len(customer))
    icc, _ = intraclass_correlation(value.tolist(), customer.tolist())
    assert abs(icc - 0.2) < 0.05


def test_customers_who_come_once_have_no_correlation_and_one_customer_is_refused() -> None:
    assert intraclass_correlation([1, 0, 1], ["a", "b", "c"]) == (0.0, 1.0)
    assert intraclass_correlation([1, 1, 1, 1], ["a", "a", "b", "b"])[0] == 0.0
    with pytest.raises(GroupError, match="two or more customers"):
        intraclass_correlation([1, 0], ["a", "a"])


def arm(
    rate: float, n: int = 400, *, claims: float = 0.0, censored: int = 0, name: str = ""
) -> Arm:
    """Conversations of n customers; the shares are exact."""
    score: list[float | None] = [float(i < round(rate * n)) for i in range(n)]
    order = np.random.default_rng(0).permutation(n)
    score = [score[i] for i in order]
    score[:censored] = [None] * censored
    false_claim = [float(i < claims * n) for i in range(n)]
    return Arm(score, [f"{name}{i}" for i in range(n)], {"false_claim": false_claim})


def rule(before: Arm, after: Arm, needed: int = 400, looks: int = 1) -> Ruling:
    return ruling(before, after, is_paired=False, needed=needed, margins=0.05, looks=looks)


def test_a_clear_lift_is_promoted_and_a_clear_loss_rejected() -> None:
    lift = rule(arm(0.2, name="a"), arm(0.4, name="b"))
    loss = rule(arm(0.4, name="a"), arm(0.2, name="b"))
    assert (lift.verdict, loss.verdict) == ("promote", "reject")
    assert lift.comparison.score.mean == pytest.approx(0.2)
    assert "lies above 0" in lift.reasons[0]
    assert "lies below 0" in loss.reasons[0]


def test_what_chance_may_explain_is_null_and_says_so() -> None:
    found = rule(arm(0.30, name="a"), arm(0.31, name="b"))
    assert found.verdict == "null"
    assert "is not shown to be above 0" in found.reasons[0]


def test_before_the_planned_number_the_rule_goes_on_and_says_how_many_are_missing() -> None:
    found = rule(arm(0.2, name="a"), arm(0.4, name="b"), needed=1_000)
    assert (found.verdict, found.missing) == ("continue", 600)
    assert "expected 1000 conversations per arm, found 400; 600 are missing" in found.reasons[0]


def test_censored_conversations_do_not_count_towards_the_planned_number() -> None:
    found = rule(arm(0.2, name="a", censored=20), arm(0.4, name="b", censored=20))
    assert (found.verdict, found.missing) == ("continue", 20)


def test_a_violation_above_its_margin_rejects_a_policy_that_sells_more() -> None:
    found = rule(arm(0.2, name="a"), arm(0.4, claims=0.2, name="b"))
    assert found.verdict == "reject"
    assert "false_claim rises by +0.2000" in found.reasons[0]
    assert "above its margin 0.05" in found.reasons[0]


def test_a_violation_that_may_be_above_its_margin_is_not_promoted() -> None:
    found = rule(arm(0.2, name="a"), arm(0.4, claims=0.05, name="b"))
    assert found.verdict == "null"
    assert "false_claim may rise by" in found.reasons[0]


def test_arms_that_are_censored_differently_are_not_promoted() -> None:
    before, after = arm(0.2, name="a"), arm(0.5, n=500, name="b", censored=100)
    found = rule(before, after)
    assert found.verdict == "null"
    assert "the share without an outcome differs by +0.2000" in found.reasons[0]


def test_a_violation_needs_a_declared_margin() -> None:
    with pytest.raises(ConfigError, match="expected a margin for the violation false_claim"):
        ruling(arm(0.2), arm(0.4), is_paired=False, needed=400)


def test_each_declared_look_spends_its_share_of_alpha_and_comes_in_its_time() -> None:
    # .20 → .265 with 400 per arm: the 95 % interval lies just above 0, the 99 % interval does not.
    before, after = arm(0.20, name="a"), arm(0.265, name="b")
    once, often = rule(before, after), rule(before, after, looks=5)
    assert (once.verdict, often.verdict) == ("promote", "null")
    assert often.comparison.score.low < 0 < once.comparison.score.low
    # The second of five looks at 1,000: early, but declared.
    early = rule(arm(0.2, name="a"), arm(0.4, name="b"), needed=1_000, looks=5)
    assert (early.verdict, early.missing) == ("promote", 600)
    undecided = rule(before, after, needed=1_000, looks=5)
    assert (undecided.verdict, undecided.missing) == ("continue", 600)
    too_early = rule(before, after, needed=4_000, looks=5)
    assert too_early.reasons == ["expected 4000 conversations per arm, found 400; 3600 are missing"]


def test_pairs_see_what_independent_arms_cannot() -> None:
    # 300 scenarios of which 12 are won only after: paired, the interval excludes 0.
    before, after = arm(0.30, n=300), arm(0.34, n=300)
    assert sum(a != b for a, b in zip(before.score, after.score, strict=True)) == 12
    paired = ruling(before, after, is_paired=True, needed=300, margins=0.05)
    apart = ruling(before, after, is_paired=False, needed=300, margins=0.05)
    assert (paired.verdict, apart.verdict) == ("promote", "null")
    assert paired.comparison.score.mean == pytest.approx(0.04)


def test_pairs_of_which_one_side_is_censored_are_left_out_and_counted() -> None:
    before, after = arm(0.3, n=300), arm(0.3, n=300, censored=30)
    found = compare(before, after, is_paired=True)
    assert (found.num_judged, found.score.not_judged) == (270, 30)


def test_pairs_of_other_scenarios_and_short_columns_are_refused() -> None:
    with pytest.raises(ShapeError, match="same scenarios"):
        compare(arm(0.2, name="a"), arm(0.2, name="b"), is_paired=True)
    with pytest.raises(ShapeError, match="one entry of everything"):
        compare(Arm([1.0], ["a", "b"], {}), arm(0.2), is_paired=False)


def test_one_customer_decides_nothing() -> None:
    lone = Arm([1.0] * 20, ["a"] * 20, {})
    found = ruling(arm(0.2, n=20), lone, is_paired=False, needed=20, margins=0.05)
    assert found.verdict == "null"


def test_the_interval_of_two_arms_keeps_customers_together() -> None:
    # 40 customers with 10 equal outcomes each say no more than 40 conversations would.
    rng = np.random.default_rng(2)
    before, after = (rng.random(40) < 0.4).astype(float), (rng.random(40) < 0.5).astype(float)
    names = [f"c{i}" for i in range(40)]
    once = clustered_bootstrap_difference(before, names, after, names, seed=0)
    often = [np.repeat(before, 10), np.repeat(after, 10)]
    tenfold = [name for name in names for _ in range(10)]
    again = clustered_bootstrap_difference(often[0], tenfold, often[1], tenfold, seed=0)
    assert (again.low, again.high) == pytest.approx((once.low, once.high))
    apart = clustered_bootstrap_difference(
        often[0], list(range(400)), often[1], list(range(400)), seed=0
    )
    assert apart.high - apart.low < 0.5 * (once.high - once.low)


def test_the_interval_of_two_arms_covers_the_truth_as_often_as_it_says() -> None:
    # 300 experiments with 60 customers per arm: 95 % ± 1.3 %; a false alarm below 90 % or above
    # 99 % has a chance of about 1 in 3,000 (the percentile interval covers a little less).
    rng, covered = np.random.default_rng(3), 0
    names = [f"c{i}" for i in range(60)]
    for seed in range(300):
        a, b = rng.normal(0, 1, 60), rng.normal(0.3, 1, 60)
        found = clustered_bootstrap_difference(a, names, b, names, seed=seed, num_samples=500)
        covered += found.low <= 0.3 <= found.high
    assert 0.90 <= covered / 300 <= 0.99
