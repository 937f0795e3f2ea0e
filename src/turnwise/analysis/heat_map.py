"""A table of means over steps as colours, with its numbers beside it as text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from turnwise.analysis.charts import LEFT, RIGHT, TOP, WIDTH, figure, label, shown, ticks
from turnwise.analysis.dialogues import SHOWN_SHARE

MOST_COLUMNS, MOST_ROWS = 40, 12
ROW = 18  # height of a row
SWATCHES = 11  # of the legend, from the most negative to the most positive


@dataclass(frozen=True)
class Cell:
    """A mean at one step."""

    step: int
    row: int  # from 0
    mean: float
    count: int  # what it is the mean of, 1 or more


@dataclass(frozen=True)
class _Grid:
    """Cells of neighbouring steps taken together, so that columns can be seen."""

    first: int  # step of the first column
    width: int  # steps of a column
    num_columns: int
    num_rows: int
    mean: dict[tuple[int, int], float]  # (row, column); without an entry nothing was measured
    count: dict[tuple[int, int], int]

    def steps(self, column: int) -> str:
        start = self.first + column * self.width
        last = start + self.width - 1
        return f"step {start}" if start == last else f"steps {start} to {last}"


def heat_map(title: str, cells: Sequence[Cell], *, note: str, row: str, counted: str) -> Markup:
    """A field for each row and step: blue above zero, orange below, crossed out where nothing was
    measured; every field says its numbers, and a table holds them again. Empty text without cells.

    row: what a row is, "turn". counted: what the means are of, "turns".
    Rows beyond the first 12 are left out, and the note says so. The colours reach as far as 95 %
    of the fields.
    """
    seen = [cell for cell in cells if cell.row < MOST_ROWS]
    if not seen:
        return Markup("")
    if len(seen) < len(cells):
        note += f" Only the first {MOST_ROWS} {row}s are shown."
    grid = _grid(seen)
    limit = float(np.percentile([abs(mean) for mean in grid.mean.values()], SHOWN_SHARE)) or 1.0
    body = [
        *(label(LEFT - 6, TOP + r * ROW + 13, str(r + 1), "end") for r in range(grid.num_rows)),
        label(0, TOP + 13, row, "start"),
        *(
            _field(grid, (r, c), limit, f"{row} {r + 1}", counted)
            for r in range(grid.num_rows)
            for c in range(grid.num_columns)
        ),
        *_step_labels(grid),
        _legend(TOP + grid.num_rows * ROW + 26, limit),
    ]
    height = TOP + grid.num_rows * ROW + 46
    return figure(title, note, body, _table(grid, title, row, counted), height=height)


def _grid(cells: Sequence[Cell]) -> _Grid:
    first, last = min(cell.step for cell in cells), max(cell.step for cell in cells)
    width = math.ceil((last - first + 1) / MOST_COLUMNS)
    total: dict[tuple[int, int], float] = {}
    count: dict[tuple[int, int], int] = {}
    for cell in cells:
        place = cell.row, (cell.step - first) // width
        total[place] = total.get(place, 0.0) + cell.mean * cell.count
        count[place] = count.get(place, 0) + cell.count
    mean = {place: value / count[place] for place, value in total.items()}
    num_columns = (last - first) // width + 1
    return _Grid(first, width, num_columns, max(cell.row for cell in cells) + 1, mean, count)


def _field(
    grid: _Grid, place: tuple[int, int], limit: float, row_name: str, counted: str
) -> Markup:
    wide = (WIDTH - LEFT - RIGHT) / grid.num_columns
    x, y = round(LEFT + place[1] * wide, 1), TOP + place[0] * ROW
    mean, where = grid.mean.get(place), f"{row_name}, {grid.steps(place[1])}"
    if mean is None:
        return _empty(x, y, round(wide, 1), f"{where}: nothing measured")
    said = f"{where}: {shown(mean)} ({counted}: {grid.count[place]})"
    return _filled(x, y, round(wide, 1), mean / limit, said)


def _filled(x: float, y: float, wide: float, part: float, said: str) -> Markup:
    """part: of the strongest colour, which −1 and 1 have and what lies beyond keeps."""
    return Markup(
        '<rect class="field {}" x="{}" y="{}" width="{}" height="{}" fill-opacity="{}">'
        "<title>{}</title></rect>"
    ).format("minus" if part < 0 else "plus", x, y, wide, ROW, round(min(abs(part), 1.0), 3), said)


def _empty(x: float, y: float, wide: float, said: str) -> Markup:
    return Markup(
        '<g class="nothing"><title>{}</title><rect x="{}" y="{}" width="{}" height="{}"/>'
        '<line x1="{}" y1="{}" x2="{}" y2="{}"/></g>'
    ).format(said, x, y, wide, ROW, x, y + ROW, round(x + wide, 1), y)


def _step_labels(grid: _Grid) -> list[Markup]:
    y, end = TOP + grid.num_rows * ROW + 15, grid.first + grid.num_columns * grid.width
    across = (WIDTH - LEFT - RIGHT) / (end - grid.first)
    whole = [int(x) for x in ticks(grid.first, end, about=6) if x == int(x) and x < end]
    return [
        label(0, y, "step", "start"),
        *(
            label(round(LEFT + (step - grid.first + 0.5) * across, 1), y, str(step), "middle")
            for step in whole
        ),
    ]


def _legend(y: float, limit: float) -> Markup:
    """From the most negative colour to the most positive, then the sign for nothing."""
    x, wide, middle = LEFT + 44, 14, SWATCHES // 2
    parts = [label(x - 6, y + 13, shown(-limit), "end")]
    for i in range(SWATCHES):
        part = (i - middle) / middle
        parts.append(_filled(x + i * wide, y, wide, part, shown(part * limit)))
    after = x + SWATCHES * wide + 6
    parts.append(label(after, y + 13, f"+{shown(limit)}", "start"))
    parts.append(_empty(after + 60, y, wide, "nothing measured"))
    parts.append(label(after + 80, y + 13, "nothing measured", "start"))
    return Markup("").join(parts)


def _table(grid: _Grid, title: str, row: str, counted: str) -> Markup:
    """The same numbers for those who read or hear them."""
    head = Markup("").join(
        Markup('<th scope="col">{} {}</th>').format(row, r + 1) for r in range(grid.num_rows)
    )
    lines = [
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            grid.steps(c), Markup("").join(_number(grid, (r, c)) for r in range(grid.num_rows))
        )
        for c in range(grid.num_columns)
    ]
    return Markup(
        '<details><summary>Numbers</summary><div class="wide"><table>'
        "<caption>{}, with the number of {}</caption>"
        "<thead><tr><td></td>{}</tr></thead><tbody>{}</tbody></table></div></details>"
    ).format(title, counted, head, Markup("").join(lines))


def _number(grid: _Grid, place: tuple[int, int]) -> Markup:
    if place not in grid.mean:
        return Markup("<td>\N{EN DASH}</td>")
    return Markup("<td>{} <small>({})</small></td>").format(
        shown(grid.mean[place]), grid.count[place]
    )
