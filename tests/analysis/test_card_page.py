"""The page of a data card: everything is there, nothing of it is markup, nothing is loaded."""

import html
import re

import pytest

from turnwise.analysis import render_card

RATE = {"mean": 0.25, "low": 0.2, "high": 0.31, "known": 180}
NAN = float("nan")
UNKNOWN = {"mean": NAN, "low": NAN, "high": NAN, "known": 0}
SPREAD = {"known": 200, "low": 1, "p5": 1, "median": 3, "mean": 3.2, "p95": 6, "high": 9}
PLAN = {"per_arm": 1234, "baseline": 0.25, "lift": 0.05, "power": 0.8, "alpha": 0.05}


def group(name: str | None, outcome: dict[str, float] = RATE) -> dict[str, object]:
    return {"name": name, "conversations": 200, "steps": 900, "customers": 120, "outcome": outcome}


def card(outcome: dict[str, float] = RATE, **facts: object) -> dict[str, object]:
    return {
        "sources": ["part-00000.parquet"],
        "conversations": 200,
        "steps": 900,
        "decisions": 450,
        "customers": 120,
        "outcome_names": ["purchase"],
        "outcome": outcome,
        "tables": {"tenant": [group("north"), group(None)]},
        "by_turns": [group("1"), group("2", UNKNOWN)],
        "end_reasons": {"outcome": 180, "censored": 20},
        "censored_share": 0.1,
        "censored_by_length": NAN,
        "window_h": SPREAD,
        "returns": SPREAD,
        "lengths": {"turns of a conversation": SPREAD},
        "imports": [
            {
                "read": 205,
                "imported": 200,
                "quarantined": 3,
                "consent_refused": 2,
                "customers_dropped": 0,
                "by_code": {"broken_json": 3, "consent_refused": 2},
            }
        ],
        "features": [
            {"name": "exploration", "share": 0.0, "needs": "explore", "otherwise": "all on-policy"},
            {"name": "fitting Q", "share": 0.9, "needs": "outcome", "otherwise": "censored"},
        ],
        "warnings": ["censored: 20 of 200 conversations"],
        **facts,
    }


def test_the_page_says_what_there_is_what_is_off_and_what_a_lift_needs() -> None:
    plan = {**PLAN, "per_customer": 1.5, "icc": 0.1}
    page = render_card(card(), title="logs", plan=plan)
    words = " ".join(re.sub(r"<[^>]*>", " ", page.split("<main>")[0].split("</style>")[1]).split())
    assert "200 conversations of 120 customers. Mean purchase 0.250 [0.200, 0.310]" in words
    assert "Off: exploration." in words
    assert "1,234 conversations per arm" in page
    assert "205 records read = 200 imported + 3 quarantined + 2 refused" in page
    assert "not recorded" in page and "broken_json" in page and "<svg" in page
    assert not re.search(r"\bnan\b", page)


def test_logs_without_outcomes_say_that_nothing_can_be_fitted() -> None:
    page = render_card(card(UNKNOWN, by_turns=[group("1", UNKNOWN)], imports=[]), title="logs")
    assert "No outcome is known: nothing can be fitted" in page
    assert "No lift was planned: no outcome is known" in page
    assert "No import wrote these files" in page


@pytest.mark.parametrize("attack", ["<script>alert(1)</script>", '"><img src=x onerror=y>'])
def test_names_from_logs_stay_text(attack: str) -> None:
    tables = {"tenant": [group(attack)]}
    page = render_card(
        card(tables=tables, end_reasons={attack: 1}, outcome_names=[attack], warnings=[attack]),
        title=attack,
    )
    assert attack not in page
    assert page.count("&lt;") >= 5


def test_the_page_loads_nothing() -> None:
    page = render_card(card(), title="logs")
    assert not re.search(r"""(?:src|href)\s*=|url\(|@import|https?://""", page)
    assert "default-src 'none'" in html.unescape(page)
