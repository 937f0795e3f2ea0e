"""Small charts as inline SVG: no library, no network, colours from the page's style sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

Point = tuple[float, float]

WIDTH, HEIGHT = 460, 210
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 30
COLOURS = 8  # classes s0..s7 of the style sheet
SMOOTH_FROM, WINDOW = 20, 5


@dataclass(frozen=True)
class Line:
    """One series; by default its place in the chart's list decides its colour."""

    name: str
    points: Sequence[Point]  # step, value
    band: Sequence[tuple[float, float, float]] = ()  # step, low, high
    is_noisy: bool = False  # one value a training step: drawn faint, with a moving mean
    colour: int | None = None  # 0..7; two series that belong together share one
    is_dashed: bool = False


@dataclass(frozen=True)
class Level:
    """A horizontal line to compare with."""

    name: str
    value: float


@dataclass(frozen=True)
class Frame:
    """Where numbers lie on the page."""

    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    note: str = "",
    levels: Sequence[Level] = (),
    limits: tuple[float | None, float | None] = (None, None),
    along: str = "step",
) -> Markup:
    """A figure with one line for each series that has a point; empty text if none has.

    note: a sentence under the title. limits: lower and upper end of the vertical axis; None = as
    the data say. along: what the horizontal axis counts.
    """
    drawn = [line for line in lines if line.points]
    if not drawn:
        return Markup("")
    frame = _frame(drawn, levels, limits)
    body = [_axes(frame, along), *(_level(frame, level) for level in levels)]
    styles = [_style(i, line) for i, line in enumerate(drawn)]
    body += [
        _line(frame, style, line, along, is_alone=len(drawn) == 1)
        for style, line in zip(styles, drawn, strict=True)
    ]
    keys = [
        _key(style, line.name, line.points[-1][1])
        for style, line in zip(styles, drawn, strict=True)
    ]
    keys += [_key("level", level.name, level.value) for level in levels]
    if any(_is_smoothed(line) for line in drawn):
        note = f"{note} Lines are means of {WINDOW} steps.".strip()
    return figure(title, note, body, _joined_keys(keys))


def stacked_chart(title: str, lines: Sequence[Line]) -> Markup:
    """Shares of a whole over time, one layer a series; a step's values are scaled to sum to 1."""
    steps = sorted({x for line in lines for x, _ in line.points})
    layers = [{x: max(y, 0.0) for x, y in line.points} for line in lines]
    steps = [x for x in steps if sum(layer.get(x, 0.0) for layer in layers) > 0]
    if not steps:
        return Markup("")
    if len(steps) == 1:  # as wide as a step, or it could not be seen
        layers = [
            dict.fromkeys((steps[0], steps[0] + 1), layer.get(steps[0], 0.0)) for layer in layers
        ]
        steps = [steps[0], steps[0] + 1]
    frame = Frame((steps[0], steps[-1]), (0.0, 1.0))
    whole = [sum(layer.get(x, 0.0) for layer in layers) for x in steps]
    body, keys, below = [], [], [0.0] * len(steps)
    for i, (line, layer) in enumerate(zip(lines, layers, strict=True)):
        share = [layer.get(x, 0.0) / w for x, w in zip(steps, whole, strict=True)]
        above = [b + s for b, s in zip(below, share, strict=True)]
        edge = [frame.at(x, y) for x, y in zip(steps, above, strict=True)]
        edge += [frame.at(x, y) for x, y in reversed(list(zip(steps, below, strict=True)))]
        body.append(_polygon(f"layer s{i % COLOURS}", edge, line.name))
        keys.append(_key(f"s{i % COLOURS}", line.name, share[-1]))
        below = above
    return figure(title, "", [*body, _axes(frame, "step")], _joined_keys(keys))


def moving_mean(points: Sequence[Point], window: int) -> list[Point]:
    """Each value's mean with up to `window` − 1 values before it."""
    out = []
    for i, (x, _) in enumerate(points):
        recent = [y for _, y in points[max(0, i - window + 1) : i + 1]]
        out.append((x, math.fsum(recent) / len(recent)))
    return out


def ticks(low: float, high: float, *, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from low to high."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    gap = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / gap - 1e-9), math.floor(high / gap + 1e-9)
    return [i * gap for i in range(first, last + 1)]


def shown(value: float) -> str:
    """A number for reading: three significant digits, thousands with a comma, a true minus."""
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e6):
        text = f"{value:.1e}"
    elif abs(value) >= 1000:
        text = f"{value:,.0f}"
    elif float(value).is_integer():
        text = f"{value:.0f}"
    else:
        text = f"{value:.{2 - min(math.floor(math.log10(abs(value))), 2)}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def label(x: float, y: float, text: str, anchor: str) -> Markup:
    """Words in a picture; anchor: "start", "middle" or "end" of them stands at x."""
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def figure(
    title: str,
    note: str,
    body: Sequence[Markup],
    below: Markup,
    *,
    height: int = HEIGHT,
) -> Markup:
    """A picture under its title and a sentence; what explains it stands below."""
    caption = Markup("<figcaption>{}{}</figcaption>").format(
        title, Markup("<small>{}</small>").format(note) if note else ""
    )
    svg = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, title, Markup("").join(body)
    )
    return Markup('<figure class="chart">{}{}{}</figure>').format(caption, svg, below)


