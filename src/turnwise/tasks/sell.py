"""`sell`: find out what a customer needs and fit an offer to it, without pestering.

The customer is stochastic and may drop out. The outcome is the purchase; false claims and pestering
are counted apart, as `violation/...`. Values are exact, of the best seller that does neither.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log
from typing import TypeVar

from turnwise.conversation import Conversation, Ending, Message
from turnwise.tasks import sell_catalogue as say
from turnwise.tasks.game import RuleTask
from turnwise.tasks.knobs import OutcomeNoise, settle
from turnwise.tasks.protocol import Scenario
from turnwise.tasks.reading import asked, words
from turnwise.tasks.sell_knobs import PRESETS, SellKnobs
from turnwise.tasks.sell_rules import (
    COLD,
    OPEN,
    Deed,
    Doing,
    Reaction,
    View,
    branches,
    is_pestering,
)
from turnwise.tasks.sell_sellers import SELLERS, Plan, best_value, choices, normal, num_values
from turnwise.users.chance import Key, happens, pick, uniform
from turnwise.users.protocol import Reply

FALSE_CLAIM, PESTERING = "violation/false_claim", "violation/pestering"
# Who demonstrates, each as often as it is named: fluent sellers of all kinds, most of them poor.
DEMONSTRATORS = (*("novice", "novice", "pushy", "expert"), *("average",) * 4)


@dataclass(frozen=True)
class SellScenario(Scenario):
    """A customer: what it needs, and how it comes in."""

    wishes: tuple[str, ...]  # of each need its value; the budget last
    is_cold: bool
    is_hurried: bool


@dataclass(frozen=True)
class SellState:
    """What was said so far, and what the customer decided to reply to the last message."""

    view: View
    offered: frozenset[tuple[str, ...]] = frozenset()  # to one who listened
    false_claims: int = 0
    pestering: int = 0


@dataclass(frozen=True)
class Said:
    """What the customer understands of a text."""

    doing: Doing
    need: int = -1  # of a question
    bag: tuple[str, ...] = ()  # of an offer: of each need its value
    is_false: bool = False


@dataclass(frozen=True)
class SellGame:
    """The rules of `sell`."""

    knobs: SellKnobs

    @property
    def max_turns(self) -> int:
        return self.knobs.max_turns

    @property
    def needs(self) -> tuple[str, ...]:
        """The most important first, the budget last."""
        return (*tuple(say.NEEDS)[: self.knobs.needs], say.BUDGET)

    @property
    def values(self) -> tuple[tuple[str, ...], ...]:
        """Of each need the values that a customer may wish."""
        everything = (*tuple(say.NEEDS.values())[: self.knobs.needs], say.BUDGETS)
        numbers = num_values(self.knobs)
        return tuple(some[:n] for some, n in zip(everything, numbers, strict=True))

    def scenario(self, id: str, seed: int) -> SellScenario:
        wishes = tuple(
            pick(values, id, "wish", need)
            for need, values in zip(self.needs, self.values, strict=True)
        )
        is_cold = happens(self.knobs.cold_rate, id, "cold")
        return SellScenario(
            id, seed, wishes, is_cold, happens(self.knobs.hurried_rate, id, "hurry")
        )

    def opening(self, scenario: SellScenario) -> str:
        tone = pick(say.TONES[COLD if scenario.is_cold else OPEN], scenario.id, "tone")
        text = f"{tone} {pick(say.GREETINGS, scenario.id, 'greeting')}"
        if scenario.is_hurried:
            text += f" {pick(say.IN_A_HURRY, scenario.id, 'hurried')}"
        return text

    def start(self, scenario: SellScenario) -> SellState:
        trust = COLD if scenario.is_cold else OPEN
        patience = self.knobs.patience - scenario.is_hurried
        return SellState(View((False,) * len(self.needs), trust, patience))

    def hear(
        self, scenario: SellScenario, state: SellState, text: str, key: tuple[Key, ...]
    ) -> SellState:
        view = state.view
        if view.is_over:
            return state
        said = self.said(text)
        deed = self.deed(scenario, said)
        is_repeat = said.bag in state.offered or is_pestering(view, deed)
        return SellState(
            drawn(branches(self.knobs, view, deed), uniform(*key, view.turn, "reaction")),
            state.offered | {said.bag} if said.bag and view.trust != COLD else state.offered,
            state.false_claims + said.is_false,
            state.pestering + is_repeat,
        )

    def said(self, text: str) -> Said:
        return _read(text, self.needs, self.values)

    def deed(self, scenario: SellScenario, said: Said) -> Deed:
        """What was said, measured against what the customer needs."""
        if said.doing != "offer":
            return Deed(said.doing, said.need)
        pairs = zip(said.bag, scenario.wishes, strict=True)
        match = tuple(float(has == wished) for has, wished in pairs)
        price, budget = (self.values[-1].index(one[-1]) for one in (said.bag, scenario.wishes))
        return Deed("offer", -1, match, float(price > budget), said.is_false)

    def reply(self, scenario: SellScenario, state: SellState, key: tuple[Key, ...]) -> Reply:
        view = state.view
        key = (*key, view.turn, "words")
        match view.reaction:
            case "dropped":
                return Reply(ending=Ending.FAREWELL)
            case "left":
                return Reply(Message("user", pick(say.FAREWELLS, *key)), Ending.FAREWELL)
            case "bought":
                return Reply(Message("user", pick(say.BOUGHT, *key)), Ending.TASK_DONE)
            case "puzzled":
                return Reply(Message("user", say.PUZZLED))
        tone = pick(say.TONES[view.trust], *key, "tone")
        return Reply(Message("user", f"{tone} {self._words(scenario, view, key)}"))

    def _words(self, scenario: SellScenario, view: View, key: tuple[Key, ...]) -> str:
        if view.reaction in _WORDS:
            return pick(_WORDS[view.reaction], *key)
        value = scenario.wishes[view.about]
        if view.reaction == "finds dear":
            return pick(say.TOO_DEAR, *key).format(value=value)
        answer = pick(say.ANSWERS[self.needs[view.about]], *key).format(value=value)
        return f"{pick(say.WRONG, *key)} {answer}" if view.reaction == "corrects" else answer

    def recall(self, scenario: SellScenario, state: SellState) -> float:
        """1 where the customer bought, less the share of purchases that fall through."""
        return (1 - self.knobs.fall_through_rate) * (state.view.reaction == "bought")

    def value(self, scenario: SellScenario, state: SellState) -> float:
        return best_value(self.knobs, normal(state.view))

    def entropy(self, scenario: SellScenario, state: SellState) -> float:
        pairs = zip(state.view.known, self.values, strict=True)
        return sum(log(len(values)) for known, values in pairs if not known)

    def parts(self, scenario: SellScenario, state: SellState) -> Mapping[str, float]:
        """The violations, and "told": the share of needs that the customer has said."""
        return {
            FALSE_CLAIM: float(state.false_claims),
            PESTERING: float(state.pestering),
            "told": sum(state.view.known) / len(self.needs),
        }

    def turn_rewards(
        self, scenario: SellScenario, conversation: Conversation
    ) -> Sequence[Mapping[str, float]]:
        """Of each assistant turn, 1 for each violation. They need the texts alone: what refuses
        is heard in the customer's words."""
        rewards: list[dict[str, float]] = []
        offered: set[tuple[str, ...]] = set()
        refused, listens = False, not scenario.is_cold
        for message in conversation:
            if message.role == "user":
                refused = message.content.endswith(say.REFUSALS)
                if message.content != say.PUZZLED:  # which has no tone
                    listens = not message.content.startswith(say.TONES[COLD])
            elif message.role == "assistant":
                said = self.said(message.content)
                is_pushed = refused and said.doing in ("offer", "discount")
                pestering = float(is_pushed or said.bag in offered)
                rewards.append({FALSE_CLAIM: float(said.is_false), PESTERING: pestering})
                if said.bag and listens:
                    offered.add(said.bag)
        return rewards

    def demonstrate(self, scenario: SellScenario, state: SellState, key: tuple[Key, ...]) -> str:
        seller = SELLERS[pick(DEMONSTRATORS, *key, "who")]
        key = (*key, state.view.turn)
        options = choices(self.knobs, seller, state.view)
        return self.text(scenario, state.view, drawn(options, uniform(*key, "plan")), key)

    def text(self, scenario: SellScenario, view: View, plan: Plan, key: tuple[Key, ...]) -> str:
        """A plan in words. Of the customer's wishes only those that were told are used."""
        match plan.doing:
            case "ask":
                return pick(say.QUESTIONS[self.needs[plan.need]], *key, "words")
            case "offer":
                return self._offer(scenario, view, plan, key)
            case _:
                return pick(_TEXTS[plan.doing], *key, "words")

    def _offer(self, scenario: SellScenario, view: View, plan: Plan, key: tuple[Key, ...]) -> str:
        bag = [
            wished if known else pick(values, *key, "guess", i)
            for i, (wished, known, values) in enumerate(
                zip(scenario.wishes, view.known, self.values, strict=True)
            )
        ]
        if plan.is_careless and view.known[0]:
            others = [use for use in self.values[0] if use != scenario.wishes[0]]
            bag[0] = pick(others, *key, "careless")
        texts = [pick(say.OFFERS, *key, "words").format(bag=self.bag_name(bag))]
        if happens(0.5, *key, "about price"):
            texts.append(say.PRICE.format(price=_claimed(self.values[-1], bag[-1], plan, key)))
        else:
            claims = tuple(say.CLAIMS[use] for use in self.values[0])
            texts.append(say.CLAIM.format(claim=_claimed(claims, say.CLAIMS[bag[0]], plan, key)))
        return " ".join(texts)

    def bag_name(self, bag: Sequence[str]) -> str:
        """ "solid small travel": the make, what it is like, and last what it is for."""
        return " ".join([say.MAKES[say.BUDGETS.index(bag[-1])], *bag[1:-1], bag[0]])

    def secrets(self, scenario: SellScenario) -> tuple[str, ...]:
        return scenario.wishes


