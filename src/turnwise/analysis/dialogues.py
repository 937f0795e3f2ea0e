"""Which dialogues to show, and the colour of each assistant turn: its credit.

The colour scale runs from −limit to +limit, one limit a method (methods differ in units), in 11
steps with the middle one for nothing.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from turnwise.analysis.charts import shown
from turnwise.conversation import Message
from turnwise.records import Record

ADVANTAGE = "advantage"
STEPS_EACH_WAY = 5
SHOWN_SHARE = 95  # per cent of the turns that the colour scale reaches

Solved = tuple[bool, bool]  # before, after
Pair = tuple[Record, Record]

MEASURES: Mapping[str, str] = {  # in words; other names are shown as they are
    "infopo/gain": "gain",
    "infopo/advantage": "advantage of the gain",
    "infopo/copied_share": "copied share",
    "truth/gain": "true gain",
    "truth/oracle": "true credit",
}
SUMS = frozenset({"infopo/logp_factual", "infopo/logp_counterfactual"})  # the gain says it
NOTES: Mapping[str, str] = {"infopo/refusal": "no gain:", "infopo/fill": "fill"}

KINDS: Mapping[Solved, str] = {
    (False, True): "solved only after training",
    (True, False): "solved only before training",
    (True, True): "solved before and after",
    (False, False): "solved neither before nor after",
}


@dataclass(frozen=True)
class Mark:
    """What one method says of one turn, ready to be shown."""

    text: str  # the number
    colour: str  # class c0 (most negative) .. c10 (most positive)


@dataclass(frozen=True)
class Scale:
    """The legend of one method's colours."""

    method: str
    low: str  # the number of the strongest negative colour
    high: str  # the number of the strongest positive colour


@dataclass(frozen=True)
class Line:
    """One message as it is shown."""

    role: str
    text: str
    turn: int | None  # number of the assistant turn, from 1; None for what the policy did not say
    marks: Mapping[str, Mark]  # by method
    measures: str = ""  # what else was recorded of the turn, in words

    @property
    def marks_json(self) -> dict[str, tuple[str, str]]:
        """What the page's switches read."""
        return {method: (mark.text, mark.colour) for method, mark in self.marks.items()}


@dataclass(frozen=True)
class Card:
    """One dialogue as it is shown."""

    title: str
    facts: str
    lines: Sequence[Line]


@dataclass(frozen=True)
class PairCard:
    """One scenario before and after training."""

    kind: str
    scenario: str
    before: Card
    after: Card


def is_solved(record: Record) -> bool:
    """The task's success part, or a score of at least one half where it has none."""
    score = record.trajectory.outcome.score
    return record.trajectory.outcome.parts.get("success", score or 0.0) >= 0.5


def pair_up(start: Sequence[Record], end: Sequence[Record]) -> dict[Solved, list[Pair]]:
    """Judged dialogues of the same scenario and seed, by who solved them; the biggest change first.

    Dialogues that only one of the two evaluations holds, or that were not judged, are left out.
    """
    later = {_key(record): record for record in end if _is_judged(record)}
    pairs = [(r, later[_key(r)]) for r in start if _is_judged(r) and _key(r) in later]
    out: dict[Solved, list[Pair]] = {kind: [] for kind in KINDS}
    for before, after in sorted(pairs, key=lambda pair: -abs(_change(pair))):
        out[is_solved(before), is_solved(after)].append((before, after))
    return out


def choose(pairs: Mapping[Solved, Sequence[Pair]], wanted: Mapping[Solved, int]) -> list[Pair]:
    """The first few pairs of each kind, losses included."""
    return [pair for kind in KINDS for pair in pairs[kind][: wanted.get(kind, 0)]]


def pair_card(pair: Pair, limits: Mapping[str, float]) -> PairCard:
    """A scenario before and after training, its turns coloured on the scales of `limits`."""
    before, after = pair
    return PairCard(
        KINDS[is_solved(before), is_solved(after)],
        before.trajectory.scenario_id,
        card("Before training", before, limits),
        card(f"After {after.step} steps", after, limits),
    )


def siblings(training: Sequence[Record], at_most: int) -> list[Record]:
    """Dialogues of the group whose scores differ most, the best ones first and the worst last."""
    groups: dict[str, list[Record]] = {}
    for record in training:
        if _is_judged(record):
            groups.setdefault(record.trajectory.group_id, []).append(record)
    if not groups:
        return []
    ranked = sorted(max(groups.values(), key=_spread), key=_score, reverse=True)
    if len(ranked) <= at_most:
        return ranked
    best = math.ceil(at_most / 2)
    return ranked[:best] + ranked[len(ranked) - (at_most - best) :]


