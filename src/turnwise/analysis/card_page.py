"""One offline HTML file on a set of logs: what it holds, what it can be used for, what it lacks."""

import math
from collections.abc import Mapping, Sequence
from typing import Any  # the card as `asdict` gives it: rooms of one floor know no types of another

from markupsafe import Markup

from turnwise.analysis.charts import Line, line_chart, shown
from turnwise.analysis.pages import page
from turnwise.analysis.tables import NONE

Row = Mapping[str, Any]


def render_card(card: Row, *, title: str, plan: Row | None = None) -> str:
    """The page of a data card.

    card: its fields as `asdict` gives them. plan: conversations per arm for the planned lift, its
    fields likewise; None: nobody planned one.
    """
    counts = {
        "conversations": card["conversations"],
        "steps": card["steps"],
        "decision steps": card["decisions"],
        "customers": card["customers"],
    }
    return page(
        "card.html",
        kind="data card",
        title=title,
        verdict=_verdict(card),
        card=card,
        counts=counts,
        chart=_chart(card["by_turns"]),
        quarantine=_summed(card["imports"]),
        spreads={
            **card["lengths"],
            "return of a conversation": card["returns"],
            "attribution window, hours": card["window_h"],
        },
        plan=plan,
        number=_number,
        percent=_percent,
        none=NONE,
    )


def _verdict(card: Row) -> str:
    """The outcome, and what cannot be done with these logs."""
    rate = card["outcome"]
    name = ", ".join(card["outcome_names"]) or "outcome"
    off = [feature["name"] for feature in card["features"] if feature["share"] == 0]
    said = f"{card['conversations']:,} conversations of {card['customers']:,} customers. "
    if rate["known"]:
        interval = f"[{_number(rate['low'])}, {_number(rate['high'])}]"
        said += f"Mean {name} {_number(rate['mean'])} {interval}, known of {rate['known']:,}."
    else:
        said += "No outcome is known: nothing can be fitted to these logs."
    return said + (f" Off: {', '.join(off)}." if off else "")


def _chart(by_turns: Sequence[Row]) -> Markup:
    rows = [(float(row["name"]), row["outcome"]) for row in by_turns if row["outcome"]["known"]]
    points = [(turns, rate["mean"]) for turns, rate in rows]
    band = [
        (turns, rate["low"], rate["high"]) for turns, rate in rows if math.isfinite(rate["low"])
    ]
    note = "Mean with its 95 % interval; conversations of more than 12 turns share a point."
    return line_chart("outcome", [Line("mean outcome", points, band)], note=note, along="turns")


def _summed(imports: Sequence[Row]) -> dict[str, int]:
    """Refused records by code, of all imports."""
    sums: dict[str, int] = {}
    for one in imports:
        for code, count in one["by_code"].items():
            sums[code] = sums.get(code, 0) + count
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def _number(value: float | None) -> str:
    return NONE if value is None or not math.isfinite(value) else shown(value)


def _percent(share: float) -> str:
    return NONE if not math.isfinite(share) else f"{share:.1%}"
