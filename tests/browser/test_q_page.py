"""A gate's page in headless Chromium: tables and charts can be seen, nothing else runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.analysis.test_q_page import ATTACK, shut
from tests.browser.test_report import looked_at, opened
from turnwise.analysis import render_q_page

LOOK = """
const seen = {charts: [], verdicts: {}, width: innerWidth, needs: document.body.scrollWidth};
for (const figure of document.querySelectorAll("figure")) {
  figure.scrollIntoView();
  const box = figure.querySelector("svg").getBoundingClientRect();
  const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 3);
  seen.charts.push({height: box.height, right: box.right, hit: figure.contains(hit)});
}
for (const row of document.querySelectorAll("#checks tbody tr")) {
  row.scrollIntoView();
  const cell = row.lastElementChild;
  seen.verdicts[row.querySelector("th").textContent] =
    {text: cell.textContent.trim(), height: cell.getBoundingClientRect().height,
     colour: getComputedStyle(cell.querySelector("span") || cell).color};
}
document.body.dataset.seen = JSON.stringify(seen);
"""


@pytest.fixture(scope="module")
def page() -> str:
    return render_q_page(replace(shut(), title=ATTACK))


@pytest.mark.parametrize("width", [1200, 400])
def test_checks_and_charts_can_be_seen(page: str, tmp_path: Path, width: int) -> None:
    seen = looked_at(page, tmp_path, LOOK, width=width)
    assert seen["needs"] <= seen["width"]  # nothing to scroll sideways
    assert len(seen["charts"]) == 2
    for chart in seen["charts"]:
        assert chart["height"] > 50 and chart["hit"] and chart["right"] < seen["width"]
    verdicts = seen["verdicts"]
    assert [verdicts[name]["text"] for name in ("G1", "G3", "G4")] == ["refuses", "off", "passes"]
    assert all(one["height"] > 10 for one in verdicts.values())
    assert len({verdicts[name]["colour"] for name in ("G1", "G3", "G4")}) == 3


def test_a_tenant_that_is_a_script_stays_text(page: str, tmp_path: Path) -> None:
    document, console = opened(page, tmp_path)
    assert console == []
    assert "&lt;script&gt;alert" in document and "tenant &lt;script&gt;" in document
