"""A heat map's colours are its numbers, nothing measured is no zero, and all can be read."""

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.analysis.heat_map import Cell, heat_map

cells = st.lists(
    st.builds(
        Cell,
        step=st.integers(1, 2000),
        row=st.integers(0, 15),
        mean=st.floats(-1e6, 1e6),
        count=st.integers(1, 1000),
    ),
    min_size=1,
    max_size=40,
    unique_by=lambda cell: (cell.step, cell.row),
)

Field = tuple[str, str, str]  # sign, opacity, what it says


def drawn(found: list[Cell]) -> str:
    return heat_map("t", found, note="Nats.", row="turn", counted="turns")


def fields_of(chart: str) -> list[Field]:
    form = r'<rect class="field (\w+)"[^>]*fill-opacity="([\d.]+)"><title>([^<]*)</title>'
    return [found for found in re.findall(form, chart) if "turn" in found[2]]  # not the legend's


def nothing_in(chart: str) -> list[str]:
    return re.findall(r'<g class="nothing"><title>([^<]*)</title>', chart)[:-1]  # nor its key


def test_colours_by_hand() -> None:
    # The sizes 0.1, 0.2, 0 and 0.2 have the 95th percentile 0.2, so 0.1 is half of the colour.
    found = [Cell(1, 0, 0.1, 4), Cell(2, 0, -0.2, 3), Cell(1, 1, 0.0, 2), Cell(2, 1, 0.2, 1)]
    assert fields_of(drawn(found)) == [
        ("plus", "0.5", "turn 1, step 1: 0.100 (turns: 4)"),
        ("minus", "1.0", "turn 1, step 2: \N{MINUS SIGN}0.200 (turns: 3)"),
        ("plus", "0.0", "turn 2, step 1: 0 (turns: 2)"),
        ("plus", "1.0", "turn 2, step 2: 0.200 (turns: 1)"),
    ]


def test_nothing_measured_is_not_zero() -> None:
    chart = drawn([Cell(1, 0, 0.0, 2), Cell(3, 1, 0.5, 1)])
    assert [said for _, _, said in fields_of(chart)] == [
        "turn 1, step 1: 0 (turns: 2)",
        "turn 2, step 3: 0.500 (turns: 1)",
    ]
    assert nothing_in(chart) == [
        "turn 1, step 2: nothing measured",
        "turn 1, step 3: nothing measured",
        "turn 2, step 1: nothing measured",
        "turn 2, step 2: nothing measured",
    ]


def test_neighbouring_steps_are_taken_together_by_their_counts() -> None:
    # 80 steps in 40 columns: steps 1 and 2 hold 3 gains of 0.1 and 1 of 0.5, so 0.8 / 4 = 0.2.
    chart = drawn([Cell(1, 0, 0.1, 3), Cell(2, 0, 0.5, 1), Cell(80, 0, 1.0, 1)])
    assert "turn 1, steps 1 to 2: 0.200 (turns: 4)" in chart
    assert len(fields_of(chart)) + len(nothing_in(chart)) == 40


@given(found=cells)
@settings(deadline=None, max_examples=30)
def test_every_field_lies_inside_and_has_its_number_in_the_table(found: list[Cell]) -> None:
    chart = drawn(found)
    if all(cell.row >= 12 for cell in found):
        assert chart == ""
        return
    page = ET.fromstring(chart)  # well formed
    svg = page.find("svg")
    assert svg is not None
    wide, high = (float(end) for end in svg.attrib["viewBox"].split()[2:])
    for rect in svg.iter("rect"):
        left, top = float(rect.attrib["x"]), float(rect.attrib["y"])
        assert left >= 0 and left + float(rect.attrib["width"]) <= wide + 0.1
        assert top >= 0 and top + float(rect.attrib["height"]) <= high
    numbers = [td for td in page.iter("td") if td.find("small") is not None]
    assert len(numbers) == len(fields_of(chart)) > 0
    assert ("Only the first 12 turns" in chart) == any(cell.row >= 12 for cell in found)


def test_without_a_cell_there_is_no_map() -> None:
    assert drawn([]) == ""


@pytest.mark.parametrize("word", ["<b>", "&"])
def test_words_are_text(word: str) -> None:
    chart = heat_map(word, [Cell(1, 0, 1.0, 1)], note=word, row=word, counted=word)
    ET.fromstring(chart)
    assert "<b>" not in chart
