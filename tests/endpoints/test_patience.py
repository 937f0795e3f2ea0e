"""How long one waits."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.endpoints import Patience, retry_after_s
from turnwise.errors import ConfigError


@settings(deadline=None)
@given(attempt=st.integers(0, 10**6), asked_s=st.none() | st.floats(0, 1e6))
def test_pauses_double_up_to_the_longest_and_are_never_shorter_than_asked(
    attempt: int, asked_s: float | None
) -> None:
    patience = Patience(first_pause_s=1.0, longest_pause_s=30.0)
    backoff_s = 30.0 if attempt > 4 else 2.0**attempt
    pause_s = patience.pause_s(attempt, asked_s)
    assert max(backoff_s / 2, asked_s or 0) <= pause_s <= max(backoff_s, asked_s or 0)


def test_pauses_differ_by_chance() -> None:
    assert len({Patience().pause_s(3, None) for _ in range(20)}) > 1


def test_a_server_asks_in_seconds_or_by_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert retry_after_s({"retry-after": " 7 "}) == 7
    assert 90 < (retry_after_s({"retry-after": later}) or 0) <= 100
    assert retry_after_s({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0


@pytest.mark.parametrize("text", ["", "soon", "-3", "1.5", "nan", "٣"])
def test_an_unreadable_wish_counts_as_none(text: str) -> None:
    assert retry_after_s({"retry-after": text}) is None
    assert retry_after_s({}) is None


@pytest.mark.parametrize("wrong", [{"retries": -1}, {"timeout_s": 0.0}, {"first_pause_s": -1.0}])
def test_impossible_limits_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="times above 0"):
        Patience(**wrong)  # type: ignore[arg-type]  # a row of the table is one of several types
