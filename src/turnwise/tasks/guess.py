"""`guess`: twenty questions over a small table. The smallest task with an exact posterior.

The user thinks of one of N objects. "is it round ?" gets a yes or a no (wrong with a known rate),
"it is the lamp ." ends the dialogue. Posterior, best value and information gain are exact.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log

from turnwise.conversation import Ending, Message
from turnwise.errors import ConfigError
from turnwise.tasks.game import RuleTask
from turnwise.tasks.knobs import OutcomeNoise, check_range, settle
from turnwise.tasks.protocol import Scenario
from turnwise.tasks.reading import asked, words
from turnwise.users.chance import Key, happens, pick
from turnwise.users.protocol import Reply

ATTRIBUTES: tuple[str, ...] = (
    "round",
    "metal",
    "electric",
    "big",
    "soft",
    "loud",
    "wooden",
    "sharp",
)

# Object -> its attributes. The first 8 objects differ in the first 4 attributes, the first 12 in
# the first 6, all 16 in all 8.
OBJECTS: dict[str, frozenset[str]] = {
    "coin": frozenset({"round", "metal"}),
    "lamp": frozenset({"round", "electric"}),
    "ball": frozenset({"round", "soft"}),
    "fridge": frozenset({"metal", "electric", "big", "loud"}),
    "knife": frozenset({"metal", "sharp"}),
    "pillow": frozenset({"soft"}),
    "sofa": frozenset({"big", "soft"}),
    "phone": frozenset({"electric", "loud"}),
    "drum": frozenset({"round", "big", "loud", "wooden"}),
    "bell": frozenset({"round", "metal", "loud"}),
    "barrel": frozenset({"round", "big", "wooden"}),
    "blender": frozenset({"round", "metal", "electric", "loud", "sharp"}),
    "spoon": frozenset({"wooden"}),
    "saw": frozenset({"metal", "loud", "wooden", "sharp"}),
    "piano": frozenset({"big", "loud", "wooden"}),
    "pencil": frozenset({"wooden", "sharp"}),
}

QUESTIONS: tuple[str, ...] = ("is it {attribute} ?", "would you call it {attribute} ?")
GUESS = "it is the {object} ."
OPENINGS: tuple[str, ...] = ("i think of a thing .", "guess what i have .", "what is in my bag ?")
YES: tuple[str, ...] = ("yes .", "yes , it is .")
NO: tuple[str, ...] = ("no .", "no , it is not .")
PUZZLED = "sorry ?"


def table(objects: int, attributes: int) -> tuple[tuple[bool, ...], ...]:
    """Of each of the first objects: which of the first attributes it has."""
    names = ATTRIBUTES[:attributes]
    rows = list(OBJECTS.values())[:objects]
    return tuple(tuple(name in row for name in names) for row in rows)


@dataclass(frozen=True)
class GuessKnobs:
    """Everything that makes `guess` easier or harder. Rates are probabilities."""

    objects: int = 16
    attributes: int = 8
    max_turns: int = 6  # assistant turns, the guess included
    noise_rate: float = 0.0  # of a wrong answer, drawn anew for every question; below one half
    outcome_noise: OutcomeNoise = "none"
    early_guess_rate: float = 0.2  # the demonstrator guesses before a turn, whatever it knows
    bad_guess_rate: float = 0.5  # the demonstrator's guess is any object, not a likely one

    def __post_init__(self) -> None:
        check_range("objects", self.objects, 2, len(OBJECTS))
        check_range("attributes", self.attributes, 1, len(ATTRIBUTES))
        # The exact value of a noisy game is a sum over answer counts, which grows with the turns.
        check_range("max_turns", self.max_turns, 1, 8 if self.noise_rate else 20)
        check_range("noise_rate", self.noise_rate, 0.0, 0.49)
        check_range("early_guess_rate", self.early_guess_rate, 0.0, 1.0)
        check_range("bad_guess_rate", self.bad_guess_rate, 0.0, 1.0)
        if len(set(table(self.objects, self.attributes))) < self.objects:
            raise ConfigError(
                f"knobs 'objects' and 'attributes': expected attributes that tell the objects apart"
                f", found two equal rows among {self.objects} objects x {self.attributes} "
                "attributes; use more attributes or fewer objects"
            )


PRESETS: dict[str, GuessKnobs] = {
    "easy": GuessKnobs(objects=8, attributes=4, max_turns=5),
    "medium": GuessKnobs(),
    "hard": GuessKnobs(objects=12, attributes=6, max_turns=7, noise_rate=0.1),
}


@dataclass(frozen=True)
class GuessScenario(Scenario):
    """An object that the user thinks of."""

    object: str


@dataclass(frozen=True)
class GuessState:
    """What was said so far, and what the user decided to reply to the last message."""

    wrong: tuple[int, ...]  # of each object: answers that would be wrong if it were the one
    turn: int = 0  # assistant turns so far
    answer: bool | None = None  # None: the last message was no question
    guess: str | None = None


@dataclass(frozen=True)
class GuessGame:
    """The rules of `guess`."""

    knobs: GuessKnobs

    @property
    def max_turns(self) -> int:
        return self.knobs.max_turns

    @property
    def objects(self) -> tuple[str, ...]:
        return tuple(OBJECTS)[: self.knobs.objects]

    @property
    def attributes(self) -> tuple[str, ...]:
        return ATTRIBUTES[: self.knobs.attributes]

    def scenario(self, id: str, seed: int) -> GuessScenario:
        return GuessScenario(id, seed, pick(self.objects, id, "object"))

    def opening(self, scenario: GuessScenario) -> str:
        return pick(OPENINGS, scenario.id, "opening")

    def start(self, scenario: GuessScenario) -> GuessState:
        return GuessState(wrong=(0,) * self.knobs.objects)

    def hear(
        self, scenario: GuessScenario, state: GuessState, text: str, key: tuple[Key, ...]
    ) -> GuessState:
        if state.guess is not None:
            return state
        state = replace(state, turn=state.turn + 1, answer=None)
        guess = guessed(text, self.objects)
        if guess is not None:
            return replace(state, guess=guess)
        attribute = asked(text, self.attributes)
        if attribute is None:
            return state
        is_wrong = happens(self.knobs.noise_rate, *key, state.turn, "noise")
        answer = (attribute in OBJECTS[scenario.object]) != is_wrong
        wrong = tuple(
            count + ((attribute in OBJECTS[name]) != answer)
            for name, count in zip(self.objects, state.wrong, strict=True)
        )
        return replace(state, answer=answer, wrong=wrong)

    def reply(self, scenario: GuessScenario, state: GuessState, key: tuple[Key, ...]) -> Reply:
        if state.guess is not None:
            return Reply(ending=Ending.TASK_DONE)
        if state.answer is None:
            return Reply(Message("user", PUZZLED))
        text = pick(YES if state.answer else NO, *key, state.turn, "words")
        return Reply(Message("user", text))

    def recall(self, scenario: GuessScenario, state: GuessState) -> float:
        return float(state.guess == scenario.object)

    def value(self, scenario: GuessScenario, state: GuessState) -> float:
        if state.guess is not None:
            return self.recall(scenario, state)
        left = self.knobs.max_turns - state.turn
        rows = table(self.knobs.objects, self.knobs.attributes)
        return best_value(self._counts(state), left, rows, self.knobs.noise_rate)

    def _counts(self, state: GuessState) -> tuple[int, ...]:
        return comparable(state.wrong, self.knobs.noise_rate)

    def entropy(self, scenario: GuessScenario, state: GuessState) -> float:
        """Of the posterior over objects. A guess tells nothing: the dialogue is over."""
        probabilities = posterior(self._counts(state), self.knobs.noise_rate)
        return -sum(p * log(p) for p in probabilities if p > 0)

    def parts(self, scenario: GuessScenario, state: GuessState) -> Mapping[str, float]:
        """ "belief": posterior probability of the object thought of."""
        probabilities = posterior(self._counts(state), self.knobs.noise_rate)
        return {"belief": probabilities[self.objects.index(scenario.object)]}

    def demonstrate(self, scenario: GuessScenario, state: GuessState, key: tuple[Key, ...]) -> str:
        key = (*key, state.turn)
        is_early = state.turn > 0 and happens(self.knobs.early_guess_rate, *key, "early")
        if state.turn + 1 < self.max_turns and not is_early:
            attribute = pick(self.attributes, *key, "attribute")
            return pick(QUESTIONS, *key, "words").format(attribute=attribute)
        likely = [n for n, count in zip(self.objects, state.wrong, strict=True) if count == 0]
        is_bad = happens(self.knobs.bad_guess_rate, *key, "bad") or not likely
        return GUESS.format(object=pick(self.objects if is_bad else likely, *key, "object"))

    def secrets(self, scenario: GuessScenario) -> tuple[str, ...]:
        return (scenario.object,)


def guessed(text: str, objects: tuple[str, ...]) -> str | None:
    """The object that a text names as the answer; None for a question or any other text."""
    found = words(text)
    if "?" in found or found[:2] != ("it", "is"):
        return None
    named = [word for word in found if word in objects]
    return named[0] if len(named) == 1 else None


def comparable(wrong: tuple[int, ...], noise_rate: float) -> tuple[int, ...]:
    """The same posterior's smallest counts: less the least of them; without noise only 0 and 1.

    Raises ConfigError if without noise every object is excluded: the answers contradict the rules.
    """
    least = min(wrong)
    if noise_rate > 0:
        return tuple(count - least for count in wrong)
    if least > 0:
        raise ConfigError(
            f"expected answers that leave an object, found wrong counts {wrong}; the dialogue was "
            "not played with this user"
        )
    return tuple(min(count, 1) for count in wrong)


def posterior(wrong: tuple[int, ...], noise_rate: float) -> tuple[float, ...]:
    """Probability of each object after the answers, from an even prior.

        p_o ∝ (ρ / (1 − ρ))^wrong_o

    wrong: of each object the answers that it would make wrong, at least one of them 0; ρ:
    noise_rate in [0, 0.5). Sums to 1.
    """
    odds = noise_rate / (1 - noise_rate)
    weights = [odds**count for count in wrong]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


@lru_cache(maxsize=400_000)
def best_value(
    wrong: tuple[int, ...], turns_left: int, rows: tuple[tuple[bool, ...], ...], noise_rate: float
) -> float:
    """Chance that the best assistant names the object with `turns_left` messages.

        V(w, 0) = 0
        V(w, t) = max( max_o p_o ,  max_a Σ_answer P(answer) V(w + wrong by the answer, t − 1) )

    wrong: comparable counts of each object. rows: of each object, which attributes it has.
    """
    if turns_left == 0:
        return 0.0
    probabilities = posterior(wrong, noise_rate)
    best = max(probabilities)
    if turns_left == 1 or best == 1.0:
        return best
    for a in range(len(rows[0])):
        has = [row[a] for row in rows]
        yes = sum(p for p, it_has in zip(probabilities, has, strict=True) if it_has)
        yes = (1 - noise_rate) * yes + noise_rate * (1 - yes)
        value = 0.0
        for answer, chance in ((True, yes), (False, 1 - yes)):
            if chance <= 1e-12:  # rounding of an impossible answer
                continue
            after = tuple(w + (h != answer) for w, h in zip(wrong, has, strict=True))
            value += chance * best_value(
                comparable(after, noise_rate), turns_left - 1, rows, noise_rate
            )
        best = max(best, value)
    return best


def make_guess(preset: str, knobs: Mapping[str, object]) -> RuleTask[GuessScenario, GuessState]:
    """The task with a preset's knobs (easy, medium, hard) and overrides.

    Raises ConfigError for an unknown preset or knob, a wrong type, or a value out of range.
    """
    settled = settle("guess", PRESETS, preset, knobs)
    return RuleTask("guess", preset, GuessGame(settled), settled.outcome_noise)
