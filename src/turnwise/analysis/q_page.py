"""What a gate found of a Q-function: as JSON for programs, as one offline HTML file for people."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from markupsafe import Markup

from turnwise.analysis.charts import Level, Line, line_chart, shown
from turnwise.analysis.pages import page
from turnwise.analysis.tables import NONE
from turnwise.qvalues import Check, Gate, Reliability
from turnwise.records import write_text_atomically

_PERCENT = 100.0
_TITLES = {
    "loss": "Loss on held-out steps",
    "G5": "Calibration of each group",
    "G6": "Bellman residual by turn",
    "G8": "Style and Q − V",
}


@dataclass(frozen=True)
class GateReport:
    """A gate with what else was seen on the way."""

    gate: Gate
    mode: Literal["hard", "warn"]
    diagram: Reliability | None  # None: no held-out step
    curve: Sequence[tuple[float, float]]  # isotonic, for the eye only
    ranking: tuple[float, int]  # agreement on replies to one context, and the pairs compared
    facts: Mapping[str, str]  # what was asked of what
    notes: Sequence[str] = ()  # what was left out, and why
    title: str = "Q on held-out customers"

    @property
    def is_open(self) -> bool:
        return self.gate.is_open

    @property
    def is_ungated(self) -> bool:
        """A policy is moved by a Q-function that was refused: what is made later says so."""
        return self.mode == "warn" and not self.is_open

    def save(self, folder: Path) -> Path:
        """gate.json and gate.html in the folder. Returns the page. Raises RunFolderError."""
        text = json.dumps(self.as_dict(), indent=1, allow_nan=False)
        write_text_atomically(folder / "gate.json", text + "\n")
        write_text_atomically(folder / "gate.html", render_q_page(self))
        return folder / "gate.html"

    def as_dict(self) -> dict[str, object]:
        """Everything as JSON knows it; null for what is not known."""
        return {
            "is_open": self.is_open,
            "mode": self.mode,
            "is_ungated": self.is_ungated,
            "refusal": self.gate.refusal,
            "num_steps": self.gate.num_steps,
            "num_customers": self.gate.num_customers,
            "checks": {check.name: _check(check) for check in self.gate.checks},
            "reliability": None if self.diagram is None else asdict(self.diagram),
            "isotonic": list(self.curve),
            "ranking": {"agreement": _known(self.ranking[0]), "pairs": self.ranking[1]},
            "facts": dict(self.facts),
            "notes": list(self.notes),
        }


def _check(check: Check) -> dict[str, object]:
    numbers = {name: _known(getattr(check, name)) for name in ("value", "low", "high")}
    words = {name: getattr(check, name) for name in ("title", "kind", "verdict")}
    parts = {
        name: {key: _known(value) for key, value in of_part.items()}
        for name, of_part in check.parts.items()
    }
    return words | numbers | {"message": check.message, "parts": parts}


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def render_q_page(report: GateReport) -> str:
    """The page: checks, losses of Q and its rivals, calibration, residuals, style."""
    charts = (_diagram(report), _residuals(report))
    return page(
        "q.html",
        kind="q check",
        title=report.title,
        verdict=_verdict(report),
        report=report,
        rows=[(check, _found(check)) for check in report.gate.checks],
        charts=[chart for chart in charts if chart],
        tables=_tables(report.gate),
        ranking=_ranking(report),
    )


def _verdict(report: GateReport) -> str:
    gate = report.gate
    over = f"{gate.num_steps} held-out steps of {gate.num_customers} customers"
    if report.is_open:
        warned = len(gate.warnings)
        return f"The gate is open: on {over} Q tells good replies from bad ones" + (
            f"; {warned} warning{'s' if warned > 1 else ''}." if warned else "."
        )
    names = ", ".join(check.name for check in gate.checks if check.verdict == "refuses")
    end = " It was told to warn only: what follows is ungated." if report.is_ungated else ""
    return f"The gate is shut on {over}: {names} refused.{end}"


def _found(check: Check) -> str:
    if math.isnan(check.value):
        return NONE
    if math.isnan(check.low):
        return shown(check.value)
    return f"{shown(check.value)} [{shown(check.low)}, {shown(check.high)}]"


def _diagram(report: GateReport) -> Markup:
    """In per cent of the return range."""
    found = report.diagram
    if found is None:
        return Markup("")
    points = list(zip(found.predicted_M, found.came_true_M, strict=True))
    ends = (points[0][0], points[-1][0])
    return line_chart(
        "Reliability",
        [
            Line("held-out bins", _in_percent(points)),
            Line("isotonic", _in_percent(report.curve), is_dashed=True),
            Line("perfect", _in_percent([(x, x) for x in ends]), colour=7, is_dashed=True),
        ],
        note=f"Mean return of bins of equally many steps, in % of the return range; calibration "
        f"error {found.ece:.3f}, Brier {found.brier:.3f} = {found.reliability:.3f} reliability "
        f"\N{MINUS SIGN} {found.resolution:.3f} resolution + {found.uncertainty:.3f} uncertainty.",
        along="predicted %",
    )


def _in_percent(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(_PERCENT * x, _PERCENT * y) for x, y in points]


def _residuals(report: GateReport) -> Markup:
    parts = _parts(report.gate, "G6")
    points = [(float(name.split()[1]), one["mean"], one["error"]) for name, one in parts.items()]
    return line_chart(
        "Bellman residual",
        [
            Line(
                "mean of r + γV(s′) \N{MINUS SIGN} Q(s, a)",
                [(turn, mean) for turn, mean, _ in points],
                [(turn, mean - 2 * error, mean + 2 * error) for turn, mean, error in points],
            )
        ],
        note="By turn, with 2 standard errors; customers kept whole.",
        levels=[Level("consistent", 0.0)],
        along="turn",
    )


def _parts(gate: Gate, name: str) -> Mapping[str, Mapping[str, float]]:
    return next((check.parts for check in gate.checks if check.name == name), {})


def _tables(gate: Gate) -> dict[str, tuple[list[str], dict[str, list[str]]]]:
    """Title -> (columns, row name -> fields)."""
    sources = {"loss": {**_parts(gate, "G1"), **_parts(gate, "G3")}}
    sources |= {name: dict(_parts(gate, name)) for name in _TITLES if name != "loss"}
    tables = {}
    for name, parts in sources.items():
        if parts:
            columns = list(next(iter(parts.values())))
            rows = {
                part: [shown(value[column]) for column in columns] for part, value in parts.items()
            }
            tables[_TITLES[name]] = (columns, rows)
    return tables


def _ranking(report: GateReport) -> str:
    agreement, pairs = report.ranking
    if not pairs:
        return "No context has replies with different returns, so no ranking can be compared."
    return (
        f"Of {pairs} pairs of replies to one context Q ordered {_PERCENT * agreement:.0f} % as "
        "their returns did. Returns of single continuations are noisy: even a perfect Q stays "
        "below 100 %, a blind one is at 50 %."
    )
