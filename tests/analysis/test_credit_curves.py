"""What a run recorded of its credit is shown; what it did not record is not mentioned."""

import pytest

from turnwise.analysis.credit_curves import credit_chapters
from turnwise.analysis.run_records import Row

METRICS = {
    "credit-truth": [
        "truth/spearman_gain/infopo",
        "truth/kendall_gain/infopo",
        "truth/spearman_oracle/itpo",
        "truth/kendall_oracle/itpo",
    ],
    "credit-stability": [
        "prm/stability_turns",
        "prm/stability_tokens",
        "prm/best_turn_agreement",
        "prm/worst_turn_agreement",
        "prm/best_turn_chance",
        "prm/worst_turn_chance",
    ],
    "credit-information": [
        "info/share",
        "info/gain_mean",
        "info/gate_mean",
        "info/groups_scored_frac",
        "info/negative_frac",
        "info/copied_share",
    ],
    "credit-critic": ["critic/explained_variance", "critic/loss"],
}


def text_of(rows: list[Row]) -> dict[str, str]:
    return {chapter.name: "".join(chapter.charts) for chapter in credit_chapters(rows)}


@pytest.mark.parametrize(
    ("chapter", "metric"), [(c, metric) for c, some in METRICS.items() for metric in some]
)
def test_one_metric_shows_its_own_chart_and_no_other(chapter: str, metric: str) -> None:
    found = text_of([{"step": 1, metric: 0.125}, {"step": 2, metric: 0.25}])
    assert list(found) == [chapter]
    assert found[chapter].count("<figure") == 1
    assert "step 2: 0.250" in found[chapter]


def test_groups_without_variance_are_no_news_where_no_gain_was_computed() -> None:
    alone: list[Row] = [{"step": 1, "group/zero_variance_frac": 0.75}]
    assert text_of(alone) == {}
    beside: list[Row] = [{"step": 1, "group/zero_variance_frac": 0.75, "info/share": 0.1}]
    assert "groups without variance, step 1: 0.750" in text_of(beside)["credit-information"]


def test_both_statistics_of_a_method_have_its_colour() -> None:
    row: Row = {
        "step": 1,
        **{f"truth/{s}_gain/{m}": 0.5 for s in ("spearman", "kendall") for m in ("itpo", "infopo")},
    }
    chart = text_of([row])["credit-truth"]
    keys = chart.split('class="keys"')[1]
    assert [key.split("</i>")[0] for key in keys.split('<i class="')[1:]] == [
        's0">', 's0 dashed">', 's1">', 's1 dashed">', 'level">',
    ]  # fmt: skip
    assert keys.index("infopo, Spearman") < keys.index("infopo, Kendall") < keys.index("itpo, Spe")


def test_gains_need_a_count_to_be_on_the_map() -> None:
    rows: list[Row] = [
        {"step": 1, "info/gain/0": 0.5, "info/gain_count/0": 4, "info/gain/1": 0.25},
        {"step": 2, "info/gain/0": None, "info/gain_count/0": 0},
    ]
    chart = text_of(rows)["credit-information"]
    assert "turn 1, step 1: 0.500 (turns: 4)" in chart
    assert "turn 2" not in chart and "step 2" not in chart


def test_methods_names_are_text() -> None:
    chart = text_of([{"step": 1, "truth/spearman_gain/<b>": 0.5}])["credit-truth"]
    assert "<b>, " not in chart and "&lt;b&gt;, Spearman" in chart
