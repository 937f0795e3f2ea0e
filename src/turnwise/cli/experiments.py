"""What `turnwise ab` does, and what it prints when it is done."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path

import typer

from turnwise.cli.plain import plain_table, print_parts
from turnwise.cli.results import as_json_line
from turnwise.errors import LogsError
from turnwise.evaluation import (
    Arm,
    Interval,
    Ruling,
    SamplePlan,
    clustered_bootstrap_mean,
    ruling,
    sample_plan_from,
)
from turnwise.logs.arms import arm_columns

_SEED = 0


@dataclass(frozen=True)
class Judged:
    """Two arms and what follows from them."""

    before: Arm
    after: Arm
    needed: int  # conversations per arm
    ruling: Ruling


def plan_of(
    paths: Sequence[Path], lift: float, *, alpha: float, power: float, looks: int
) -> SamplePlan:
    """The plan that follows from logs of what is there. Raises LogsError where no outcome is."""
    return _plan(Arm(*arm_columns(*paths)), lift, alpha, power, looks)


def _plan(arm: Arm, lift: float, alpha: float, power: float, looks: int) -> SamplePlan:
    known = [
        (score, customer)
        for score, customer in zip(arm.score, arm.customer, strict=True)
        if score is not None
    ]
    if len({customer for _, customer in known}) < 2:
        raise LogsError(
            f"expected outcomes of two customers or more, found {len(known)} outcomes; join them "
            "with `turnwise logs import --outcomes`"
        )
    scores, customers = zip(*known, strict=True)
    return sample_plan_from(scores, customers, lift, alpha=alpha, power=power, looks=looks)


def judge(
    before: Sequence[Path],
    after: Sequence[Path],
    *,
    lift: float | None,
    planned: int | None,
    margins: Mapping[str, float] | float,
    alpha: float,
    power: float,
    looks: int,
) -> Judged:
    """The ruling on two independent arms.

    planned: conversations per arm; None: what the lift needs from the baseline of `before`.
    Raises as `ruling`, LogsError where an arm has no outcome to plan from.
    """
    arms = Arm(*arm_columns(*before)), Arm(*arm_columns(*after))
    if planned is None:
        assert lift is not None, "the command asks for one of the two"
        planned = _plan(arms[0], lift, alpha, power, looks).per_arm
    found = ruling(
        *arms, is_paired=False, needed=planned, margins=margins, alpha=alpha, looks=looks
    )
    return Judged(*arms, planned, found)


def show_plan(plan: SamplePlan, *, as_json: bool) -> None:
    """How many conversations per arm, and from what that follows."""
    if as_json:
        typer.echo(as_json_line({"event": "result", **asdict(plan)}))
        return
    table = plain_table("", "")
    table.show_header = False
    table.add_row("conversations per arm", f"{plan.per_arm:,}")
    table.add_row("to see", f"{plan.baseline:.4g} become {plan.baseline + plan.lift:.4g}")
    table.add_row("power", f"{plan.power:.4g}")
    table.add_row("level of a look", f"{plan.alpha:.4g}, two-sided")
    table.add_row("per customer", f"{plan.per_customer:.4g} conversations, ICC {plan.icc:.4g}")
    print_parts(table)
    typer.echo("\nrandomise by customer, and look only when the number is there")


def show_judged(judged: Judged, *, as_json: bool) -> None:
    """Both arms, their differences with intervals, and the ruling with its reasons."""
    found = judged.ruling
    if as_json:
        row = {"event": "result", "needed": judged.needed, **asdict(found)}
        typer.echo(as_json_line(row))
        return
    table = plain_table("", "arm a", "arm b", "difference b - a")
    arms = judged.before, judged.after
    table.add_row("conversations", *(f"{len(arm.score):,}" for arm in arms), "")
    table.add_row("with an outcome", *(f"{arm.num_judged:,}" for arm in arms), "")
    table.add_row(
        "outcome", *(_mean(arm, arm.score) for arm in arms), _said(found.comparison.score)
    )
    table.add_row(
        "without an outcome",
        *(_mean(arm, arm.censored) for arm in arms),
        _said(found.comparison.censored),
    )
    for name, rise in found.comparison.violations.items():
        none = [0.0]
        means = (_mean(arm, arm.violations.get(name, none * len(arm.score))) for arm in arms)
        table.add_row(name, *means, _said(rise))
    print_parts(table)
    shared = found.comparison.shared_customers
    if shared:
        typer.echo(f"\nwarning: {shared:,} customers met both arms; randomise by customer")
    typer.echo(f"\n{found.verdict}: {'; '.join(found.reasons)}")


def _mean(arm: Arm, values: Sequence[float | None]) -> str:
    interval = clustered_bootstrap_mean(values, arm.customer, seed=_SEED)
    return f"{interval.mean:.4f}" if isfinite(interval.mean) else "-"


def _said(interval: Interval) -> str:
    if not isfinite(interval.low):
        return "-"
    return f"{interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"
