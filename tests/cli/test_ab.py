"""`turnwise ab` from outside: plans in numbers, rulings in words."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from turnwise.cli.main import app
from turnwise.conversation import EndReason, LoggedConversation, LoggedOutcome, Step
from turnwise.records import write_logged

AT = datetime(2026, 1, 5, tzinfo=UTC)


def ab(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["ab", *(str(argument) for argument in arguments)])


def arm(path: Path, won: int, n: int = 200, *, lies: int = 0, of: str = "") -> Path:
    """n conversations of n customers, of which so many are won, and so many hold a lie."""

    def talk(i: int) -> LoggedConversation:
        said = Step("assistant", "yes", violations={"lie": float(i < lies)})
        steps = (Step("user", "hello"), said)
        outcome = LoggedOutcome("sale", float(i < won), AT)
        return LoggedConversation(
            f"{of}{i}", steps, EndReason.OUTCOME, outcome, customer_key=f"hmac:{of}{i}"
        )

    write_logged(path, [talk(i) for i in range(n)])
    return path


def told(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_a_plan_says_how_many_conversations_an_arm_needs() -> None:
    result = ab("--baseline", "0.10", "--lift", "0.02")
    assert result.exit_code == 0
    assert ["conversations", "per", "arm", "3,839"] in [
        line.split() for line in result.stdout.splitlines()
    ]
    found = told(
        ab("--baseline", "0.10", "--lift", "0.02", "--per-customer", "3", "--icc", "0.2", "--json")
    )
    assert found["per_arm"] == 5_375  # 3,839 · (1 + 2 · 0.2)


def test_declared_looks_and_power_cost_conversations() -> None:
    # α/2 = .0125 instead of .025: (2.241403 + .841621)² · .1956 / .0004 = 4,647.96
    found = told(ab("--baseline", "0.10", "--lift", "0.02", "--looks", "2", "--json"))
    assert found["per_arm"] == 4_648
    # power 90 %: (1.959964 + 1.281552)² · .1956 / .0004 = 5,138.13
    found = told(ab("--baseline", "0.10", "--lift", "0.02", "--power", "0.9", "--json"))
    assert found["per_arm"] == 5_139


def test_logs_say_baseline_and_correlation(tmp_path: Path) -> None:
    found = told(ab("--logs", arm(tmp_path / "a.parquet", 20), "--lift", "0.02", "--json"))
    assert (found["baseline"], found["icc"], found["per_arm"]) == (0.1, 0.0, 3_839)


def test_two_arms_end_in_a_ruling_with_its_reason(tmp_path: Path) -> None:
    a = arm(tmp_path / "a.parquet", 40, of="a")
    b = arm(tmp_path / "b.parquet", 80, of="b")
    both = ("--arm-a", a, "--arm-b", b, "--margin", "0.05")
    result = ab(*both, "--planned", "200")
    assert result.exit_code == 0
    assert "promote: the difference +0.2000" in result.stdout
    assert "lie" in result.stdout and "warning" not in result.stdout
    assert told(ab(*both, "--planned", "500", "--json"))["missing"] == 300
    # 20 → 40 % needs 7.84888 · (.16 + .24) / .04 = 78.5 per arm
    assert told(ab(*both, "--lift", "0.2", "--json"))["needed"] == 79
    back = told(ab("--arm-a", b, "--arm-b", a, "--margin", "lie=0.05", "--planned", "9", "--json"))
    assert back["verdict"] == "reject"


def test_a_violation_above_its_margin_rejects(tmp_path: Path) -> None:
    a = arm(tmp_path / "a.parquet", 40, of="a")
    b = arm(tmp_path / "b.parquet", 80, lies=60, of="b")
    result = ab("--arm-a", a, "--arm-b", b, "--planned", "200", "--margin", "lie=0.1")
    assert "reject: lie rises by +0.3000" in result.stdout
    refused = ab("--arm-a", a, "--arm-b", b, "--planned", "200")
    assert refused.exit_code == 2 and "expected a margin for the violation lie" in refused.stderr


def test_customers_in_both_arms_are_warned_of(tmp_path: Path) -> None:
    a, b = arm(tmp_path / "a.parquet", 40), arm(tmp_path / "b.parquet", 80)
    result = ab("--arm-a", a, "--arm-b", b, "--planned", "200", "--margin", "0.05")
    assert "warning: 200 customers met both arms" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "found none, or several"),
        (("--baseline", "0.1"), "expected the smallest --lift"),
        (("--baseline", "0.1", "--lift", "0.95"), "expected two rates in [0, 1]"),
        (("--baseline", "0.1", "--lift", "0.1", "--margin", "lie"), "--margin lie"),
        (("--arm-a", "a.parquet", "--lift", "0.1"), "both --arm-a and --arm-b"),
        (("--logs", "nowhere.parquet", "--lift", "0.1"), "found none"),
    ],
)
def test_what_cannot_be_planned_or_judged_is_a_usage_error(
    arguments: tuple[str, ...], said: str
) -> None:
    result = ab(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_logs_without_outcomes_plan_nothing(tmp_path: Path) -> None:
    steps = (Step("user", "hello"), Step("assistant", "yes"))
    write_logged(tmp_path / "a.parquet", [LoggedConversation("c", steps, EndReason.CENSORED)])
    result = ab("--logs", tmp_path / "a.parquet", "--lift", "0.1")
    assert result.exit_code == 2 and "expected outcomes of two customers" in result.stderr
