"""Chance is a pure function of its key."""

from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.users import happens, pick, shuffled, uniform

KEYS = st.lists(st.one_of(st.integers(), st.text(max_size=8)), min_size=1, max_size=4)


@settings(deadline=None)
@given(key=KEYS)
def test_the_same_key_gives_the_same_draw_in_the_unit_interval(key: list[int | str]) -> None:
    assert uniform(*key) == uniform(*key)
    assert 0.0 <= uniform(*key) < 1.0


def test_parts_of_a_key_do_not_run_together() -> None:
    assert uniform("a", "bc") != uniform("ab", "c")
    assert uniform(1, 23) != uniform(12, 3)


def test_draws_are_uniform() -> None:
    draws = [uniform("uniformity", i) for i in range(10_000)]
    # Each tenth holds 1000 draws on average, sd 30: five sd either way.
    tenths = [sum(tenth / 10 <= draw < (tenth + 1) / 10 for draw in draws) for tenth in range(10)]
    assert all(850 < count < 1150 for count in tenths)
    # Neighbouring keys are independent: E[xy] = 1/4, sd of a product .22, of the mean .0022.
    product = sum(x * y for x, y in zip(draws, draws[1:], strict=False)) / (len(draws) - 1)
    assert abs(product - 0.25) < 0.011


def test_a_rate_is_the_share_of_keys_it_happens_for() -> None:
    share = sum(happens(0.3, "rate", i) for i in range(10_000)) / 10_000
    assert abs(share - 0.3) < 0.023  # five standard errors
    assert not any(happens(0.0, i) for i in range(100))
    assert all(happens(1.0, i) for i in range(100))


def test_pick_reaches_every_option() -> None:
    assert {pick("abcd", "reach", i) for i in range(200)} == set("abcd")


@settings(deadline=None)
@given(options=st.lists(st.integers(), max_size=8), key=st.integers())
def test_shuffling_keeps_every_option(options: list[int], key: int) -> None:
    assert sorted(shuffled(options, key)) == sorted(options)


def test_shuffling_reaches_every_order() -> None:
    assert len({tuple(shuffled("abc", "orders", i)) for i in range(200)}) == 6
