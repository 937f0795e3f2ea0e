"""What a command prints when it is done: tables for people, one JSON object for programs."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from turnwise.cli import catalogue
from turnwise.cli.doctor import Finding
from turnwise.tasks import list_tasks


def _print(*parts: Table | Text | str) -> None:
    """To stdout; text from dialogues or settings is never read as markup."""
    console = Console(highlight=False, markup=False, soft_wrap=False)
    for part in parts:
        console.print(part)


def _table(first: str, *columns: str) -> Table:
    """A plain table whose first column is never folded."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def show_methods() -> None:
    """Credits and estimators, what goes together at which cost, and the presets' settings."""
    credits = _table("credit", "what a turn earned")
    estimators = _table("estimator", "what that was worth beyond expectation")
    costs = _table("credit", *catalogue.ESTIMATORS)
    for name, text in catalogue.ESTIMATORS.items():
        estimators.add_row(name, text)
    for name, text in catalogue.CREDITS.items():
        credits.add_row(name, text)
        row = [one.passes for one in catalogue.combinations() if one.credit == name]
        costs.add_row(name, *("-" if passes is None else _sum(passes) for passes in row))
    _print("method.credit and method.estimator\n", credits, "", estimators)
    _print("\nforward passes per dialogue and step: policy + reference + reward model\n", costs)
    _print("\nmethod.preset: the settings in which they differ\n", _preset_table())


def _sum(passes: Sequence[int]) -> str:
    return " + ".join(str(count) for count in passes)


def _preset_table() -> Table:
    rows = catalogue.preset_table()
    presets = list(next(iter(rows.values())))
    table = _table("setting", *presets)
    for key, row in rows.items():
        table.add_row(key, *(str(row[preset]) for preset in presets))
    return table


def show_tasks() -> None:
    """Every task with its presets."""
    table = _table("task", "presets")
    for name, presets in list_tasks().items():
        table.add_row(name, ", ".join(presets))
    _print(table, "\nturnwise tasks show NAME gives its knobs and an example dialogue")


def show_task(name: str, preset: str | None, seed: int) -> None:
    """One task: presets, the knobs of one of them, a demonstrator's dialogue.

    Raises ConfigError for an unknown task or preset.
    """
    presets = catalogue.task_presets(name)
    chosen = preset or ("medium" if "medium" in presets else presets[0])
    knobs = _table("knob", "value", "type")
    for knob in catalogue.task_knobs(name, chosen):
        knobs.add_row(knob.name, str(knob.value), knob.kind)
    dialogue = _table("", "")
    dialogue.show_header = False
    for message in catalogue.example_dialogue(name, chosen, seed):
        dialogue.add_row(message.role, Text(message.content))
    _print(f"task {name}: presets {', '.join(presets)}")
    if knobs.row_count:
        _print(f"\ntask.knobs as preset {chosen} sets them\n", knobs)
    _print(f"\na dialogue of the noisy demonstrator (seed {seed})\n", dialogue)


def show_findings(findings: Sequence[Finding]) -> None:
    """What the doctor saw, with advice where something is missing."""
    table = _table("", "what", "found", "to do")
    for one in findings:
        mark = Text("ok", style="green") if one.is_good else Text("!!", style="red")
        table.add_row(mark, one.what, one.found, "" if one.is_good else one.advice)
    _print(table)