def marks_of(record: Record) -> dict[str, tuple[float, ...]]:
    """Numbers of each turn by method, the advantage among them where there is one."""
    numbers = {method: credit for method, credit in record.credit.items() if credit}
    return {**numbers, ADVANTAGE: record.advantage} if record.advantage else numbers


def limits_of(records: Sequence[Record]) -> dict[str, float]:
    """For each method the size that 95 % of the turns stay below; 1 where all are zero."""
    sizes: dict[str, list[float]] = {}
    for record in records:
        for method, values in marks_of(record).items():
            sizes.setdefault(method, []).extend(abs(v) for v in values if math.isfinite(v))
    return {m: float(np.percentile(s, SHOWN_SHARE)) or 1.0 for m, s in sizes.items() if s}


def scales(limits: Mapping[str, float]) -> list[Scale]:
    """A legend for each method: what its colours mean in numbers."""
    return [Scale(method, shown(-limit), f"+{shown(limit)}") for method, limit in limits.items()]


def colour_step(value: float, limit: float) -> int:
    """0 (−limit or less) .. 5 (nothing) .. 10 (limit or more)."""
    part = max(-1.0, min(1.0, value / limit))
    return STEPS_EACH_WAY + round(part * STEPS_EACH_WAY)


def card(title: str, record: Record, limits: Mapping[str, float]) -> Card:
    """The dialogue with a mark on each turn for every method in `limits` that it has."""
    trajectory = record.trajectory
    turn_at = {i: k for k, i in enumerate(trajectory.message_of_turn, start=1)}
    turn_of_message = [turn_at.get(i) for i in range(len(trajectory.conversation))]
    lines = [
        Line(
            message.role,
            _words(message),
            turn,
            _marks(record, turn, limits),
            measures_of(record, turn) if turn else "",
        )
        for message, turn in zip(trajectory.conversation, turn_of_message, strict=True)
    ]
    return Card(title, _facts(record), lines)


def measures_of(record: Record, turn: int) -> str:
    """The measures and notes of a turn, counted from 1; what was not computed is left out."""
    numbers = [
        f"{MEASURES.get(name, _plain(name))} {shown(value)}"
        for name, values in record.measures.items()
        if name not in SUMS and (value := values[turn - 1]) is not None and math.isfinite(value)
    ]
    words = [
        f"{NOTES.get(name, f'{_plain(name)}:')} {texts[turn - 1]}"
        for name, texts in record.notes.items()
        if texts[turn - 1]
    ]
    return " · ".join([*numbers, *words])


def group_facts(record: Record) -> str:
    """What was computed for the dialogue's group."""
    return " · ".join(f"{_plain(n)} {shown(value)}" for n, value in record.group_measures.items())


def _plain(name: str) -> str:
    return name.replace("_", " ").replace("/", ": ")


def _marks(record: Record, turn: int | None, limits: Mapping[str, float]) -> dict[str, Mark]:
    if turn is None:
        return {}
    return {
        method: _mark(values[turn - 1], limits[method])
        for method, values in marks_of(record).items()
        if method in limits
    }


def _mark(value: float, limit: float) -> Mark:
    if not math.isfinite(value):
        return Mark("unknown", f"c{STEPS_EACH_WAY}")
    digits = max(0, 2 - math.floor(math.log10(limit)))  # three digits of the scale's end
    text = f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")
    return Mark(text, f"c{colour_step(value, limit)}")


def _facts(record: Record) -> str:
    trajectory = record.trajectory
    score = trajectory.outcome.score
    parts = [f"{name} {shown(value)}" for name, value in sorted(trajectory.outcome.parts.items())]
    judged = "not judged" if score is None else f"score {shown(score)}"
    written = sum(turn.num_tokens for turn in trajectory.turns)
    ending = str(trajectory.ending).replace("_", " ")
    counts = [_count(len(trajectory.turns), "turn"), _count(written, "token") + " written"]
    return " · ".join([judged, *parts, *counts, f"ended by {ending}"])


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _words(message: Message) -> str:
    calls = [f"[calls {call.name}({call.arguments})]" for call in message.tool_calls]
    return "\n".join([*([message.content] if message.content else []), *calls])


def _key(record: Record) -> tuple[str, int]:
    return record.trajectory.scenario_id, record.trajectory.seed


def _is_judged(record: Record) -> bool:
    return record.trajectory.outcome.score is not None


def _score(record: Record) -> float:
    return record.trajectory.outcome.score or 0.0


def _change(pair: Pair) -> float:
    return _score(pair[1]) - _score(pair[0])


def _spread(records: Iterable[Record]) -> float:
    return float(np.std([_score(record) for record in records]))
