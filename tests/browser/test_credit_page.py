"""The page of several credits in headless Chromium: everything can be seen, nothing else runs."""

from pathlib import Path

import pytest

from tests.analysis.test_credit_page import METHODS, fake_records, page_of
from tests.browser.test_report import looked_at, opened

# What can be seen, written into the document, which is all that the browser hands back.
LOOK = """
const seen = {fields: {}, charts: [], marks: [], width: innerWidth,
              needs: document.body.scrollWidth};
for (const field of document.querySelectorAll(".matrix td[title]")) {
  field.scrollIntoView();
  const box = field.getBoundingClientRect();
  seen.fields[field.title] = {colour: getComputedStyle(field).backgroundColor,
                              area: box.width * box.height};
}
for (const figure of document.querySelectorAll("figure")) {
  figure.scrollIntoView();
  const box = figure.querySelector("svg").getBoundingClientRect();
  const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 3);
  seen.charts.push({height: box.height, right: box.right, hit: figure.contains(hit)});
}
for (const mark of document.querySelectorAll(".marks div")) {
  const box = mark.getBoundingClientRect();
  seen.marks.push({name: mark.className, right: box.right, height: box.height,
                   colour: getComputedStyle(mark).backgroundColor});
}
document.body.dataset.seen = JSON.stringify(seen);
"""


@pytest.fixture(scope="module")
def page() -> str:
    return page_of(fake_records(opening="<b>please</b> book a table"), METHODS)


@pytest.mark.parametrize("width", [1200, 400])
def test_everything_can_be_seen(page: str, tmp_path: Path, width: int) -> None:
    seen = looked_at(page, tmp_path, LOOK, width=width)
    assert seen["needs"] <= seen["width"]  # nothing to scroll sideways
    assert len(seen["fields"]) == len(METHODS) * (len(METHODS) + 2)  # and the two truths
    assert all(field["area"] > 500 for field in seen["fields"].values())
    assert len(seen["charts"]) == len(METHODS)
    for chart in seen["charts"]:
        assert chart["height"] > 50 and chart["hit"] and chart["right"] < seen["width"]
    for mark in seen["marks"]:
        assert mark["height"] > 10 and mark["right"] < seen["width"]


def test_a_number_has_one_colour_wherever_it_stands(page: str, tmp_path: Path) -> None:
    seen = looked_at(page, tmp_path, LOOK, width=1200)
    colours: dict[str, set[str]] = {}
    for mark in seen["marks"]:
        colours.setdefault(mark["name"], set()).add(mark["colour"])
    assert all(len(of_class) == 1 for of_class in colours.values())
    assert len({colour for of_class in colours.values() for colour in of_class}) == len(colours)
    itself = seen["fields"]["itpo with itself"]["colour"]
    assert itself == "rgba(33, 113, 181, 0.62)"


def test_text_stays_text_and_a_foreign_script_does_not_run(page: str, tmp_path: Path) -> None:
    attacked = page.replace(
        "</main>", "</main><script>document.body.dataset.attacked = 'yes';</script>"
    )
    document, console = opened(attacked, tmp_path)
    assert "data-attacked" not in document
    assert any("Content Security Policy" in line for line in console)
    assert "&lt;b&gt;please&lt;/b&gt; book a table" in document
