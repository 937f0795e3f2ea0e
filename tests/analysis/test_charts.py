"""A chart shows the numbers it was given, and its words are never markup."""

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.analysis.charts import (
    Level,
    Line,
    line_chart,
    moving_mean,
    shown,
    stacked_chart,
    ticks,
)

points = st.lists(
    st.tuples(st.integers(0, 1000).map(float), st.floats(-1e6, 1e6)),
    min_size=1,
    max_size=30,
    unique_by=lambda point: point[0],
).map(sorted)


def coordinates(svg: str, tag: str) -> list[tuple[float, float]]:
    found = re.search(rf'<{tag} class="[^"]*" points="([^"]*)"', svg)
    assert found
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in found.group(1).split())]


def test_a_line_by_hand() -> None:
    # Area: x from 48 to 448 for steps 0 to 10, y from 180 (value 0) to 12 (value 1).
    chart = line_chart("t", [Line("a", [(0, 0.0), (5, 0.5), (10, 1.0)])], limits=(0.0, 1.0))
    assert coordinates(chart, "polyline") == [(48, 180), (248, 96), (448, 12)]


@given(table=points, level=st.floats(-1e6, 1e6))
@settings(deadline=None)
def test_everything_lies_inside_the_picture(table: list[tuple[float, float]], level: float) -> None:
    chart = line_chart("t", [Line("a", table, is_noisy=True)], levels=[Level("l", level)])
    ET.fromstring(chart)  # well formed
    for x, y in coordinates(chart, "polyline"):
        assert 48 <= x <= 448 and 12 <= y <= 180


def test_a_band_goes_there_and_back() -> None:
    line = Line("a", [(0, 0.5), (10, 0.5)], band=[(0, 0.0, 1.0), (10, 0.0, 1.0)])
    chart = line_chart("t", [line], limits=(0.0, 1.0))
    edge = coordinates(chart, "polygon")
    assert edge[0][1] == edge[1][1] < edge[2][1] == edge[3][1]
    assert "step 10: 0.500 (0 to 1)" in chart


def test_long_noisy_lines_are_smoothed_and_say_so() -> None:
    noisy = [(float(i), float(i % 2)) for i in range(40)]
    chart = line_chart("t", [Line("a", noisy, is_noisy=True)])
    assert "Lines are means of 5 steps." in chart
    assert 'class="faint s0"' in chart
    assert "means of" not in line_chart("t", [Line("a", noisy[:10], is_noisy=True)])


def test_a_single_step_can_be_seen() -> None:
    assert 'class="dot s0"' in line_chart("t", [Line("a", [(7, 0.5)], is_noisy=True)])
    chart = stacked_chart("t", [Line("a", [(7, 1.0)]), Line("b", [(7, 3.0)])])
    assert coordinates(chart, "polygon")[:2] == [(48, 138), (448, 138)]


def test_without_a_point_there_is_no_chart() -> None:
    assert line_chart("t", [Line("a", [])]) == ""
    assert stacked_chart("t", [Line("a", [])]) == ""
    assert stacked_chart("t", [Line("a", [(1, 0.0)])]) == ""


def test_layers_fill_the_whole() -> None:
    # Counts 1 and 3 are shares 0.25 and 0.75: the layers meet at 180 − 0.25·168 = 138.
    chart = stacked_chart("t", [Line("a", [(1, 1.0), (2, 1.0)]), Line("b", [(1, 3.0), (2, 3.0)])])
    edges = re.findall(r'class="layer s(\d)" points="([^"]*)"', chart)
    assert edges == [
        ("0", "48.0,138.0 448.0,138.0 448.0,180.0 48.0,180.0"),
        ("1", "48.0,12.0 448.0,12.0 448.0,138.0 48.0,138.0"),
    ]


def test_two_lines_may_share_a_colour_and_be_told_apart() -> None:
    pair = [
        Line("a", [(0, 1.0)], colour=3),
        Line("b", [(0, 2.0), (1, 2.0)], colour=3, is_dashed=True),
    ]
    chart = line_chart("t", pair)
    assert '<i class="s3"></i>a' in chart and '<i class="s3 dashed"></i>b' in chart
    assert '<polyline class="line s3 dashed"' in chart


def test_names_are_text() -> None:
    chart = line_chart("<b>t</b>", [Line("<script>", [(0, 1.0)])], note="a & b")
    assert "<script>" not in chart and "<b>t" not in chart
    assert "&lt;script&gt;" in chart and "a &amp; b" in chart


def test_moving_mean_by_hand() -> None:
    assert moving_mean([(0, 1.0), (1, 3.0), (2, 8.0)], 2) == [(0, 1.0), (1, 2.0), (2, 5.5)]


@given(low=st.floats(-1e6, 1e6), size=st.floats(1e-3, 1e6))
@settings(deadline=None)
def test_ticks_are_few_and_inside(low: float, size: float) -> None:
    found = ticks(low, low + size)
    assert 1 <= len(found) <= 7
    slack = 1e-6 * size + 1e-9 * abs(low)
    assert low - slack <= found[0] and found[-1] <= low + size + slack


def test_ticks_by_hand() -> None:
    assert ticks(0.0, 1.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(0.0, 60.0, about=6) == [0, 10, 20, 30, 40, 50, 60]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (3.0, "3"),
        (0.12345, "0.123"),
        (-0.5, "\N{MINUS SIGN}0.500"),
        (12.345, "12.3"),
        (123.456, "123"),
        (12345.6, "12,346"),
        (0.00012, "1.2e\N{MINUS SIGN}04"),
    ],
)
def test_numbers_are_readable(value: float, text: str) -> None:
    assert shown(value) == text
