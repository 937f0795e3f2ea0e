"""What every chapter of the report is made of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from turnwise.analysis.charts import Level, Line, line_chart
from turnwise.analysis.run_records import Row, series, suffixes

MOST_TURNS = 8  # lines in one chart


@dataclass(frozen=True)
class Chapter:
    """A group of charts under one heading."""

    name: str  # its anchor on the page
    title: str
    lead: str
    charts: Sequence[Markup]
    otherwise: str = ""  # said when no chart has data


def kept(charts: Iterable[Markup]) -> list[Markup]:
    """The charts that have data."""
    return [chart for chart in charts if chart]


def by_turn(title: str, train: Sequence[Row], prefix: str, note: str) -> Markup:
    """One line for each of the first turns of the metric `{prefix}{k}`."""
    numbers = [word for word in suffixes(train, prefix) if word.isdigit()][:MOST_TURNS]
    lines = [
        Line(f"turn {int(k) + 1}", series(train, f"{prefix}{k}"), is_noisy=True) for k in numbers
    ]
    return line_chart(title, lines, note=note)


def noisy(
    title: str,
    train: Sequence[Row],
    keys: Mapping[str, str],
    *,
    note: str = "",
    levels: Sequence[Level] = (),
    limits: tuple[float | None, float | None] = (None, None),
) -> Markup:
    """One line for each metric in `keys`: name in the chart -> name in metrics.jsonl."""
    lines = [Line(name, series(train, key), is_noisy=True) for name, key in keys.items()]
    return line_chart(title, lines, note=note, levels=levels, limits=limits)
