"""One offline HTML file on several credits of the same turns."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from markupsafe import Markup

from turnwise.analysis.charts import Line, line_chart
from turnwise.analysis.credit_study import CreditStudy, by_dispute, credit_of
from turnwise.analysis.dialogues import Card, card, colour_step, limits_of
from turnwise.analysis.pages import page
from turnwise.analysis.tables import NONE
from turnwise.credit import CreditAgreement
from turnwise.records import Record

Key = TypeVar("Key")

_SHOWN = 4  # dialogues of each kind


@dataclass(frozen=True)
class Field:
    """One field of the table of agreement."""

    within: str
    below: str  # dialogues of that mean, and the agreement over all turns
    colour: str  # class c0 (the reverse order) .. c10 (the same order)
    said: str  # in words


def render_credit_page(
    records: Sequence[Record],
    study: CreditStudy,
    *,
    source: str,
    model: str,
    left_out: Mapping[str, int],
) -> str:
    """The page: agreement, mean credit by turn, and dialogues with every method's numbers.

    source: the file that was credited. model: what credited it. left_out: dialogues by reason.
    """
    told = [_told(record, study.methods) for record in records]
    limits = limits_of(told)
    disputed, agreed = _choice(study)
    return page(
        "credit.html",
        kind="credit",
        title=source,
        verdict=verdict(study),
        study=study,
        model=model,
        left_out=left_out,
        columns=[*study.methods, *study.truth],
        rows={name: _row(study, name) for name in study.methods},
        charts=[_chart(study, name) for name in study.methods],
        galleries={
            "Where the methods disagree most": _cards(told, disputed, limits),
            "Where they agree most": _cards(told, agreed, limits),
            "Dialogues": [] if disputed else _cards(told, range(min(_SHOWN, len(told))), limits),
        },
    )


def verdict(study: CreditStudy) -> str:
    """What was credited, and which method is closest to the truth or which two to each other."""
    counts = f"{study.num_dialogues} dialogues with {study.num_turns} turns."
    if len(study.methods) == 1 and not study.truth:
        return f"{counts} Another method would give something to compare {study.methods[0]} with."
    title, closest = next(iter(study.truth.items()), ("", {}))
    against = {name: found for name, found in closest.items() if name != "oracle"}
    best = _best(against)
    if best and against[best].within <= 0:
        return (
            f"{counts} No method follows the {title}: {best} comes nearest with "
            f"{_two_digits(against[best].within)}."
        )
    if best:
        return f"{counts} Closest to the {title}: {best} ({_two_digits(against[best].within)})."
    pair = _best(study.agreement)
    if pair:
        said = f"{pair[0]} and {pair[1]} ({_two_digits(study.agreement[pair].within)})"
        return f"{counts} The two that agree most: {said}."
    return f"{counts} No two methods order the turns of a dialogue, so there is no agreement."


def _best(found: Mapping[Key, CreditAgreement]) -> Key | None:
    known = {key: one.within for key, one in found.items() if not math.isnan(one.within)}
    return max(known, key=lambda key: known[key]) if known else None


def _row(study: CreditStudy, name: str) -> list[Field]:
    of_methods = [
        Field("1", "", "c10", f"{name} with itself")
        if other == name
        else _field(study.agreement[name, other], f"{name} with {other}")
        for other in study.methods
    ]
    return of_methods + [
        _field(found[name], f"{name} with the {title}") for title, found in study.truth.items()
    ]


def _field(found: CreditAgreement, names: str) -> Field:
    below = f"{found.num_dialogues} · {_two_digits(found.overall)}"
    if math.isnan(found.within):
        return Field(NONE, below, "c5", f"{names}: no dialogue is ordered by both")
    within = _two_digits(found.within)
    said = f"{names}: {within} within {found.num_dialogues} dialogues"
    return Field(within, below, f"c{colour_step(found.within, 1.0)}", said)


def _two_digits(value: float) -> str:
    return NONE if math.isnan(value) else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def _chart(study: CreditStudy, name: str) -> Markup:
    means = study.by_turn[name]
    points = [(float(k), one.mean) for k, one in enumerate(means, start=1) if one is not None]
    counts = ", ".join("0" if one is None else str(one.count) for one in means)
    return line_chart(
        name,
        [Line("last turn", points)],
        note=f"Mean over {counts} credited turns, from turn 1 on.",
        along="turn",
    )


def _choice(study: CreditStudy) -> tuple[list[int], list[int]]:
    """Numbers of dialogues: the most disputed ones, and those that are agreed on."""
    ranked = by_dispute(study)
    disputed = ranked[:_SHOWN]
    return disputed, [b for b in reversed(ranked[-_SHOWN:]) if b not in disputed]


def _told(record: Record, methods: Sequence[str]) -> Record:
    """The record with these credits alone, and no number where a method has none to give."""
    credit = {
        name: tuple(math.nan if value is None else value for value in credit_of(record, name))
        for name in methods
    }
    return replace(record, credit=credit, advantage=())


def _cards(
    records: Sequence[Record], chosen: Sequence[int], limits: Mapping[str, float]
) -> list[Card]:
    return [card(records[b].trajectory.scenario_id, records[b], limits) for b in chosen]
