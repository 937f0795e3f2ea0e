"""What `turnwise logs describe` does, and what it prints when it is done."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path

import typer

from turnwise.analysis import render_card
from turnwise.cli.experiments import plan_of
from turnwise.cli.plain import plain_table, print_parts, show_warnings
from turnwise.cli.results import as_json_line
from turnwise.errors import ConfigError
from turnwise.evaluation import SamplePlan
from turnwise.logs.card import DataCard, data_card
from turnwise.records import write_text_atomically

_LIFT = 0.05  # that is planned for if nobody says which


@dataclass(frozen=True)
class Described:
    """A data card and where it was written."""

    card: DataCard
    plan: SamplePlan | None  # None: no outcome is known, or of one customer only
    page: Path


def describe(
    paths: Sequence[Path], *, lift: float | None, power: float, alpha: float, out: Path | None
) -> Described:
    """Writes card.json and card.html.

    lift: to be planned for; None: a usual one where it fits. out: their folder; None: that of the
    first path.
    Raises RecordError for files that are no logs, ConfigError for a lift that cannot be planned.
    """
    card = data_card(*paths)
    plan = _plan(paths, card, lift, power, alpha)
    folder = out or (paths[0] if paths[0].is_dir() else paths[0].parent)
    row, planned = asdict(card), asdict(plan) if plan else None
    text = as_json_line({**row, "plan": planned})
    write_text_atomically(folder / "card.json", text + "\n")
    title = ", ".join(path.name for path in paths)
    write_text_atomically(folder / "card.html", render_card(row, title=title, plan=planned))
    return Described(card, plan, folder / "card.html")


def _plan(
    paths: Sequence[Path], card: DataCard, lift: float | None, power: float, alpha: float
) -> SamplePlan | None:
    if not isfinite(card.outcome.low):
        if lift is None:
            return None
        raise ConfigError(
            f"expected outcomes of two customers or more to plan a lift, found "
            f"{card.outcome.known} outcomes; join them with `turnwise logs import --outcomes`"
        )
    if lift is None and card.outcome.high <= 1 < card.outcome.mean + _LIFT:
        return None
    return plan_of(paths, lift or _LIFT, power=power, alpha=alpha, looks=1)


def show_card(made: Described, *, as_json: bool) -> None:
    """The card in short, and where the page is."""
    card, plan = made.card, made.plan
    if as_json:
        row = {"event": "result", "page": str(made.page), "plan": plan and asdict(plan)}
        typer.echo(as_json_line({**row, "card": asdict(card)}))
        return
    table = plain_table("", "")
    table.show_header = False
    rate = card.outcome
    rows = {
        "conversations": f"{card.conversations:,}",
        "decision steps": f"{card.decisions:,}",
        "customers": f"{card.customers:,}",
        "outcome": f"{rate.mean:.4f} [{rate.low:.4f}, {rate.high:.4f}] of {rate.known:,}",
        "without an outcome": f"{card.censored_share:.1%}",
        "policy versions": _names(card, "policy version"),
        "formats": _names(card, "format"),
        "off": ", ".join(one.name for one in card.features if one.is_off) or "nothing",
    }
    if plan:
        rows[f"per arm for {plan.lift:+g}"] = f"{plan.per_arm:,} conversations"
    for name, value in rows.items():
        table.add_row(name, value)
    print_parts(table)
    show_warnings(card.warnings)
    typer.echo(f"\npage    {made.page}")


def _names(card: DataCard, table: str) -> str:
    return ", ".join(
        f"{row.name or 'unknown'} ({row.conversations:,})" for row in card.tables[table]
    )
