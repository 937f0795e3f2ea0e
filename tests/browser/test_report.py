"""The report in headless Chromium: its script runs, its switches switch, nothing else may."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.analysis.fake_run import fake_run
from turnwise.analysis import write_report


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = fake_run(tmp_path_factory.mktemp("runs") / "demo", opening="<b>please</b> book a table")
    return write_report(run.path).read_text(encoding="utf-8")


def opened(page: str, folder: Path) -> tuple[str, list[str]]:
    """The document after its script ran, and what the browser's console said."""
    chromium = shutil.which("chromium")
    assert chromium, "chromium is missing: install it to run these tests"
    (folder / "page.html").write_text(page, encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    flags += "--disable-component-update --disable-sync --enable-logging=stderr --dump-dom"
    done = subprocess.run(
        [chromium, *flags.split(), f"--user-data-dir={folder / 'profile'}",
         (folder / "page.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


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


def test_a_foreign_script_does_not_run(page: str, tmp_path: Path) -> None:
    attacked = page.replace(
        "</main>", "</main><script>document.body.dataset.attacked = 'yes';</script>"
    )
    document, console = opened(attacked, tmp_path)
    assert "data-attacked" not in document
    assert any("Content Security Policy" in line for line in console)