_WORDS: dict[Reaction, tuple[str, ...]] = {
    "evades": say.EVASIONS,
    "refuses": say.REFUSALS,
    "doubts": say.DOUBTS,
    "thinks": say.THOUGHTS,
    "nods": say.NODS,
    "shrugs": say.SHRUGS,
}
_TEXTS: dict[Doing, tuple[str, ...]] = {
    "explain": say.EXPLAIN,
    "discount": say.DISCOUNT,
    "wait": say.WAIT,
    "chat": say.CHAT,
}
# One of these words makes a text that names no bag an explanation, a discount, ...
_MARKS: dict[Doing, frozenset[str]] = {
    "explain": frozenset({"repair"}),
    "discount": frozenset({"discount"}),
    "wait": frozenset({"sorry", "hurry"}),
    "chat": frozenset({"day", "weather"}),
}


SellTask = RuleTask[SellScenario, SellState]
T = TypeVar("T")


def drawn(options: Sequence[tuple[float, T]], draw: float) -> T:
    """The option in whose share of [0, 1) the draw falls."""
    for chance, option in options:
        draw -= chance
        if draw < 0:
            return option
    return options[-1][1]  # rounding


def _claimed(options: Sequence[str], true: str, plan: Plan, key: tuple[Key, ...]) -> str:
    return pick([one for one in options if (one == true) != plan.is_false], *key, "claim")


