"""Plain tables on stdout; text from dialogues, logs or settings is never read as markup."""

from collections.abc import Sequence

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_parts(*parts: Table | Text | str) -> None:
    """Each part on a line of its own, or more."""
    console = Console(highlight=False, markup=False, soft_wrap=False)
    for part in parts:
        console.print(part)


def plain_table(first: str, *columns: str) -> Table:
    """A table without lines whose first column is never folded."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def show_warnings(warnings: Sequence[str]) -> None:
    """Each on a line of its own, however long, after an empty one."""
    for text in warnings and ["", *(f"warning: {text}" for text in warnings)]:
        typer.echo(text)
