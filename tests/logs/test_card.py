"""The data card counts what is there, and says what is not."""

import math
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from tests.logs.lines import chat, write_lines
from turnwise.conversation import (
    EndReason,
    LoggedConversation,
    LoggedOutcome,
    Origin,
    PolicyFacts,
    Step,
)
from turnwise.errors import RecordError
from turnwise.logs import ImportOptions, import_logs
from turnwise.logs.arms import arm_columns
from turnwise.logs.card import DataCard, Group, data_card, rate_of
from turnwise.records import write_logged, write_logged_jsonl

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def talk(
    name: str,
    outcome: float | None,
    *,
    turns: int = 1,
    customer: str | None = None,
    version: str | None = "pi0",
    tenant: str | None = None,
    reward: float = 0.0,
) -> LoggedConversation:
    """A conversation of so many questions and answers, a minute apart."""
    policy = PolicyFacts(version, temperature=1.0, top_p=1.0, finish="stop") if version else None
    answer = Step(
        "assistant", "four", author="model", policy=policy, reward=reward, violations={"rude": 0.5}
    )
    steps = [one for _ in range(turns) for one in (Step("user", "hello"), answer)]
    timed = [replace(s, ts=NOON + timedelta(minutes=i)) for i, s in enumerate(steps)]
    known = None if outcome is None else LoggedOutcome("sale", outcome, window_h=24.0)
    return LoggedConversation(
        name,
        tuple(timed),
        EndReason.CENSORED if outcome is None else EndReason.OUTCOME,
        known,
        customer_key=customer and f"hmac:{customer}",
        tenant=tenant,
        origin=Origin("chat.jsonl", 1, "openai"),
    )


def card_of(folder: Path, conversations: Iterable[LoggedConversation]) -> DataCard:
    write_logged(folder / "logs.parquet", conversations)
    return data_card(folder / "logs.parquet")


def rows(groups: list[Group]) -> dict[str | None, tuple[int, int, int]]:
    return {group.name: (group.conversations, group.steps, group.customers) for group in groups}


def test_the_card_counts_conversations_steps_and_customers_in_every_way(tmp_path: Path) -> None:
    old, new = talk("c3", None, turns=2, customer="b"), talk("c4", 1.0, turns=1, customer="c")
    both = replace(old, steps=old.steps[:2] + talk("", None, version="pi1").steps)
    card = card_of(
        tmp_path,
        [
            talk("c1", 1.0, customer="a", tenant="north", turns=3),
            talk("c2", 0.0, customer="a", tenant="south"),
            both,  # its first answer is of pi0, its second of pi1
            replace(new, tenant="north"),
        ],
    )
    assert (card.conversations, card.steps, card.decisions, card.customers) == (4, 14, 7, 3)
    assert rows(card.tables["tenant"]) == {"north": (2, 8, 2), "south": (1, 2, 1), None: (1, 4, 1)}
    # By version, author and disposition steps are the assistant's.
    assert rows(card.tables["policy version"]) == {"pi0": (4, 6, 3), "pi1": (1, 1, 1)}
    assert rows(card.tables["author"]) == {"model": (4, 7, 3)}
    assert rows(card.tables["disposition"]) == {None: (4, 7, 3)}
    assert rows(card.tables["format"]) == {"openai": (4, 14, 3)}
    assert {g.name: g.outcome.mean for g in card.by_turns if g.outcome.known} == {
        "1": 0.5,
        "3": 1.0,
    }
    assert card.end_reasons == {"outcome": 3, "censored": 1}
    assert card.censored_share == 0.25
    assert [card.outcome.known, card.outcome.mean] == pytest.approx([3, 2 / 3])
    assert card.outcome_names == ["sale"]


def test_lengths_returns_and_windows_are_spread_out(tmp_path: Path) -> None:
    card = card_of(
        tmp_path, [talk("c1", 1.0, turns=3, reward=0.1), talk("c2", 0.0), talk("c3", None)]
    )
    # 1 + 3·0.1 and 0 + 0; the censored one has no return.
    assert [card.returns.known, card.returns.low, card.returns.high] == pytest.approx([2, 0, 1.3])
    assert (card.window_h.known, card.window_h.median) == (2, 24.0)
    assert card.lengths["characters of a conversation"].high == 3 * len("hellofour")
    assert card.lengths["hours from first to last"].high == pytest.approx(5 / 60)
    assert card.lengths["turns of a conversation"].mean == pytest.approx(5 / 3)


def test_features_are_off_where_their_field_is_missing_and_say_why(tmp_path: Path) -> None:
    card = card_of(tmp_path, [talk("c1", 1.0, customer="a"), talk("c2", None, version=None)])
    share = {feature.name: feature.share for feature in card.features}
    assert share["fitting Q"] == share["telling whose policy wrote a step"] == 0.5
    assert share["violations with a price of their own"] == 1.0
    off = {feature.name: feature.needs for feature in card.features if feature.is_off}
    assert off["exploration"] == "steps.explore.propensity"
    assert off["replies as they were sampled"] == "steps.token_ids"
    assert all(feature.otherwise for feature in card.features)


def test_files_that_no_import_wrote_are_warned_of_all_the_same(tmp_path: Path) -> None:
    logs = [talk("c1", 1.0, version=None, turns=2), talk("c2", None, turns=1)]
    said = " | ".join(card_of(tmp_path, logs).warnings)
    assert "unknown_policy_version: 2 of 3 decision steps (66.7%)" in said
    assert "customer_unknown: 2 of 2 conversations" in said
    assert "censored_length_correlation: -1.00: shorter conversations" in said


