"""`clarify` in form mode: one request, several slots, of which the kind decides what matters."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log
from typing import Literal

from turnwise.conversation import Ending, Message
from turnwise.tasks import clarify_catalogue as say
from turnwise.tasks.clarify_knobs import ClarifyKnobs
from turnwise.tasks.protocol import Scenario
from turnwise.tasks.reading import asked, booked
from turnwise.users.chance import Key, happens, pick, shuffled, uniform
from turnwise.users.protocol import Reply

Act = Literal["answer", "no preference", "vague", "puzzled"]
FRESH, HESITANT, TOLD = 0, 1, 2  # what the assistant knows of a slot that matters


@dataclass(frozen=True)
class FormScenario(Scenario):
    """A request and what the user wishes."""

    kind: str
    wishes: tuple[tuple[str, str], ...]  # slot and value, most important first; only what matters
    given: tuple[str, ...]  # slots whose value is in the opening


@dataclass(frozen=True)
class FormState:
    """What was said so far, and what the user decided to reply to the last message."""

    told: tuple[tuple[str, str], ...]  # slot and the value said last, in the order first said
    turn: int = 0  # assistant turns so far
    hesitant: frozenset[str] = frozenset()  # slots that were answered vaguely
    useless: int = 0  # turns that brought the user nothing
    act: Act = "puzzled"
    slot: str | None = None  # what the reply is about
    changed: str | None = None  # slot of the change of mind, from the reply on in which it is said
    changed_turn: int = -1
    booking: tuple[str, ...] | None = None
    is_gone: bool = False


@dataclass(frozen=True)
class FormGame:
    """The rules of form mode."""

    knobs: ClarifyKnobs

    @property
    def max_turns(self) -> int:
        return self.knobs.max_turns

    @property
    def slots(self) -> tuple[str, ...]:
        return tuple(say.SLOTS)[: self.knobs.slots]

    def values(self, slot: str) -> tuple[str, ...]:
        return say.SLOTS[slot][: self.knobs.values]

    def required(self, kind: str) -> tuple[str, ...]:
        """The slots that matter for a kind, most important first."""
        ordered = [slot for slot in say.KINDS[kind] if slot in self.slots]
        ordered += [slot for slot in self.slots if slot not in ordered]
        return tuple(ordered[: self.knobs.required])

    @property
    def importance(self) -> tuple[float, ...]:
        """Of the slots that matter, in their order: n, n−1, ..., 1 over their sum."""
        n = self.knobs.required
        return tuple(2 * (n - rank) / (n * (n + 1)) for rank in range(n))

    def scenario(self, id: str, seed: int) -> FormScenario:
        kind = pick(tuple(say.KINDS)[: self.knobs.kinds], id, "kind")
        slots = self.required(kind)
        wishes = tuple((slot, pick(self.values(slot), id, "wish", slot)) for slot in slots)
        number = int(uniform(id, "given") * (self.knobs.given + 1))
        given = tuple(shuffled(slots, id, "which")[:number])
        return FormScenario(id, seed, kind, wishes, given)

    def opening(self, scenario: FormScenario) -> str:
        wishes = dict(scenario.wishes)
        texts = [pick(say.OPENINGS, scenario.id, "opening").format(kind=scenario.kind)]
        for slot in scenario.given:
            texts.append(pick(say.GIVEN, scenario.id, "say", slot).format(value=wishes[slot]))
        return " ".join(texts)

    def start(self, scenario: FormScenario) -> FormState:
        wishes = dict(scenario.wishes)
        return FormState(told=tuple((slot, wishes[slot]) for slot in scenario.given))

    def hear(
        self, scenario: FormScenario, state: FormState, text: str, key: tuple[Key, ...]
    ) -> FormState:
        if state.booking is not None or state.is_gone:
            return state
        state = replace(state, turn=state.turn + 1, slot=None)
        booking = self._booking(text, state)
        if booking is not None:
            return replace(state, booking=booking)
        state = self._answer(scenario, state, asked(text, self.slots), key)
        if state.useless > self.knobs.patience:
            return replace(state, is_gone=True)
        return self._maybe_change(state, key)

    def _booking(self, text: str, state: FormState) -> tuple[str, ...] | None:
        booking = booked(text)
        if self.knobs.booking == "told":
            return tuple(dict(state.told).values()) if booking == (say.TOLD,) else None
        known = {value for slot in self.slots for value in self.values(slot)} | {say.NOTHING}
        return booking if booking is not None and known.issuperset(booking) else None

    def _answer(
        self, scenario: FormScenario, state: FormState, slot: str | None, key: tuple[Key, ...]
    ) -> FormState:
        """The user's decision on a question; only an answer the user can give is not useless."""
        useless = state.useless + 1
        if slot is None:
            return replace(state, act="puzzled", useless=useless)
        if happens(self.knobs.mishear_rate, *key, state.turn, "mishear"):
            return replace(state, act="puzzled")  # the user's own fault costs no patience
        wishes = dict(scenario.wishes)
        if slot not in wishes:
            return replace(state, act="no preference", slot=slot, useless=useless)
        if slot in dict(state.told):
            return replace(state, act="answer", slot=slot, useless=useless)
        is_vague = happens(self.knobs.vague_rate, *key, state.turn, "vague")
        if slot not in state.hesitant and is_vague:
            return replace(state, act="vague", slot=slot, hesitant=state.hesitant | {slot})
        return replace(state, act="answer", slot=slot, told=(*state.told, (slot, wishes[slot])))

    def _maybe_change(self, state: FormState, key: tuple[Key, ...]) -> FormState:
        """Once a dialogue the user may take back a value that it does not say right now."""
        old = [slot for slot, _ in state.told if slot != state.slot]
        if state.changed is not None or state.act == "puzzled" or not old:
            return state
        if not happens(self.knobs.change_rate, *key, state.turn, "change"):
            return state
        slot = pick(old, *key, "changed slot")
        others = [value for value in self.values(slot) if (slot, value) not in state.told]
        new = pick(others, *key, "new value")
        told = tuple((name, new if name == slot else value) for name, value in state.told)
        return replace(state, told=told, changed=slot, changed_turn=state.turn)

    def reply(self, scenario: FormScenario, state: FormState, key: tuple[Key, ...]) -> Reply:
        if state.booking is not None:
            return Reply(ending=Ending.TASK_DONE)
        if state.is_gone:
            return Reply(Message("user", say.FAREWELL), Ending.FAREWELL)
        told = dict(state.told)
        texts = [self._words(state, told, (*key, state.turn, "words"))]
        if state.changed is not None and state.changed_turn == state.turn:
            change = pick(say.CHANGES, *key, "change words")
            texts.append(change.format(value=told[state.changed]))
        return Reply(Message("user", " ".join(texts)))

    def _words(self, state: FormState, told: Mapping[str, str], key: tuple[Key, ...]) -> str:
        match state.act:
            case "answer":
                assert state.slot is not None, "an answer is about a slot"
                return pick(say.ANSWERS, *key).format(value=told[state.slot])
            case "no preference":
                return pick(say.NO_PREFERENCE, *key)
            case "vague":
                return pick(say.VAGUE, *key)
            case "puzzled":
                return say.PUZZLED

    def recall(self, scenario: FormScenario, state: FormState) -> float:
        """Importance of the slots booked with the value wished last, and with no other value."""
        if state.booking is None:
            return 0.0
        wishes, words = {**dict(scenario.wishes), **dict(state.told)}, set(state.booking)
        right = [words.intersection(self.values(slot)) == {wishes[slot]} for slot in wishes]
        n = self.knobs.required
        earned = sum(n - rank for rank, is_right in enumerate(right) if is_right)
        return 2 * earned / (n * (n + 1))  # the importances, summed as whole numbers: all = 1.0

    def value(self, scenario: FormScenario, state: FormState) -> float:
        if state.booking is not None or state.is_gone:
            return self.recall(scenario, state)
        told = dict(state.told)
        status = tuple(
            TOLD if slot in told else HESITANT if slot in state.hesitant else FRESH
            for slot, _ in scenario.wishes
        )
        return best_value(
            status,
            self.importance,
            self.max_turns - state.turn,
            vague_rate=self.knobs.vague_rate,
            mishear_rate=self.knobs.mishear_rate,
            guess=0.0 if self.knobs.booking == "told" else 1 / self.knobs.values,
        )

    def entropy(self, scenario: FormScenario, state: FormState) -> float:
        told = dict(state.told)
        return log(self.knobs.values) * sum(slot not in told for slot, _ in scenario.wishes)

    def parts(self, scenario: FormScenario, state: FormState) -> Mapping[str, float]:
        """ "told": share of the slots that matter whose value the user has said."""
        told = dict(state.told)
        return {"told": sum(slot in told for slot, _ in scenario.wishes) / self.knobs.required}

    def demonstrate(self, scenario: FormScenario, state: FormState, key: tuple[Key, ...]) -> str:
        key = (*key, state.turn)
        told = dict(state.told)
        open_slots = [slot for slot, _ in scenario.wishes if slot not in told]
        is_bad = happens(self.knobs.bad_question_rate, *key, "bad")
        is_early = bool(told) and happens(self.knobs.early_booking_rate, *key, "early")
        if state.turn + 1 >= self.max_turns or is_early or not (open_slots or is_bad):
            if self.knobs.booking == "told":
                return f"book {say.TOLD}"
            return " ".join(["book", *(told.values() or [say.NOTHING])])
        unheard = [slot for slot in self.slots if slot not in told]
        slot = pick(unheard if is_bad else open_slots, *key, "slot")
        return pick(say.QUESTIONS, *key, "words").format(slot=slot)

    def secrets(self, scenario: FormScenario) -> tuple[str, ...]:
        return tuple(value for slot, value in scenario.wishes if slot not in scenario.given)