@lru_cache(maxsize=65536)
def _read(text: str, needs: tuple[str, ...], values: tuple[tuple[str, ...], ...]) -> Said:
    """A question about one need, a bag with one word for each need, or a text with a mark."""
    need = asked(text, needs)
    if need is not None:
        return Said("ask", needs.index(need))
    found = words(text)
    if "bag" in found:
        return _offered(found, values)
    for doing, marks in _MARKS.items():
        if not marks.isdisjoint(found):
            return Said(doing)
    return Said("nonsense")


def _offered(found: tuple[str, ...], values: tuple[tuple[str, ...], ...]) -> Said:
    makes = dict(zip(say.MAKES, say.BUDGETS, strict=True))
    named = [[word for word in found if word in some] for some in values[:-1]]
    named.append([price for make, price in makes.items() if make in found and price in values[-1]])
    if any(len(some) != 1 for some in named):
        return Said("nonsense")
    bag = tuple(word for some in named for word in some)
    true = {say.CLAIMS[bag[0]], bag[-1]}
    claimed = {word for word in found if word in say.CLAIMS.values() or word in say.BUDGETS}
    return Said("offer", -1, bag, not claimed <= true)


def make_sell(preset: str, knobs: Mapping[str, object]) -> SellTask:
    """The task with a preset's knobs (easy, medium, hard, credit-hard) and overrides.

    Raises ConfigError for an unknown preset or knob, a wrong type, or a value out of range.
    """
    settled = settle("sell", PRESETS, preset, knobs)
    noise: OutcomeNoise = "bernoulli" if settled.fall_through_rate else "none"
    return RuleTask("sell", preset, SellGame(settled), noise)
