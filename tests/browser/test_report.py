"""The report in headless Chromium: its script runs, its switches switch, nothing else may."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any  # what JSON holds

import pytest

from tests.analysis.fake_run import fake_run
from turnwise.analysis import write_report


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = fake_run(tmp_path_factory.mktemp("runs") / "demo", opening="<b>please</b> book a table")
    return write_report(run.path).read_text(encoding="utf-8")


def opened(page: str, folder: Path, *, width: int = 1200) -> tuple[str, list[str]]:
    """The document after its script ran, and what the browser's console said."""
    chromium = shutil.which("chromium")
    assert chromium, "chromium is missing: install it to run these tests"
    (folder / "page.html").write_text(page, encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    flags += "--disable-component-update --disable-sync --enable-logging=stderr --dump-dom "
    flags += f"--window-size={width},900"
    done = subprocess.run(
        [chromium, *flags.split(), f"--user-data-dir={folder / 'profile'}",
         (folder / "page.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


# What can be seen: of each chart its size and whether its middle is covered; of the heat map's
# fields their colours. Written into the document, which is all that the browser hands back.
LOOK = """
const seen = {charts: {}, fields: {}, width: innerWidth, needs: document.body.scrollWidth};
for (const figure of document.querySelectorAll("[id^=credit-] figure")) {
  figure.scrollIntoView();
  const box = figure.querySelector("svg").getBoundingClientRect();
  const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 3);
  seen.charts[figure.querySelector("svg").getAttribute("aria-label")] =
    {left: box.left, right: box.right, height: box.height, hit: figure.contains(hit)};
}
for (const shape of document.querySelectorAll(".field, .nothing")) {
  const box = shape.getBoundingClientRect();
  const fill = getComputedStyle(shape.querySelector("rect") || shape).fill;
  seen.fields[shape.querySelector("title").textContent] =
    {fill, opacity: shape.getAttribute("fill-opacity"), area: box.width * box.height};
}
document.body.dataset.seen = JSON.stringify(seen);
"""


def looked_at(page: str, folder: Path, look: str, *, width: int) -> dict[str, Any]:
    """What the script `look` saw; the page's policy is told to let that one run too."""
    checksum = base64.b64encode(hashlib.sha256(look.encode()).digest()).decode()
    looking = page.replace("script-src ", f"script-src &#39;sha256-{checksum}&#39; ")
    looking = looking.replace("</main>", f"</main><script>{look}</script>")
    document, console = opened(looking, folder, width=width)
    assert console == []
    (found,) = re.findall(r'data-seen="([^"]*)"', document)
    seen: dict[str, Any] = json.loads(unescape(found))
    return seen


def marks_in(document: str, gallery: str) -> list[str]:
    section = document.split(f'id="{gallery}"')[1].split("</section>")[0]
    return re.findall(r'<b class="mark">([^<]*)</b>', section)


def test_charts_and_dialogues_are_there_and_the_console_is_silent(
    page: str, tmp_path: Path
) -> None:
    document, console = opened(page, tmp_path)
    assert console == []
    assert document.count("<svg") >= 15
    assert document.count("<polyline") >= 30
    assert 'id="dialogues" class="gallery" data-shown="itpo"' in document
    assert 'id="siblings" class="gallery" data-shown="itpo"' in document
    assert "&lt;b&gt;please&lt;/b&gt; book a table" in document


def test_a_switch_changes_numbers_colours_and_scale(page: str, tmp_path: Path) -> None:
    # The file has another switch set; only the script can make the rest follow it.
    switched = page.replace('name="pairs" value="itpo" checked', 'name="pairs" value="itpo"')
    switched = switched.replace(
        'name="pairs" value="oracle"', 'name="pairs" value="oracle" checked'
    )
    assert switched != page
    document, console = opened(switched, tmp_path)
    assert console == []
    assert 'id="dialogues" class="gallery" data-shown="oracle"' in document
    assert marks_in(document, "dialogues") != marks_in(page, "dialogues")
    assert marks_in(document, "siblings") == marks_in(page, "siblings")
    assert {"+0.167", "+0.500"} <= set(marks_in(document, "dialogues"))
    scales = re.findall(r'data-scale="([^"]*)"( hidden)?', document.split('id="siblings"')[0])
    assert [method for method, hidden in scales if not hidden] == ["oracle"]


@pytest.mark.parametrize("width", [1200, 400])
def test_charts_of_credit_can_be_seen(page: str, tmp_path: Path, width: int) -> None:
    seen = looked_at(page, tmp_path, LOOK, width=width)
    assert seen["needs"] <= seen["width"]  # nothing to scroll sideways
    assert {
        "Rank agreement with the exact information gain",
        "Rank agreement with the exact turn values",
        "Does an update of the reward model keep the order?",
        "Mean gain by step and turn (nats)",
    } <= set(seen["charts"])
    for title, chart in seen["charts"].items():
        assert 0 < chart["left"] < chart["right"] < seen["width"], title
        assert chart["height"] > 50 and chart["hit"], title


def test_the_heat_map_tells_more_from_less_from_nothing(page: str, tmp_path: Path) -> None:
    fields = looked_at(page, tmp_path, LOOK, width=1200)["fields"]
    orange, blue = "rgb(217, 95, 2)", "rgb(33, 113, 181)"
    for said, field in fields.items():
        assert field["area"] > 50, said
        if "(turns:" in said:
            is_negative = said.split(": ")[1].startswith("\N{MINUS SIGN}")
            assert field["fill"] == (orange if is_negative else blue), said
    strengths = {field["opacity"] for field in fields.values()}
    assert "0.0" in strengths and "1.0" in strengths
    missing = [field["fill"] for said, field in fields.items() if "nothing measured" in said]
    assert len(missing) == 5 + 1 and not {orange, blue} & set(missing)  # and the legend's


def test_a_foreign_script_does_not_run(page: str, tmp_path: Path) -> None:
    attacked = page.replace(
        "</main>", "</main><script>document.body.dataset.attacked = 'yes';</script>"
    )
    document, console = opened(attacked, tmp_path)
    assert "data-attacked" not in document
    assert any("Content Security Policy" in line for line in console)
