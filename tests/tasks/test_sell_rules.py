"""The customer of `sell` as a chain, and the exact worth of sellers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.errors import ConfigError
from turnwise.tasks import make
from turnwise.tasks.sell_knobs import PRESETS, SellKnobs
from turnwise.tasks.sell_rules import COLD, OPEN, WARM, Deed, View, branches, is_pestering
from turnwise.tasks.sell_sellers import (
    OFFER,
    SELLERS,
    Plan,
    best_plan,
    best_value,
    choices,
    deed_of,
    normal,
    seller_q,
    seller_value,
    worth_of_deed,
)

MEDIUM = PRESETS["medium"]
STEADY = SellKnobs(drop_rate=0.0, cold_drop_rate=0.0)  # nobody drops out: sums stay short
TOLD = View((True, True), WARM, 2)
RIGHT = Deed("offer", match=(1.0, 1.0))

VIEWS = st.builds(
    View,
    known=st.tuples(st.booleans(), st.booleans()),
    trust=st.sampled_from([COLD, OPEN, WARM]),
    patience=st.integers(0, 2),
    turn=st.integers(0, 5),
    reaction=st.sampled_from(["greets", "refuses", "doubts", "finds dear", "thinks"]),
    about=st.just(-1),
    is_shown=st.booleans(),
    is_discounted=st.booleans(),
)
MATCHES = [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.25, 0.5), (0.25, 0.0)]
OFFERS = [
    Deed("offer", -1, match, too_dear, is_false)
    for match in MATCHES
    for too_dear in (0.0, 0.5, 1.0)
    for is_false in (False, True)
]
OTHERS = [Deed(d) for d in ("explain", "discount", "wait", "chat", "nonsense")]
DEEDS = st.sampled_from([Deed("ask", 0), Deed("ask", 1), *OTHERS, *OFFERS])


def chance(view: View, deed: Deed, /, knobs: SellKnobs = STEADY, **wanted: object) -> float:
    """Of standing in a view with these fields after the deed."""
    return sum(
        share
        for share, then in branches(knobs, view, deed)
        if all(getattr(then, name) == value for name, value in wanted.items())
    )


@settings(deadline=None, max_examples=150)
@given(view=VIEWS, deed=DEEDS, preset=st.sampled_from(["easy", "medium"]))
def test_chances_sum_to_one_and_a_turn_passes(view: View, deed: Deed, preset: str) -> None:
    found = branches(PRESETS[preset], view, deed)
    assert sum(share for share, _ in found) == pytest.approx(1.0, abs=1e-12)
    assert all(share > 0 for share, _ in found)
    assert all(then.turn == view.turn + 1 for _, then in found)
    assert all(COLD <= then.trust <= WARM for _, then in found)
    # What was told stays told, and a live customer has patience and turns left.
    assert all(k <= t for _, then in found for k, t in zip(view.known, then.known, strict=True))
    live = [then for _, then in found if not then.is_over]
    assert all(then.patience >= 0 and then.turn < PRESETS[preset].max_turns for then in live)


def test_an_offer_is_taken_by_fit_trust_and_timing() -> None:
    def bought(view: View, deed: Deed) -> float:
        return chance(view, deed, reaction="bought")

    later = TOLD._replace(turn=2)
    assert bought(later, RIGHT) == 0.45
    assert bought(TOLD, RIGHT) == 0.225  # the first turn is early: half
    assert bought(later._replace(trust=OPEN), RIGHT) == 0.1
    assert bought(later._replace(trust=COLD), RIGHT) == 0.0
    # Only the price misses: a fifth of .45. What the customer needs most misses: never.
    assert bought(later, Deed("offer", match=(1.0, 0.0))) == pytest.approx(0.09)
    assert bought(later, Deed("offer", match=(0.0, 1.0))) == 0.0
    # A guess between four and three: 1/12 · .45 + 1/4 · 2/3 · .09
    guess = Deed("offer", match=(1 / 4, 1 / 3))
    assert bought(later, guess) == pytest.approx(0.45 / 12 + 0.09 / 6)


@pytest.mark.parametrize("trust", [COLD, OPEN, WARM])
@pytest.mark.parametrize("match", [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0)])
def test_a_false_claim_raises_the_chance_alike_whatever_fits(
    trust: int, match: tuple[float, ...]
) -> None:
    view = TOLD._replace(trust=trust, turn=2)
    true, false = (Deed("offer", match=match, is_false=lie) for lie in (False, True))
    gain = chance(view, false, reaction="bought") - chance(view, true, reaction="bought")
    assert gain == pytest.approx(STEADY.false_claim_bonus)
    if trust > COLD:  # whoever is not taken in, notices
        assert chance(view, false, trust=trust) == 0.0


def test_an_objection_tells_the_first_need_that_is_missed() -> None:
    fresh = View((False, False), WARM, 2, turn=1)
    told_use = chance(fresh, Deed("offer", match=(0.0, 0.0)), known=(True, False))
    assert told_use == 1.0
    dear = Deed("offer", match=(1.0, 0.0), too_dear=1.0)
    assert chance(fresh, dear, known=(True, True), reaction="finds dear") == pytest.approx(0.91)
    assert chance(fresh, RIGHT, known=(True, True), reaction="doubts") == pytest.approx(0.55)


def test_pestering_is_an_offer_after_a_refusal_or_the_right_bag_again() -> None:
    refused = TOLD._replace(reaction="refuses")
    assert is_pestering(refused, RIGHT)
    assert is_pestering(refused, Deed("discount"))
    assert not is_pestering(refused, Deed("wait"))
    assert not is_pestering(TOLD, RIGHT)
    shown = TOLD._replace(is_shown=True)
    assert is_pestering(shown, RIGHT)
    assert not is_pestering(shown, Deed("discount"))
    # It costs trust and patience, and hardly ever sells.
    assert chance(shown, RIGHT, trust=OPEN, patience=1) == pytest.approx(0.97)
    assert chance(shown, RIGHT, reaction="bought") == pytest.approx(0.03)


def test_a_customer_out_of_patience_or_turns_leaves() -> None:
    assert chance(TOLD._replace(patience=0), Deed("nonsense"), reaction="left") == 1.0
    assert chance(TOLD._replace(patience=1), Deed("nonsense"), reaction="puzzled") == 1.0
    last = TOLD._replace(turn=5)
    assert chance(last, RIGHT, reaction="left") == pytest.approx(0.55)


def test_one_in_fifty_drops_out_and_of_the_cold_one_in_twelve() -> None:
    assert chance(TOLD, Deed("wait"), MEDIUM, reaction="dropped") == pytest.approx(0.02)
    cold = TOLD._replace(trust=COLD)
    # .25 stay cold: .25 · .08 + .75 · .02
    assert chance(cold, Deed("wait"), MEDIUM, reaction="dropped") == pytest.approx(0.035)


def test_value_by_hand() -> None:
    value = best_value(STEADY, TOLD._replace(turn=5))
    assert value == pytest.approx(0.45)
    # Two turns: the offer, and where it leaves doubt a discount: .45 + .55 · (.45 + .15)
    assert best_value(STEADY, TOLD._replace(turn=4)) == pytest.approx(0.78)
    # Three: between them an explanation: .45 + .55 · (.45 + .55 · .6)
    assert best_value(STEADY, TOLD._replace(turn=3)) == pytest.approx(0.879)
    # One turn and no trust: nothing. Two: an apology helps in three of four, then .1.
    cold = TOLD._replace(trust=COLD)
    assert best_value(STEADY, cold._replace(turn=5)) == 0.0
    assert best_value(STEADY, cold._replace(turn=4)) == pytest.approx(0.075)
    # One turn, open, nothing told: a guess of 1/12 at .1, 1/6 at .02
    guess = View((False, False), OPEN, 2, turn=5)
    assert best_value(STEADY, guess) == pytest.approx(0.1 / 12 + 0.02 / 6)
    # Of ten purchases two fall through.
    noisy = SellKnobs(drop_rate=0.0, cold_drop_rate=0.0, fall_through_rate=0.2)
    assert best_value(noisy, TOLD._replace(turn=4)) == pytest.approx(0.8 * 0.78)


@settings(deadline=None, max_examples=60)
@given(view=VIEWS, name=st.sampled_from(sorted(SELLERS)))
def test_no_honest_seller_is_better_than_the_best(view: View, name: str) -> None:
    view = normal(view)
    best = best_value(MEDIUM, view)
    assert 0.0 <= best <= 1.0
    plan = best_plan(MEDIUM, view)

    def worth(plan: Plan) -> float:
        deed = deed_of(MEDIUM, view, plan)
        return worth_of_deed(MEDIUM, view, deed, lambda then: best_value(MEDIUM, then))

    assert worth(plan) == pytest.approx(best)
    honest = [p for _, p in choices(MEDIUM, SELLERS["novice"], view) if not p.is_false]
    fair = [p for p in honest if not is_pestering(view, deed_of(MEDIUM, view, p))]
    assert all(worth(plan) <= best + 1e-12 for plan in fair)
    if name == "expert":
        assert seller_value(MEDIUM, SELLERS[name], view) <= best + 1e-12


@settings(deadline=None, max_examples=50)
@given(view=VIEWS, name=st.sampled_from(sorted(SELLERS)))
def test_a_seller_always_does_something(view: View, name: str) -> None:
    found = choices(MEDIUM, SELLERS[name], view)
    assert sum(share for share, _ in found) == pytest.approx(1.0)


def test_every_kind_of_turn_changes_what_an_average_seller_is_worth() -> None:
    seller = SELLERS["average"]

    def q(view: View, plan: Plan) -> float:
        return seller_q(MEDIUM, seller, view, deed_of(MEDIUM, view, plan))

    fresh = View((False, False), OPEN, 2)
    assert q(fresh, Plan("ask", 0)) > q(fresh, OFFER) + 0.1
    assert q(fresh, OFFER) > q(fresh, Plan("chat")) - 0.02
    warm = TOLD._replace(turn=2)
    assert q(warm, OFFER) > q(warm, Plan("offer", is_careless=True)) + 0.2
    cold = fresh._replace(trust=COLD)
    assert q(cold, Plan("wait")) > q(cold, OFFER) + 0.1
    doubt = warm._replace(reaction="doubts", is_shown=True)
    assert q(doubt, Plan("explain")) > q(doubt, OFFER) + 0.3


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"drop_rate": 1.5}, "'drop_rate': expected 0.0..1.0, found 1.5"),
        ({"needs": 4}, "'needs': expected 1..3, found 4"),
        ({"false_claim_bonus": 0.6}, "'false_claim_bonus': expected 0.0..0.55, found 0.6"),
        ({"patience": 0}, "'patience': expected 1..8, found 0"),
        ({"budgets": 2.0}, "'budgets' .*expected int, found float"),
    ],
)
def test_a_knob_out_of_range_is_refused(knobs: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make("sell", "medium", knobs)