def test_the_card_of_an_import_says_what_was_refused(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "chat.jsonl", [chat(1, outcome=1), chat(2, outcome=0), "{", "{}"])
    import_logs([file], tmp_path / "out", ImportOptions(max_bad=1.0))
    card = data_card(tmp_path / "out")
    (found,) = card.imports
    assert (found.read, found.imported, found.quarantined) == (4, 2, 2)
    assert sum(found.by_code.values()) == 2 and found.by_code["broken_json"] == 1
    assert card.conversations == 2
    assert card.sources == ["part-00000.parquet"]


def test_several_folders_are_one_card(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_logged(tmp_path / name / "part-00000.parquet", [talk(name, 1.0, customer=name)])
    card = data_card(tmp_path / "a", tmp_path / "b" / "part-00000.parquet")
    assert (card.conversations, card.customers) == (2, 2)


def test_a_folder_named_like_a_column_says_nothing_of_its_logs(tmp_path: Path) -> None:
    folder = tmp_path / "tenant=acme"
    folder.mkdir()
    assert [g.name for g in card_of(folder, [talk("a", 1.0, tenant="north")]).tables["tenant"]] == [
        "north"
    ]
    assert arm_columns(folder)[1] == ["a"]


def test_what_is_no_canonical_parquet_is_refused(tmp_path: Path) -> None:
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(b"PAR1 and no more")
    lines = tmp_path / "logs.jsonl"
    write_logged_jsonl(lines, [talk("c1", 1.0)])
    for path, said in ((cut, "not a whole Parquet"), (lines, "logs import"), (tmp_path, "whole")):
        with pytest.raises(RecordError, match=said):
            data_card(path)
    with pytest.raises(RecordError, match="found none"):
        data_card(tmp_path / "nowhere.parquet")


def test_logs_without_a_conversation_have_no_card(tmp_path: Path) -> None:
    write_logged(tmp_path / "empty.parquet", [])
    with pytest.raises(RecordError, match="holds no conversation"):
        data_card(tmp_path / "empty.parquet")


def test_wilsons_interval_by_hand() -> None:
    # 3 of 10 conversations of 10 customers: Σs = Σs² = Σsn = 3, Σn² = 10.
    # var = 10/9 · (3 − 2·.3·3 + .09·10) / 100 = .02333; p(1−p)/var = 9, the effective sample.
    # z² = 3.841459; (.3 + .213414 ± 1.959964·√(.21/9 + 3.841459/324)) / 1.426829 = .3598 ± .2577
    rate = rate_of(10, 10, 3, 3, 3, 10, is_binary=True)
    assert [rate.low, rate.high] == pytest.approx([0.1021, 0.6175], abs=1e-4)


def test_the_interval_does_not_believe_in_conversations_of_one_customer() -> None:
    # 10 customers, 3 of whom always buy; each comes once, or ten times.
    once = rate_of(10, 10, 3, 3, 3, 10, is_binary=True)
    often = rate_of(100, 10, 30, 300, 300, 1_000, is_binary=True)
    assert [often.low, often.high] == pytest.approx([once.low, once.high])


def test_certain_looking_rates_keep_an_interval_and_one_customer_has_none() -> None:
    sure = rate_of(20, 20, 20, 20, 20, 20, is_binary=True)
    assert sure.high == 1.0 and 0.8 < sure.low < 0.9  # 20 / (20 + z²) = .839
    lone = rate_of(5, 1, 5, 25, 25, 25, is_binary=True)
    assert lone.mean == 1.0 and math.isnan(lone.low)
    assert math.isnan(rate_of(0, 0, 0, 0, 0, 0, is_binary=True).mean)


def test_amounts_have_the_normal_interval() -> None:
    # 2, 4, 6 of three customers: mean 4, var = 3/2 · 8 / 9 = 1.3333; 4 ± 1.96·1.1547
    rate = rate_of(3, 3, 12, 56, 12, 3, is_binary=False)
    assert [rate.mean, rate.low, rate.high] == pytest.approx([4, 1.73683, 6.26317], abs=1e-4)


def test_the_interval_covers_the_rate_of_returning_customers(tmp_path: Path) -> None:
    # 200 samples of 60 customers with 1 to 8 conversations, each customer with a rate of their own
    # from Beta(1, 2): 95 %; below 89 % has a chance of 1 in 3,000.
    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        n_C = rng.integers(1, 9, 60)
        s_C = rng.binomial(n_C, rng.beta(1, 2, 60))
        sums = [float(x.sum()) for x in (s_C, s_C**2, s_C * n_C, n_C**2)]
        rate = rate_of(float(n_C.sum()), 60, *sums, is_binary=True)
        covered += rate.low <= 1 / 3 <= rate.high
    assert covered >= 178


def test_an_arm_sums_violations_over_a_conversation_and_its_steps(tmp_path: Path) -> None:
    whole = replace(talk("c1", 1.0, turns=2, customer="a"), violations={"rude": 2.0, "lie": 1.0})
    write_logged(tmp_path / "arm.parquet", [whole, talk("c2", None)])
    scores, customers, violations = arm_columns(tmp_path / "arm.parquet")
    assert scores == [1.0, None]
    assert customers == ["hmac:a", "c2"]
    assert violations == {"rude": [3.0, 0.5], "lie": [1.0, 0.0]}
