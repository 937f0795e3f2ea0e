"""A run becomes one page that loads nothing, hides nothing and says what is missing."""

import base64
import hashlib
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.analysis.fake_run import fake_run
from turnwise.analysis import write_report
from turnwise.errors import RunFolderError
from turnwise.records import RunFolder

ATTACK = "<script>alert('x')</script><img src=http://example.org onerror=alert(1)>"
TITLES = (
    "Success on held-out scenarios",
    "Training reward per dialogue",
    "Advantage size by turn",
    "Credit by turn: itpo-norm",
    "Order accuracy and trust",
    "Drift of the turn rewards",
    "Share of training dialogues by ending",
    "solved only after training",
    "config.toml",
)
STUDY_TITLES = (
    "Rank agreement with the exact information gain",
    "Rank agreement with the exact turn values",
    "Does an update of the reward model keep the order?",
    "Is the best turn the truly best, the worst the worst?",
    "Share of the advantage that is information",
    "Mean gain (nats)",
    "When does information count?",
    "What the gain was made of (shares)",
    "Mean gain by step and turn (nats)",
    "Explained variance of the returns",
    "Error of the critic",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return fake_run(tmp_path_factory.mktemp("runs") / "<b>demo & co", opening=ATTACK)


@pytest.fixture
def run(finished: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy that a test may damage."""
    shutil.copytree(finished.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def page_of(run: RunFolder) -> str:
    path = write_report(run.path)
    assert path == run.report
    return path.read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Which tags a page has, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_a_finished_run_has_every_part(run: RunFolder) -> None:
    page = page_of(run)
    assert "it became better" in page
    assert "Not in this report" not in page
    for title in TITLES:
        assert title in page, title
    for method in ("itpo", "itpo-norm", "oracle", "advantage"):
        assert f'value="{method}"' in page


def test_a_studied_run_shows_its_credit(finished: RunFolder) -> None:
    page = page_of(finished)
    for title in STUDY_TITLES:
        assert title in page, title
    assert "gain 0.250 · true gain 1.39 · fill gap" in page
    assert "no gain: last turn" in page
    assert "Of the group: std outcome 0.500 · gate 0.269." in page


def test_a_run_without_those_methods_says_nothing_of_them(tmp_path: Path) -> None:
    page = page_of(fake_run(tmp_path / "run", is_studied=False)).split("</style>")[1]
    for title in (*STUDY_TITLES, "Credit against", "information gain", "critic", "Of the group"):
        assert title not in page, title
    assert 'class="measures"' not in page


def test_what_was_said_is_text_and_never_markup(finished: RunFolder) -> None:
    page = page_of(finished)
    assert "&lt;script&gt;alert(" in page
    tags = Tags(page)
    assert sum(tag == "script" for tag, _ in tags.found) == 1
    assert not [tag for tag, _ in tags.found if tag == "img"]
    assert "<h1>&lt;b&gt;demo &amp; co</h1>" in page  # the folder's name is text too


def test_the_page_loads_nothing(finished: RunFolder) -> None:
    for tag, attributes in Tags(page_of(finished)).found:
        assert not {"src", "href", "style", "srcset", "action"} & set(attributes), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)


def test_the_policy_allows_the_pages_own_script_and_style_alone(finished: RunFolder) -> None:
    page = page_of(finished)
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert found
    policy = found.group(1).replace("&#39;", "'")
    for tag in ("script", "style"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
        checksum = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{checksum}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy


def test_the_report_is_the_same_each_time(run: RunFolder) -> None:
    assert page_of(run) == page_of(run)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("metrics.jsonl", "expected metrics at"),
        ("env.json", "env.json: there is none"),
        ("config.toml", "There is no config.toml"),
        ("eval/comparison.json", "may be chance"),
        ("eval/step_000060.json", "eval/step_000060.json: there is none"),
        ("trajectories/eval_000000.parquet", "dialogues before training in trajectories/"),
        ("trajectories/eval_000060.parquet", "dialogues after training in trajectories/"),
        ("trajectories/step_000060.parquet", "No training dialogues were saved"),
    ],
)
def test_a_missing_part_is_said_to_be_missing(run: RunFolder, part: str, message: str) -> None:
    (run.path / part).unlink()
    page = page_of(run)
    assert message in page
    assert "Not in this report" in page


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("metrics.jsonl", "was cut while it was being written"),
        ("eval/comparison.json", "comparison.json is not JSON"),
        ("trajectories/eval_000060.parquet", "is not a whole Parquet file"),
    ],
)
def test_a_cut_part_is_named_and_the_rest_is_shown(run: RunFolder, part: str, message: str) -> None:
    path = run.path / part
    path.write_bytes(path.read_bytes()[:-20])
    page = page_of(run)
    assert message in page
    assert "Success on held-out scenarios" in page


def test_a_comparison_of_an_earlier_evaluation_is_not_used(run: RunFolder) -> None:
    run.comparison.write_text(run.comparison.read_text().replace('"step": 60', '"step": 50'))
    page = page_of(run)
    assert "eval/comparison.json is of step 50, the last evaluation of 60" in page
    assert "may be chance" in page


def test_a_run_that_has_just_begun_has_a_report(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_config({"seed": 0})
    page = page_of(RunFolder(tmp_path))
    assert "no evaluation yet" in page
    assert "No evaluation and no training step was recorded." in page


def test_a_folder_that_is_no_run_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="expected the folder of a run"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []
