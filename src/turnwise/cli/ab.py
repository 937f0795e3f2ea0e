"""`turnwise ab`: how many conversations an experiment needs, and what its two arms say."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from turnwise.cli.errors_shown import errors_shown
from turnwise.cli.options import Debug, Json
from turnwise.errors import ConfigError


def ab(
    baseline: Annotated[float | None, typer.Option(help="Success rate of what is there.")] = None,
    logs: Annotated[
        list[Path] | None, typer.Option(help="Canonical logs that say baseline and ICC.")
    ] = None,
    arm_a: Annotated[
        list[Path] | None, typer.Option(help="Canonical logs of what is there.")
    ] = None,
    arm_b: Annotated[list[Path] | None, typer.Option(help="Those of what may replace it.")] = None,
    lift: Annotated[float | None, typer.Option(help="Smallest one worth a release.")] = None,
    planned: Annotated[
        int | None, typer.Option(min=1, help="Conversations per arm; default: as the lift says.")
    ] = None,
    margin: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]RISE", help="By how much a violation's mean may rise."),
    ] = None,
    per_customer: Annotated[float, typer.Option(min=1, help="Conversations of a customer.")] = 1.0,
    icc: Annotated[float, typer.Option(help="How much these resemble each other.")] = 0.0,
    alpha: Annotated[float, typer.Option(help="Two-sided, of all looks together.")] = 0.05,
    power: Annotated[float, typer.Option(help="Chance to see the lift.")] = 0.8,
    looks: Annotated[int, typer.Option(min=1, help="Declared; each spends its share.")] = 1,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Plan an experiment with two arms (--baseline or --logs), or judge one (--arm-a, --arm-b)."""
    with errors_shown(debug=debug):
        is_judged = bool(arm_a and arm_b)
        if (baseline is not None) + bool(logs) + is_judged != 1 or bool(arm_a) != bool(arm_b):
            raise ConfigError(
                "expected one of --baseline and --logs to plan an experiment, or both --arm-a and "
                "--arm-b to judge one; found none, or several"
            )
        if lift is None and not (is_judged and planned):
            raise ConfigError(
                "expected the smallest --lift that is worth a release"
                + (", or the number that was --planned; found neither" if is_judged else "")
            )
        margins = _margins(margin or ())

        from turnwise.cli import experiments
        from turnwise.evaluation import sample_plan

        if baseline is not None and lift is not None:
            plan = sample_plan(
                baseline,
                lift,
                alpha=alpha,
                power=power,
                looks=looks,
                per_customer=per_customer,
                icc=icc,
            )
            experiments.show_plan(plan, as_json=json)
        elif logs and lift is not None:
            plan = experiments.plan_of(logs, lift, alpha=alpha, power=power, looks=looks)
            experiments.show_plan(plan, as_json=json)
        else:
            judged = experiments.judge(
                arm_a or [],
                arm_b or [],
                lift=lift,
                planned=planned,
                margins=margins,
                alpha=alpha,
                power=power,
                looks=looks,
            )
            experiments.show_judged(judged, as_json=json)


def _margins(texts: Sequence[str]) -> dict[str, float] | float:
    """One for all violations, or one for each name."""
    margins = {}
    for text in texts:
        name, _, rise = text.rpartition("=")
        try:
            margins[name] = float(rise)
        except ValueError:
            raise ConfigError(f"expected --margin [NAME=]RISE, found --margin {text}") from None
    return margins[""] if margins.keys() == {""} else margins