@lru_cache(maxsize=200_000)
def best_value(
    status: tuple[int, ...],
    importance: tuple[float, ...],
    turns_left: int,
    *,
    vague_rate: float,
    mishear_rate: float,
    guess: float,
) -> float:
    """Expected recall of the best assistant with `turns_left` messages, the booking included.

        V(s, 0) = 0
        V(s, t) = max( Σ_told w + guess · Σ_untold w ,  max over untold slots of E V(s′, t − 1) )

    status: of each slot that matters, FRESH, HESITANT (one vague answer) or TOLD; importance w:
    of the same slots, sums to 1. A question is misheard with mishear_rate (nothing changes), a
    fresh slot is answered vaguely with vague_rate. guess: chance that a value never said is right.
    Useless questions are never best, so patience and slots that do not matter play no part.
    """
    if turns_left == 0:
        return 0.0

    def after(slot: int, new: int) -> float:
        return best_value(
            (*status[:slot], new, *status[slot + 1 :]),
            importance,
            turns_left - 1,
            vague_rate=vague_rate,
            mishear_rate=mishear_rate,
            guess=guess,
        )

    best = sum(w * (1.0 if s == TOLD else guess) for s, w in zip(status, importance, strict=True))
    for slot, known in enumerate(status):
        if known == TOLD:
            continue
        vague = vague_rate if known == FRESH else 0.0
        heard = (1 - vague) * after(slot, TOLD)
        if vague:
            heard += vague * after(slot, HESITANT)
        misheard = mishear_rate * after(slot, known) if mishear_rate else 0.0
        best = max(best, (1 - mishear_rate) * heard + misheard)
    return best