def _style(index: int, line: Line) -> str:
    colour = index if line.colour is None else line.colour
    return f"s{colour % COLOURS}{' dashed' if line.is_dashed else ''}"


def _tick(value: float) -> str:
    return f"{round(value, 10):g}".replace("-", "\N{MINUS SIGN}")


def _frame(
    lines: Sequence[Line],
    levels: Sequence[Level],
    limits: tuple[float | None, float | None],
) -> Frame:
    xs = [x for line in lines for x, _ in line.points]
    seen = [line.points if len(lines) == 1 else _smooth(line) for line in lines]
    ys = [y for points in seen for _, y in points] + [level.value for level in levels]
    ys += [y for line in lines for _, *ends in line.band for y in ends]
    low, high = min(ys), max(ys)
    pad = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    low = low - pad if limits[0] is None else min(low, limits[0])
    high = high + pad if limits[1] is None else max(high, limits[1])
    return Frame((min(xs), max(*xs, min(xs) + 1)), (low, high if high > low else low + 1.0))


def _axes(frame: Frame, along: str) -> Markup:
    parts = []
    for y in ticks(*frame.y):
        px, py = frame.at(frame.x[0], y)
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                px, WIDTH - RIGHT, py, py
            )
        )
        parts.append(label(px - 6, py + 4, _tick(y), "end"))
    for x in ticks(*frame.x, about=6):
        if x == int(x):
            px, py = frame.at(x, frame.y[0])
            parts.append(label(px, py + 15, _tick(x), "middle"))
    parts.append(label(WIDTH - RIGHT, HEIGHT - 2, along, "end"))
    return Markup("").join(parts)


def _line(frame: Frame, style: str, line: Line, along: str, *, is_alone: bool) -> Markup:
    parts = []
    if line.band:
        edge = [frame.at(x, high) for x, _, high in line.band]
        edge += [frame.at(x, low) for x, low, _ in reversed(line.band)]
        parts.append(_polygon(f"band {style}", edge, f"{line.name}: 95 % interval"))
    if _is_smoothed(line) and is_alone:
        parts.append(_polyline(f"faint {style}", [frame.at(*point) for point in line.points]))
    parts.append(_polyline(f"line {style}", [frame.at(*point) for point in _smooth(line)]))
    interval = {x: f" ({shown(low)} to {shown(high)})" for x, low, high in line.band}
    for x, y in _smooth(line):
        px, py = frame.at(x, y)
        said = f"{line.name}, {along} {shown(x)}: {shown(y)}{interval.get(x, '')}"
        is_spot = line.is_noisy and len(line.points) > 1  # shown under the pointer only
        parts.append(
            Markup('<circle class="{}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
                f"{'spot' if is_spot else 'dot'} {style}", px, py, 2.5 if is_spot else 3.5, said
            )
        )
    return Markup("").join(parts)


def _smooth(line: Line) -> list[Point]:
    return moving_mean(line.points, WINDOW) if _is_smoothed(line) else list(line.points)


def _is_smoothed(line: Line) -> bool:
    return line.is_noisy and len(line.points) >= SMOOTH_FROM


def _level(frame: Frame, level: Level) -> Markup:
    left, y = frame.at(frame.x[0], level.value)
    return Markup(
        '<line class="level" x1="{}" x2="{}" y1="{}" y2="{}"><title>{}</title></line>'
    ).format(left, WIDTH - RIGHT, y, y, f"{level.name}: {shown(level.value)}")


def _polyline(style: str, points: Sequence[tuple[float, float]]) -> Markup:
    return Markup('<polyline class="{}" points="{}"/>').format(style, _joined(points))


def _polygon(style: str, points: Sequence[tuple[float, float]], name: str) -> Markup:
    return Markup('<polygon class="{}" points="{}"><title>{}</title></polygon>').format(
        style, _joined(points), name
    )


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)


def _joined_keys(keys: Sequence[Markup]) -> Markup:
    return Markup('<div class="keys">{}</div>').format(Markup("").join(keys))


def _key(style: str, name: str, last: float) -> Markup:
    return Markup('<span class="key"><i class="{}"></i>{} <b>{}</b></span>').format(
        style, name, shown(last)
    )
