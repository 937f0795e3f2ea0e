"""The settings of `clarify` and its presets."""

from dataclasses import dataclass
from typing import Literal

from turnwise.errors import ConfigError
from turnwise.tasks.clarify_catalogue import DISTRACTORS, KINDS, SLOTS, TOPICS
from turnwise.tasks.knobs import OutcomeNoise, check_range

MAX_VALUES = 5


@dataclass(frozen=True)
class ClarifyKnobs:
    """Everything that makes `clarify` easier or harder. Rates are probabilities in [0, 1]."""

    mode: Literal["form", "topics"] = "form"
    max_turns: int = 6  # assistant turns, the booking included
    mishear_rate: float = 0.0  # of a question that the user does not understand ("sorry ?")
    outcome_noise: OutcomeNoise = "none"  # how recall becomes the score
    # "listed": the assistant repeats each value. "told": it says "book it" and the booking holds
    # what the user said, so that only the questions decide and no copying error blurs the credit.
    booking: Literal["listed", "told"] = "listed"
    bad_question_rate: float = 0.75  # the demonstrator asks about anything, not what matters
    early_booking_rate: float = 0.25  # the demonstrator books before a turn, whatever it knows

    # Form mode: a kind is known at once, some of the slots matter.
    kinds: int = 6
    slots: int = 8
    values: int = 4  # values of each slot
    required: int = 3  # slots that matter, of linearly falling importance
    given: int = 1  # at most so many of them are in the opening
    vague_rate: float = 0.0  # of a first answer that needs a follow-up
    change_rate: float = 0.0  # of a reply in which the user changes its mind, once a dialogue
    patience: int = 2  # useless turns that the user bears; it leaves at the next one

    # Topics mode: topics come one after another, one attribute of each matters.
    topics: int = 6
    distractors: int = 2  # topics of which nothing matters

    def __post_init__(self) -> None:
        for name in ("mishear_rate", "bad_question_rate", "early_booking_rate", "vague_rate"):
            check_range(name, getattr(self, name), 0.0, 1.0)
        check_range("change_rate", self.change_rate, 0.0, 1.0)
        check_range("max_turns", self.max_turns, 1, 32)
        check_range("kinds", self.kinds, 1, len(KINDS))
        check_range("slots", self.slots, 1, len(SLOTS))
        check_range("values", self.values, 2, MAX_VALUES)
        # A kind names five slots in order of importance; the rest follows in catalogue order.
        check_range("required", self.required, 1, min(5, self.slots))
        check_range("given", self.given, 0, self.required - 1)
        check_range("patience", self.patience, 0, 32)
        check_range("topics", self.topics, 1, len(TOPICS))
        check_range("distractors", self.distractors, 0, len(DISTRACTORS))
        self._check_topics_mode()

    def _check_topics_mode(self) -> None:
        if self.mode != "topics":
            return
        needed = self.topics + self.distractors + 1
        if self.max_turns < needed:
            raise ConfigError(
                f"knob 'max_turns': expected at least {needed} in topics mode (one turn for each "
                f"topic and one to book), found {self.max_turns}"
            )
        if self.vague_rate or self.change_rate:
            raise ConfigError(
                "knobs 'vague_rate' and 'change_rate': expected 0 in topics mode, where every "
                f"topic has one turn; found {self.vague_rate} and {self.change_rate}"
            )


PRESETS: dict[str, ClarifyKnobs] = {
    "easy": ClarifyKnobs(
        max_turns=5,
        kinds=3,
        slots=5,
        values=3,
        required=2,
        patience=3,
        bad_question_rate=0.9,
        early_booking_rate=0.3,
    ),
    "medium": ClarifyKnobs(vague_rate=0.15, patience=3, booking="told"),
    "hard": ClarifyKnobs(
        max_turns=9,
        kinds=8,
        slots=10,
        values=5,
        required=4,
        vague_rate=0.25,
        change_rate=0.1,
        mishear_rate=0.05,
        bad_question_rate=0.65,
    ),
    "credit-hard": ClarifyKnobs(
        mode="topics",
        max_turns=9,
        outcome_noise="bernoulli",
        booking="told",
        bad_question_rate=1.0,
        early_booking_rate=0.0,
    ),
}
