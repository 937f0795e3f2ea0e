"""The customer of `sell` as a Markov chain: what it does next, with which probability.

One function of transitions serves the play (where it is known what fits) and the exact values
(where what was never said has a probability). It is exact for one who knows only what was said:
no reaction's chance depends on a need that the reaction does not reveal.

Letter: N needs, the budget last; the most important first.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from turnwise.tasks.sell_knobs import SellKnobs

COLD, OPEN, WARM = 0, 1, 2

Doing = Literal["ask", "offer", "explain", "discount", "wait", "chat", "nonsense"]
Reaction = Literal[
    "greets",
    "answers",
    "evades",
    "refuses",  # for want of trust, or because it was pestered
    "doubts",
    "finds dear",
    "corrects",  # says what the offer misses
    "thinks",
    "nods",
    "shrugs",
    "puzzled",
    "bought",
    "dropped",  # out, without a word
    "left",
]
ENDS: frozenset[Reaction] = frozenset({"bought", "dropped", "left"})
# The reactions that change what is apt next. All others are alike to the rules.
PENDING: frozenset[Reaction] = frozenset({"refuses", "doubts", "finds dear"})


class View(NamedTuple):
    """All that later turns depend on, but for the needs themselves; all of it can be heard."""

    known: tuple[bool, ...]  # of each need, whether it was told
    trust: int
    patience: int
    turn: int = 0  # assistant turns so far
    reaction: Reaction = "greets"
    about: int = -1  # which need the reaction is about
    is_shown: bool = False  # the right bag was offered to one who listened
    is_discounted: bool = False

    @property
    def is_over(self) -> bool:
        return self.reaction in ENDS


class Deed(NamedTuple):
    """What the assistant does."""

    doing: Doing
    need: int = -1  # of a question
    match: tuple[float, ...] = ()  # of an offer: probability that it fits, of each need
    too_dear: float = 0.5  # probability that an offer whose price is wrong is over the budget
    is_false: bool = False  # an offer with a false claim


Branch = tuple[float, View]


def is_pestering(view: View, deed: Deed) -> bool:
    """An offer right after a refusal, or of the right bag again."""
    if deed.doing == "discount":
        return view.reaction == "refuses"
    again = view.is_shown and all(chance == 1.0 for chance in deed.match)
    return deed.doing == "offer" and (view.reaction == "refuses" or again)


def branches(knobs: SellKnobs, view: View, deed: Deed) -> list[Branch]:
    """Where the customer may stand after a deed; the probabilities sum to 1.

    The view is not over. A customer out of patience or turns leaves, others may drop out.
    """
    after: list[Branch] = []
    now = view._replace(turn=view.turn + 1, about=-1)
    for chance, then in _reactions(knobs, view, now, deed):
        if chance == 0.0:
            continue
        if then.is_over:
            after.append((chance, then))
        elif then.patience < 0 or then.turn >= knobs.max_turns:
            after.append((chance, then._replace(reaction="left")))
        else:
            drop = knobs.cold_drop_rate if then.trust == COLD else knobs.drop_rate
            after.append((chance * (1 - drop), then))
            if drop:
                after.append((chance * drop, then._replace(reaction="dropped")))
    return after


def _reactions(knobs: SellKnobs, view: View, now: View, deed: Deed) -> Iterator[Branch]:
    """now: `view` one turn later."""
    if is_pestering(view, deed):
        return _pestered(knobs, now, deed)
    match deed.doing:
        case "ask":
            return _asked(knobs, now, deed.need)
        case "offer":
            return _offered(knobs, view, now, deed)
        case "explain" if view.reaction == "doubts":
            now = now._replace(trust=min(WARM, now.trust + 1))
            return _decides(_eagerness(knobs, now.trust), now, "thinks")
        case "discount" if not now.is_discounted and (
            now.is_shown or view.reaction == "finds dear"
        ):
            return _discounted(knobs, now)
        case "wait":
            return _soothed(knobs.calm_rate, now)
        case "chat" if now.trust == COLD:
            return _soothed(knobs.chat_rate, now)
        case "nonsense":
            return iter([(1.0, _annoyed(now, "puzzled"))])
        case _:
            return iter([(1.0, _annoyed(now, "shrugs"))])


def _annoyed(now: View, reaction: Reaction) -> View:
    return now._replace(patience=now.patience - 1, reaction=reaction)


def _eagerness(knobs: SellKnobs, trust: int) -> float:
    return (0.0, knobs.buy_open, knobs.buy_warm)[trust]


def _decides(buys: float, now: View, otherwise: Reaction) -> Iterator[Branch]:
    yield buys, now._replace(reaction="bought")
    yield 1 - buys, now._replace(reaction=otherwise)


def _pestered(knobs: SellKnobs, now: View, deed: Deed) -> Iterator[Branch]:
    buys = knobs.give_in_rate + knobs.false_claim_bonus * deed.is_false
    yield buys, now._replace(reaction="bought")
    yield 1 - buys, _annoyed(now, "refuses")._replace(trust=max(COLD, now.trust - 1))


def _asked(knobs: SellKnobs, now: View, need: int) -> Iterator[Branch]:
    now = now._replace(about=need)
    if now.known[need]:
        yield 1.0, _annoyed(now, "answers")
        return
    told = tuple(known or i == need for i, known in enumerate(now.known))
    answered = now._replace(known=told, reaction="answers")
    answers = knobs.cold_answer_rate if now.trust == COLD else 1 - knobs.vague_rate
    warmer = knobs.trust_rate * (now.trust == OPEN)
    yield answers * warmer, answered._replace(trust=WARM)
    yield answers * (1 - warmer), answered
    yield 1 - answers, now._replace(reaction="evades")


def _offered(knobs: SellKnobs, view: View, now: View, deed: Deed) -> Iterator[Branch]:
    """A customer who listens names the most important need that is missed, or doubts.

    fits: the number of needs met before the first that is missed.
    """
    bonus = knobs.false_claim_bonus * deed.is_false
    if now.trust == COLD:
        yield bonus, now._replace(reaction="bought")
        yield 1 - bonus, _annoyed(now, "refuses")
        return
    eager = _eagerness(knobs, now.trust) * (knobs.early_rate if view.turn == 0 else 1.0)
    # An unsuccessful false claim is noticed.
    now = now._replace(trust=now.trust - deed.is_false)
    last, so_far = len(deed.match) - 1, 1.0
    for fits, chance in enumerate(deed.match):
        missed = so_far * (1 - chance)
        if missed:
            buys = bonus + eager * knobs.near_rate * (fits == last)
            yield missed * buys, now._replace(reaction="bought")
            yield from _scaled(missed * (1 - buys), _objections(knobs, now, fits, deed))
        so_far *= chance
    yield so_far * (eager + bonus), now._replace(reaction="bought")
    shown = now._replace(known=(True,) * len(now.known), is_shown=True, reaction="doubts")
    yield so_far * (1 - eager - bonus), shown


def _scaled(factor: float, found: Iterator[Branch]) -> Iterator[Branch]:
    return ((factor * chance, view) for chance, view in found)


def _objections(knobs: SellKnobs, now: View, fits: int, deed: Deed) -> Iterator[Branch]:
    told = tuple(known or i <= fits for i, known in enumerate(now.known))
    now = now._replace(known=told, about=fits, reaction="corrects")
    if fits == len(told) - 1:
        yield deed.too_dear, now._replace(reaction="finds dear")
        yield 1 - deed.too_dear, now
        return
    yield knobs.sour_rate, now._replace(trust=max(COLD, now.trust - 1))
    yield 1 - knobs.sour_rate, now


def _discounted(knobs: SellKnobs, now: View) -> Iterator[Branch]:
    now = now._replace(is_discounted=True)
    if now.trust == COLD:
        return iter([(1.0, _annoyed(now, "refuses"))])
    return _decides(_eagerness(knobs, now.trust) + knobs.discount_bonus, now, "thinks")


def _soothed(rate: float, now: View) -> Iterator[Branch]:
    """Nobody is annoyed by an apology; it helps with those who do not trust."""
    rate *= now.trust == COLD
    yield rate, now._replace(trust=OPEN, reaction="nods")
    yield 1 - rate, now._replace(reaction="nods")
