"""One offline HTML file on the rounds of an iteration: what Q saw, what was gained, what was kept.

Reads the stages' JSON and metrics alone. A stage that is missing, as in a run that was cut short or
refused at the gate, is said to be missing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from markupsafe import Markup

from turnwise.analysis.charts import Level, Line, line_chart
from turnwise.analysis.pages import page
from turnwise.analysis.tables import NONE
from turnwise.records import read_metrics, write_text_atomically

Facts = Mapping[str, object]


@dataclass(frozen=True)
class RoundShown:
    """One round as its row and its charts."""

    number: int
    row: Mapping[str, str]
    charts: list[Markup]
    notes: list[str]


def write_iteration_page(folder: Path) -> Path:
    """Writes `report.html` into the folder of an iteration and returns its path."""
    rounds = [_round(i, path) for i, path in enumerate(sorted(folder.glob("round_*")))]
    text = page(
        "iteration.html",
        kind="iteration",
        title=folder.name,
        verdict=_verdict(folder, rounds),
        columns=list(rounds[0].row) if rounds else [],
        rounds=rounds,
        progress=_progress(folder),
    )
    write_text_atomically(folder / "report.html", text)
    return folder / "report.html"


def _facts(path: Path) -> Facts:
    return cast(Facts, json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _verdict(folder: Path, rounds: list[RoundShown]) -> str:
    standing = _facts(folder / "standing.json")
    if not standing:
        last = rounds[-1].notes[-1:] if rounds else []
        return " ".join(["The loop is not finished.", *last])
    ends = standing["ends"] or "All rounds are done"
    return f"{ends}. The policy that stands is {standing['version']}."


def _round(number: int, path: Path) -> RoundShown:
    data, gate = _facts(path / "data" / "data.json"), _facts(path / "gate" / "gate.json")
    previewed = _facts(path / "preview" / "preview.json")
    attempts = sorted(path.glob("improve_*"))
    improved = [_facts(attempt / "improvement.json") for attempt in attempts]
    confirmed = [_facts(one / "confirm.json") for one in sorted(path.glob("confirm_*"))]
    row = {
        "policy": str(_facts(path / "collect" / "policy.json").get("version", NONE)),
        "conversations": _number(data.get("conversations"), "{:,.0f}"),
        "outcome": _interval(data),
        "violations": _counts(data.get("violations")),
        "gate": _gate(gate),
        "best of n (Q_B)": _interval(previewed.get("gain_b")),
        "gain (Q_B)": _each(improved, "gain_b", "{:+.3f}"),
        "KL / budget": " · ".join(
            f"{_number(one['kl'], '{:.2f}')} / {_number(one['budget'], '{:.2f}')}"
            for one in improved
        )
        or NONE,
        "confirmed difference": " · ".join(_interval(one["difference"]) for one in confirmed)
        or NONE,
        "ruling": " · ".join(str(one["verdict"]) for one in confirmed) or "none yet",
    }
    notes = [str(gate["refusal"])] if gate.get("refusal") else []
    notes += [f"Improvement {i + 1} ended: {one['reason']}." for i, one in enumerate(improved)]
    for one in confirmed:
        notes += [str(reason) for reason in cast(list[str], one["reasons"])]
    charts = [chart for attempt in attempts for chart in _charts(attempt)]
    return RoundShown(number, row, charts, notes)


def _gate(gate: Facts) -> str:
    if not gate:
        return NONE
    if gate["is_open"]:
        return "open"
    return "ungated" if gate["is_ungated"] else "refused"


def _charts(attempt: Path) -> list[Markup]:
    """Both gains and the KL over the updates of one improvement."""
    if not (attempt / "metrics.jsonl").is_file():
        return []
    rows = read_metrics(attempt / "metrics.jsonl")

    def points(name: str, kind: str) -> list[tuple[float, float]]:
        found = [row for row in rows if row.get("kind") == kind and row.get(name) is not None]
        return [(float(str(row["step"])), float(str(row[name]))) for row in found]

    budget = points("kl/budget", "train")
    return [
        line_chart(
            "Gain in Q over the round's start",
            [Line("Q_A, optimised", points("gain/a", "check")),
             Line("Q_B, watched", points("gain/b", "check"))],
            note="Where Q_A rises and Q_B does not, Q is being exploited, not the world.",
            along="update",
        ),
        line_chart(
            "KL from the round's start, nats per reply",
            [Line("KL", points("kl/reply", "train"), is_noisy=True)],
            levels=[Level("budget", budget[-1][1])] if budget else [],
            along="update",
        ),
    ]  # fmt: skip


def _progress(folder: Path) -> Markup:
    """The outcome of each round's conversations, collected by the policy that stood then."""
    points, band = [], []
    for number, path in enumerate(sorted(folder.glob("round_*"))):
        data = _facts(path / "data" / "data.json")
        if isinstance(mean := data.get("mean"), float):
            points.append((float(number), mean))
            low, high = data.get("low"), data.get("high")
            if isinstance(low, float) and isinstance(high, float):
                band.append((float(number), low, high))
    return line_chart("Outcome of the collected conversations", [Line("outcome", points, band)],
                      along="round")  # fmt: skip


def _number(value: object, form: str) -> str:
    return form.format(value) if isinstance(value, int | float) else NONE


def _each(facts: list[Facts], name: str, form: str) -> str:
    return " · ".join(_number(one[name], form) for one in facts) or NONE


def _interval(found: object) -> str:
    if not isinstance(found, Mapping) or not isinstance(found.get("mean"), float):
        return NONE
    mean, low, high = (_number(found.get(name), "{:.3f}") for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _counts(found: object) -> str:
    if not isinstance(found, Mapping) or not found:
        return NONE
    return ", ".join(f"{name} {_number(count, '{:.3f}')}" for name, count in found.items())
