"""Sellers of `sell`: rules of different quality, and what exactly they and the best one are worth.

A seller is a distribution over plans for every view, so that its value is a sum, not a sample.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from turnwise.tasks import sell_catalogue as say
from turnwise.tasks.sell_knobs import SellKnobs
from turnwise.tasks.sell_rules import COLD, PENDING, Deed, Doing, View, branches, is_pestering


class Plan(NamedTuple):
    """What a seller means to do. An offer heeds what was told, and guesses the rest evenly."""

    doing: Doing
    need: int = -1  # of a question
    is_careless: bool = False  # an offer that does not heed the need that matters most
    is_false: bool = False  # an offer with a false claim


OFFER = Plan("offer")


@dataclass(frozen=True)
class Seller:
    """Shares of turns in which a seller does what is apt; without noise and faults the expert."""

    noise: float = 0.0  # anything at all
    asks: float = 1.0  # asks for what it was not told before it offers
    tact: float = 1.0  # lets one who does not trust, or refused, be
    skill: float = 1.0  # explains where there is doubt, and gives a discount where it is apt
    careless: float = 0.0  # of offers
    lies: float = 0.0  # of offers


SELLERS: Mapping[str, Seller] = {
    "novice": Seller(noise=0.7, asks=0.6, tact=0.3, skill=0.3, careless=0.3, lies=0.1),
    "average": Seller(noise=0.4, asks=0.6, tact=0.4, skill=0.4, careless=0.15, lies=0.15),
    "pushy": Seller(noise=0.1, asks=0.2, tact=0.05, skill=0.4, careless=0.1, lies=0.5),
    "expert": Seller(),
}

Choice = tuple[float, Plan]


def choices(knobs: SellKnobs, seller: Seller, view: View) -> list[Choice]:
    """What a seller does at a view; the probabilities sum to 1."""
    found = [((1 - seller.noise) * chance, plan) for chance, plan in _apt(seller, view)]
    if seller.noise:
        anything = _anything(knobs, seller)
        found += [(seller.noise * chance, plan) for chance, plan in anything]
    return [(chance, plan) for chance, plan in found if chance > 0]


def _apt(seller: Seller, view: View) -> list[Choice]:
    """The expert's rule, missed as often as the seller misses it; then it offers."""
    if view.trust == COLD or view.reaction == "refuses":
        return _or_offer(seller, seller.tact, Plan("wait"))
    if view.reaction == "doubts":
        return _or_offer(seller, seller.skill, Plan("explain"))
    if view.reaction == "finds dear" and not view.is_discounted:
        return _or_offer(seller, seller.skill / 2, Plan("discount"))
    if not all(view.known):
        return _or_offer(seller, seller.asks, Plan("ask", view.known.index(False)))
    if view.is_shown:
        apt = Plan("wait") if view.is_discounted else Plan("discount")
        return _or_offer(seller, seller.skill, apt)
    return _or_offer(seller, 0.0, OFFER)


def _or_offer(seller: Seller, apt: float, plan: Plan) -> list[Choice]:
    return [(apt, plan), *(((1 - apt) * chance, offer) for chance, offer in _offers(seller))]


def _offers(seller: Seller) -> list[Choice]:
    return [
        (
            (seller.careless if careless else 1 - seller.careless)
            * (seller.lies if lies else 1 - seller.lies),
            Plan("offer", is_careless=careless, is_false=lies),
        )
        for careless in (False, True)
        for lies in (False, True)
    ]


def _anything(knobs: SellKnobs, seller: Seller) -> list[Choice]:
    """A question, two in seven; an offer, one in seven; or one of the other four."""
    share = 1 / 7
    needs = knobs.needs + 1
    asked = [(2 * share / needs, Plan("ask", need)) for need in range(needs)]
    others: list[Choice] = [
        (share, Plan("explain")),
        (share, Plan("discount")),
        (share, Plan("wait")),
        (share, Plan("chat")),
    ]
    return [*asked, *others, *((share * chance, plan) for chance, plan in _offers(seller))]


def num_values(knobs: SellKnobs) -> tuple[int, ...]:
    """Of each need, the budget last, how many values a customer may wish."""
    values = (knobs.uses, len(say.SIZES), len(say.COLOURS))
    return (*values[: knobs.needs], knobs.budgets)


def deed_of(knobs: SellKnobs, view: View, plan: Plan) -> Deed:
    """The plan's deed as far as what was told decides it; the rest is a probability."""
    if plan.doing != "offer":
        return Deed(plan.doing, plan.need)
    chances = zip(view.known, num_values(knobs), strict=True)
    match = tuple(1.0 if known else 1 / number for known, number in chances)
    if plan.is_careless and view.known[0]:
        match = (0.0, *match[1:])
    return Deed("offer", match=match, is_false=plan.is_false)


def normal(view: View) -> View:
    """The view without what changes nothing for later turns."""
    reaction = view.reaction if view.reaction in PENDING or view.is_over else "greets"
    return view._replace(reaction=reaction, about=-1)


def worth_of_deed(
    knobs: SellKnobs, view: View, deed: Deed, worth: Callable[[View], float]
) -> float:
    """Q = Σ P(v′ | view, deed) · worth(v′); rewards only come with the end."""
    return sum(chance * worth(normal(then)) for chance, then in branches(knobs, view, deed))


def _end_worth(knobs: SellKnobs, view: View) -> float:
    return (1 - knobs.fall_through_rate) * (view.reaction == "bought")


@lru_cache(maxsize=400_000)
def best_value(knobs: SellKnobs, view: View) -> float:
    """Expected outcome of the best seller that neither lies nor pesters. `view` is normal."""
    if view.is_over:
        return _end_worth(knobs, view)
    deeds = (deed_of(knobs, view, plan) for plan in _honest(view))
    return max(
        worth_of_deed(knobs, view, deed, lambda then: best_value(knobs, then))
        for deed in deeds
        if not is_pestering(view, deed)
    )


def best_plan(knobs: SellKnobs, view: View) -> Plan:
    """What the best honest seller does; the first of equals."""

    def worth(plan: Plan) -> float:
        deed = deed_of(knobs, view, plan)
        return worth_of_deed(knobs, view, deed, lambda then: best_value(knobs, then))

    plans = [p for p in _honest(view) if not is_pestering(view, deed_of(knobs, view, p))]
    return max(plans, key=worth)


def _honest(view: View) -> list[Plan]:
    asked = [Plan("ask", need) for need, known in enumerate(view.known) if not known]
    return [*asked, OFFER, Plan("explain"), Plan("discount"), Plan("wait"), Plan("chat")]


@lru_cache(maxsize=400_000)
def seller_value(knobs: SellKnobs, seller: Seller, view: View) -> float:
    """Expected outcome from a view on if this seller goes on. `view` is normal."""
    if view.is_over:
        return _end_worth(knobs, view)
    return sum(
        chance * seller_q(knobs, seller, view, deed_of(knobs, view, plan))
        for chance, plan in choices(knobs, seller, view)
    )


def seller_q(knobs: SellKnobs, seller: Seller, view: View, deed: Deed) -> float:
    """Exact Q of a deed if this seller goes on after it."""
    return worth_of_deed(knobs, view, deed, lambda then: seller_value(knobs, seller, then))
