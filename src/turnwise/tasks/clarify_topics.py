"""`clarify` in topics mode: many small independent decisions and one booking at the end."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import log

from turnwise.conversation import Ending, Message
from turnwise.tasks import clarify_catalogue as say
from turnwise.tasks.clarify_knobs import ClarifyKnobs
from turnwise.tasks.protocol import Scenario
from turnwise.tasks.reading import asked, booked
from turnwise.users.chance import Key, happens, pick, shuffled
from turnwise.users.protocol import Reply

_OWNER = {value: topic for topic, (_, values) in say.TOPICS.items() for value in values}


@dataclass(frozen=True)
class TopicsScenario(Scenario):
    """The order of the topics and what the user wishes of each that matters."""

    order: tuple[str, ...]
    wishes: tuple[tuple[str, str], ...]  # topic and value, without the distractors


@dataclass(frozen=True)
class TopicsState:
    """What was said so far, and what the user decided to reply to the last message."""

    turn: int = 0  # assistant turns so far
    told: tuple[tuple[str, str], ...] = ()  # topic and value, in the order said
    answer: str | None = None  # the value in the reply; None = no preference
    is_puzzled: bool = False
    booking: tuple[str, ...] | None = None
    is_gone: bool = False


@dataclass(frozen=True)
class TopicsGame:
    """The rules of topics mode: each assistant turn closes a topic, whatever it asked."""

    knobs: ClarifyKnobs

    @property
    def max_turns(self) -> int:
        return self.knobs.max_turns

    @property
    def topics(self) -> tuple[str, ...]:
        return tuple(say.TOPICS)[: self.knobs.topics]

    def scenario(self, id: str, seed: int) -> TopicsScenario:
        everything = (*self.topics, *say.DISTRACTORS[: self.knobs.distractors])
        wishes = tuple((topic, pick(say.TOPICS[topic][1], id, topic)) for topic in self.topics)
        return TopicsScenario(id, seed, tuple(shuffled(everything, id, "order")), wishes)

    def opening(self, scenario: TopicsScenario) -> str:
        key = (scenario.id, "opening")
        return f"{pick(say.TOPIC_OPENINGS, *key)} {self._next(scenario, 0, key)}"

    def _next(self, scenario: TopicsScenario, turn: int, key: tuple[Key, ...]) -> str:
        if turn == len(scenario.order):
            return say.TOPIC_END
        return pick(say.TOPIC_TURNS, *key, turn, "topic").format(topic=scenario.order[turn])

    def start(self, scenario: TopicsScenario) -> TopicsState:
        return TopicsState()

    def hear(
        self, scenario: TopicsScenario, state: TopicsState, text: str, key: tuple[Key, ...]
    ) -> TopicsState:
        if state.booking is not None or state.is_gone:
            return state
        turn = state.turn
        state = replace(state, turn=turn + 1, answer=None, is_puzzled=False)
        booking = self._booking(text, state)
        if booking is not None:
            return replace(state, booking=booking)
        if turn >= len(scenario.order):
            return replace(state, is_gone=True)
        attribute = asked(text, say.ATTRIBUTES)
        if attribute is None or happens(self.knobs.mishear_rate, *key, turn, "mishear"):
            return replace(state, is_puzzled=True)
        topic = scenario.order[turn]
        if topic not in self.topics or say.TOPICS[topic][0] != attribute:
            return state
        value = dict(scenario.wishes)[topic]
        return replace(state, answer=value, told=(*state.told, (topic, value)))

    def _booking(self, text: str, state: TopicsState) -> tuple[str, ...] | None:
        booking = booked(text)
        if self.knobs.booking == "told":
            return tuple(value for _, value in state.told) if booking == (say.TOLD,) else None
        is_list = booking is not None and all(w in _OWNER or w == say.NOTHING for w in booking)
        return booking if is_list else None

    def reply(self, scenario: TopicsScenario, state: TopicsState, key: tuple[Key, ...]) -> Reply:
        if state.booking is not None:
            return Reply(ending=Ending.TASK_DONE)
        if state.is_gone:
            return Reply(Message("user", say.FAREWELL), Ending.FAREWELL)
        answer = self._answer(state, (*key, state.turn, "words"))
        return Reply(Message("user", f"{answer} {self._next(scenario, state.turn, key)}"))

    def _answer(self, state: TopicsState, key: tuple[Key, ...]) -> str:
        if state.is_puzzled:
            return say.PUZZLED
        if state.answer is None:
            return pick(say.TOPIC_NO_PREFERENCE, *key)
        return pick(say.TOPIC_ANSWERS, *key).format(value=state.answer)

    def recall(self, scenario: TopicsScenario, state: TopicsState) -> float:
        """Share of the topics booked with the value wished, and with no other value of theirs."""
        if state.booking is None:
            return 0.0
        words = set(state.booking)
        right = sum(words & set(say.TOPICS[t][1]) == {value} for t, value in scenario.wishes)
        return right / self.knobs.topics

    def value(self, scenario: TopicsScenario, state: TopicsState) -> float:
        """V = (told + guess · missed + (1 − m + m · guess) · to come) / topics.

        m is the mishear rate; guess is the chance that a value never said is right: 1/4 where the
        assistant lists values, 0 where the booking holds what was told. Before the user's last word
        a booking is never best; after it only a booking is.
        """
        if state.booking is not None or state.is_gone or state.turn >= self.max_turns:
            return self.recall(scenario, state)
        to_come = sum(topic in self.topics for topic in scenario.order[state.turn :])
        missed = self.knobs.topics - to_come - len(state.told)
        mishear = self.knobs.mishear_rate
        guess = 0.0 if self.knobs.booking == "told" else 1 / _NUM_VALUES
        expected = (1 - mishear + mishear * guess) * to_come
        return (len(state.told) + guess * missed + expected) / self.knobs.topics

    def entropy(self, scenario: TopicsScenario, state: TopicsState) -> float:
        return log(_NUM_VALUES) * (self.knobs.topics - len(state.told))

    def parts(self, scenario: TopicsScenario, state: TopicsState) -> Mapping[str, float]:
        """ "told": share of the topics that matter whose value the user has said."""
        return {"told": len(state.told) / self.knobs.topics}

    def demonstrate(
        self, scenario: TopicsScenario, state: TopicsState, key: tuple[Key, ...]
    ) -> str:
        key = (*key, state.turn)
        is_early = bool(state.told) and happens(self.knobs.early_booking_rate, *key, "early")
        if state.turn >= len(scenario.order) or is_early:
            if self.knobs.booking == "told":
                return f"book {say.TOLD}"
            return " ".join(["book", *([value for _, value in state.told] or [say.NOTHING])])
        topic = scenario.order[state.turn]
        is_bad = topic not in self.topics or happens(self.knobs.bad_question_rate, *key, "bad")
        attribute = pick(say.ATTRIBUTES, *key, "any") if is_bad else say.TOPICS[topic][0]
        return say.TOPIC_QUESTION.format(topic=topic, slot=attribute)

    def secrets(self, scenario: TopicsScenario) -> tuple[str, ...]:
        return tuple(value for _, value in scenario.wishes)


_NUM_VALUES = 4  # of each topic in the catalogue
