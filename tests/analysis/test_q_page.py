"""A gate becomes JSON without a number that JSON does not know, and a page that loads nothing."""

import html
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.qvalues.test_gate import toy
from turnwise.analysis.q_page import GateReport, render_q_page
from turnwise.qvalues import HeldOut, Limits, gate, isotonic_curve, reliability

ATTACK = "<script>alert('x')</script><img src=http://example.org onerror=alert(1)>"


def report_of(held_out: HeldOut, ranking: tuple[float, int] = (0.8, 12)) -> GateReport:
    q_N, target_N = held_out.q_N, held_out.target_N
    return GateReport(
        gate(held_out, Limits(num_bootstrap=200)),
        "hard",
        reliability(q_N, target_N) if len(q_N) else None,
        isotonic_curve(q_N, target_N) if len(q_N) else [],
        ranking,
        {"judge": ATTACK},
        [ATTACK],
    )


def shut() -> GateReport:
    held_out = toy(300)
    tenant_N = np.where(np.arange(900) % 2, ATTACK, "b")
    blind = replace(held_out, q_N=held_out.v_N, shuffled_N=held_out.v_N, judge_N=None)
    return report_of(replace(blind, groups={"tenant": tenant_N}, sampled_spread_M=None))


def test_the_files_say_the_same_and_json_has_null_for_what_is_unknown(tmp_path: Path) -> None:
    report = shut()
    page = report.save(tmp_path).read_text(encoding="utf-8")
    found = json.loads((tmp_path / "gate.json").read_text(encoding="utf-8"))
    assert found["is_open"] is False and found["checks"]["G1"]["verdict"] == "refuses"
    assert found["refusal"] == report.gate.refusal and "Nothing was trained." in found["refusal"]
    assert found["checks"]["G7"]["value"] is None
    assert found["checks"]["G6"]["parts"]["turn 1"]["steps"] == 300.0
    assert found["reliability"]["ece"] == reliability(toy(300).v_N, toy(300).target_N).ece
    for name in ("G1", "G2", "G3", "G4", "slope", "G5", "G6", "G7", "G8"):
        assert f'<th scope="row">{name}</th>' in page
    assert "The gate is shut on 900 held-out steps of 300 customers: G1, G2 refused." in page


def test_an_open_gate_says_so_and_a_lenient_one_marks_what_follows() -> None:
    is_open = report_of(toy(1000))
    assert is_open.is_open and not is_open.is_ungated
    assert "The gate is open: on 3000 held-out steps of 1000 customers" in render_q_page(is_open)
    lenient = replace(shut(), mode="warn")
    assert lenient.is_ungated and "what follows is ungated" in render_q_page(lenient)
    assert not replace(is_open, mode="warn").is_ungated


def test_the_page_escapes_everything_and_loads_nothing() -> None:
    page = render_q_page(replace(shut(), title=ATTACK))
    assert ATTACK not in page and page.count("<script>") == 1
    assert not re.search(r"<[^>]*\s(src|href)\s*=", page)
    assert "default-src 'none'" in html.unescape(page)


def test_charts_and_tables_hold_the_numbers() -> None:
    page = render_q_page(shut())
    assert page.count("<figure") == 2
    for words in ("Reliability", "Bellman residual", "the V head", "Brier", "80 %"):
        assert words in page
    alone = render_q_page(report_of(toy(1000), (math.nan, 0)))
    assert "no ranking can be compared" in alone


def test_a_gate_without_a_held_out_step_has_a_page_too() -> None:
    page = render_q_page(report_of(toy(0), (math.nan, 0)))
    assert "G4 refused" in page and "<figure" not in page


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_no_number_breaks_the_json(number: float) -> None:
    report = shut()
    checks = (replace(report.gate.checks[0], low=number), *report.gate.checks[1:])
    broken = replace(report, gate=replace(report.gate, checks=checks))
    assert json.loads(json.dumps(broken.as_dict(), allow_nan=False))["checks"]["G1"]["low"] is None
