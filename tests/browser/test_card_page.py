"""The page of a data card in headless Chromium: everything can be seen, nothing foreign runs."""

from pathlib import Path

import pytest

from tests.analysis.test_card_page import card, group
from tests.browser.test_report import looked_at, opened
from turnwise.analysis import render_card

# Sizes of what is shown, written into the document, which is all that the browser hands back.
LOOK = """
const seen = {rows: [], charts: [], width: innerWidth, needs: document.body.scrollWidth};
for (const row of document.querySelectorAll("main tr")) {
  const box = row.getBoundingClientRect();
  seen.rows.push(box.width * box.height);
}
for (const figure of document.querySelectorAll("figure")) {
  const box = figure.querySelector("svg").getBoundingClientRect();
  seen.charts.push({height: box.height, right: box.right});
}
document.body.dataset.seen = JSON.stringify(seen);
"""


@pytest.mark.parametrize("width", [1200, 400])
def test_everything_can_be_seen(tmp_path: Path, width: int) -> None:
    seen = looked_at(render_card(card(), title="logs"), tmp_path, LOOK, width=width)
    assert seen["needs"] <= seen["width"]  # wide tables scroll in their own frame
    assert len(seen["rows"]) > 20 and min(seen["rows"]) > 500
    assert len(seen["charts"]) == 1
    assert seen["charts"][0]["height"] > 50 and seen["charts"][0]["right"] < seen["width"]


def test_a_script_in_the_name_of_a_tenant_does_not_run(tmp_path: Path) -> None:
    attack = "<script>document.body.dataset.attacked = 'yes'</script>"
    document, console = opened(
        render_card(card(tables={"tenant": [group(attack)]}), title=attack), tmp_path
    )
    assert "data-attacked" not in document
    assert console == []
