from collections.abc import Sequence
from dataclasses import replace

import pytest

from turnwise.qvalues import Gains, StopRules, best_gains, has_stalled, stop_reason

RULES = StopRules(patience=3, max_truncated=0.1, budget=0.6, logged_spread=0.05)


def checks(*gains: float, of_a: Sequence[float] | None = None, kl: float = 0.1) -> list[Gains]:
    """One check each ten updates, the start first; the gains are those by Q_B."""
    flattered = of_a or [10 * number for number in range(len(gains))]
    return [
        Gains(10 * i, a, b, kl, spread=0.05, truncated=0.0)
        for i, (a, b) in enumerate(zip(flattered, gains, strict=True))
    ]


def test_a_policy_that_goes_on_gaining_goes_on() -> None:
    for number in range(1, 6):
        assert stop_reason(checks(*[0.01 * i for i in range(number)]), RULES) is None


def test_three_checks_without_a_better_gain_stop() -> None:
    assert stop_reason(checks(0, 0.02, 0.01, 0.02), RULES) is None
    reason = stop_reason(checks(0, 0.02, 0.01, 0.02, 0.015), RULES)
    assert reason == "the gain by the other Q has not risen for 3 checks"
    assert stop_reason(checks(0, -0.01, -0.02, -0.01), RULES) == reason


def test_the_best_check_is_the_earliest_of_equals() -> None:
    assert best_gains(checks(0, 0.02, 0.01, 0.02)).update == 10
    assert best_gains(checks(0, -0.1)).update == 0


def test_a_gain_has_stalled_when_it_rose_by_less_than_a_hundredth_in_twenty_updates() -> None:
    # from 0.100 at update 10 to 0.1009 and 0.1011 at update 30
    assert has_stalled(checks(0, 0, 0, 0, of_a=[0, 0.1, 0.1, 0.1009]))
    assert not has_stalled(checks(0, 0, 0, 0, of_a=[0, 0.1, 0.1, 0.1011]))
    assert not has_stalled(checks(0, 0, of_a=[0, 0]))  # nothing is known of 20 updates ago
    assert has_stalled(checks(0, 0, 0, of_a=[0, 0, -0.01]))


def test_a_stalled_gain_stops_at_the_budget_only() -> None:
    stalled = checks(0, 0.01, 0.02, 0.03, of_a=[0, 0.1, 0.1, 0.1], kl=0.4)  # 0.6/1.5
    assert "KL 0.4 is at its budget of 0.6" in (stop_reason(stalled, RULES) or "")
    below = [replace(check, kl=0.39) for check in stalled]
    assert stop_reason(below, RULES) is None


def test_heads_that_disagree_twice_as_much_stop() -> None:
    *before, now = checks(0, 0.02)
    assert stop_reason([*before, replace(now, spread=0.1)], RULES) is None
    wide = [*before, replace(now, spread=0.11)]
    assert "heads of Q disagree" in (stop_reason(wide, RULES) or "")
    assert stop_reason(wide, replace(RULES, logged_spread=0.0)) is None  # no ensemble: no rule


@pytest.mark.parametrize("number", [1, 2])
def test_cut_replies_stop_even_at_the_start(number: int) -> None:
    *before, now = checks(*[0.0, 0.1][:number])
    assert stop_reason([*before, replace(now, truncated=0.1)], RULES) is None
    reason = stop_reason([*before, replace(now, truncated=0.25)], RULES)
    assert reason is not None and "25% of the replies had no end token" in reason
