"""Logs of `sell`: what they hold, and that the shop's export reads back as the same."""

import csv
import statistics
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from turnwise.conversation import EndReason, LoggedConversation, Step
from turnwise.errors import ConfigError
from turnwise.logs import ImportOptions, OutcomeTable, import_logs
from turnwise.logs.privacy import pseudonym
from turnwise.records import read_logged
from turnwise.tasks import make
from turnwise.tasks.sell import FALSE_CLAIM, PESTERING, make_sell
from turnwise.tasks.sell_logs import LogPolicy, LogShares, generate_logs, write_raw_logs

TASK = make_sell("medium", {})
PLAIN = LogShares(
    edited=0.0, rejected=0.0, explored=0.0, censored=0.0, consent_refused=0.0, consent_unknown=0.0
)
KEY = b"a key of thirty-two bytes or more"


@pytest.fixture(scope="module")
def logs() -> list[LoggedConversation]:
    return list(generate_logs(TASK, "average", 800, seed=3))


def rate(policy: LogPolicy) -> float:
    found = [c.outcome for c in generate_logs(TASK, policy, 400, 0, PLAIN)]
    return statistics.mean(outcome.value for outcome in found if outcome is not None)


def test_the_same_arguments_give_the_same_logs(logs: list[LoggedConversation]) -> None:
    again = list(generate_logs(TASK, "average", 800, seed=3))
    other = list(generate_logs(TASK, "average", 200, seed=4))
    assert again == logs
    equal = {c.conversation for c in other} & {c.conversation for c in logs}
    assert len(equal) < 0.05 * len(logs)


def test_better_sellers_sell_more() -> None:
    # Exact: .12, .26, .24, .78; four standard errors are .065 to .09.
    assert rate("novice") == pytest.approx(0.12, abs=0.065)
    assert rate("average") == pytest.approx(0.26, abs=0.09)
    assert rate("pushy") == pytest.approx(0.24, abs=0.09)
    assert rate("expert") == pytest.approx(0.78, abs=0.085)


def test_mixed_logs_name_the_version_that_wrote_each_step() -> None:
    versions = Counter[str]()
    for conversation in generate_logs(TASK, "mixed", 200, 0):
        named = {step.policy.version for step in conversation.decisions if step.policy}
        assert len(named) == 1
        versions.update(named)
    assert set(versions) == {f"seller-{n}" for n in ("novice", "average", "pushy", "expert")}


def test_plain_logs_hold_the_models_own_words_alone() -> None:
    for conversation in generate_logs(TASK, "average", 100, 0, PLAIN):
        assert conversation.outcome is not None
        assert conversation.consent.training
        for step in conversation.decisions:
            assert (step.author, step.disposition) == ("model", "verbatim")
            assert (step.proposed, step.explore) == (None, None)


def test_shares_are_met(logs: list[LoggedConversation]) -> None:
    censored = statistics.mean(c.end_reason is EndReason.CENSORED for c in logs)
    assert censored == pytest.approx(0.08, abs=0.04)
    by = Counter(step.disposition for c in logs for step in c.decisions)
    assert 0.02 < by["edited"] / by.total() < 0.07  # an edit that changes nothing is none
    assert 0.01 < by["rejected"] / by.total() < 0.05
    explored = statistics.mean(c.decisions[0].explore is not None for c in logs)
    assert explored == pytest.approx(0.2, abs=0.06)
    # 266 customers of three conversations on average, one in twenty-one of none
    assert 235 < len({c.customer for c in logs}) < 266
    assert {c.consent.training for c in logs} == {True, False, None}
    assert {(c.tenant, c.language) for c in logs} == {
        (tenant, language) for tenant in ("north", "south") for language in ("en-GB", "en-US")
    }


def test_a_person_that_stepped_in_leaves_the_proposal(logs: list[LoggedConversation]) -> None:
    for step in (step for c in logs for step in c.decisions):
        by_person = step.disposition in ("edited", "rejected")
        assert (step.author == "human") == by_person == (step.proposed is not None)
        assert step.proposed != step.content


def test_a_person_who_edits_leaves_no_false_claim(logs: list[LoggedConversation]) -> None:
    steps = [step for c in logs for step in c.decisions if step.disposition == "edited"]
    assert sum(step.violations["false_claim"] for step in steps) == 0
    assert sum(s.violations["false_claim"] for c in logs for s in c.decisions) > 100


def test_one_step_at_most_deviates_and_says_how_likely_that_was(
    logs: list[LoggedConversation],
) -> None:
    for conversation in logs:
        found = [step.explore for step in conversation.decisions if step.explore]
        assert len(found) in (0, len(conversation.decisions))
        assert sum(explore.deviated for explore in found) <= 1
        for explore in found:
            # one of six turns, one of three other sellers
            assert explore.propensity == pytest.approx(1 / 18 if explore.deviated else 5 / 6)
            assert (explore.arm is not None) == explore.deviated


def test_a_censored_conversation_has_no_outcome_and_waits_for_an_answer(
    logs: list[LoggedConversation],
) -> None:
    for conversation in logs:
        is_censored = conversation.end_reason is EndReason.CENSORED
        assert is_censored == (conversation.outcome is None)
        if conversation.end_reason in (EndReason.CENSORED, EndReason.USER_LEFT):
            assert conversation.steps[-1].is_decision
        if conversation.end_reason is EndReason.USER_LEFT:
            assert conversation.outcome is not None
            assert conversation.outcome.value == 0.0


def test_time_has_a_zone_and_passes(logs: list[LoggedConversation]) -> None:
    for conversation in logs:
        times = [step.ts for step in conversation.steps]
        assert all(at is not None and at.tzinfo is not None for at in times)
        assert times == sorted(times, key=lambda at: at.timestamp() if at else 0)
        assert (conversation.started_at, conversation.ended_at) == (times[0], times[-1])
        if conversation.outcome is not None:
            assert conversation.outcome.observed_at is not None
            assert times[-1] is not None
            assert conversation.outcome.observed_at >= times[-1]
    assert len({step.ts.utcoffset() for c in logs for step in c.steps if step.ts}) == 2


def test_violations_are_those_of_what_was_sent() -> None:
    for conversation in generate_logs(TASK, "pushy", 60, 0):
        scenario = TASK.scenario(0)  # violations are told by the texts alone, but for the start
        scenario = replace(scenario, is_cold=conversation.steps[0].content.startswith(("hm", "we")))
        rewards = TASK.turn_rewards(scenario, conversation.conversation)
        for step, reward in zip(conversation.decisions, rewards, strict=True):
            assert step.violations == {
                "false_claim": reward[FALSE_CLAIM],
                "pestering": reward[PESTERING],
            }


def test_only_a_known_policy_of_this_task_writes_logs() -> None:
    with pytest.raises(ConfigError, match="unknown policy: 'pushi'.*mean 'pushy'"):
        next(generate_logs(TASK, "pushi", 1, 0))  # type: ignore[arg-type]  # the point
    with pytest.raises(ConfigError, match="expected the task 'sell', found 'guess'"):
        next(generate_logs(make("guess"), "average", 1, 0))  # type: ignore[arg-type]  # the point
    with pytest.raises(ConfigError, match=r"'censored': expected 0.0..1.0, found 2"):
        LogShares(censored=2.0)


def test_an_export_reads_back_as_what_it_was_written_from(
    tmp_path: Path, logs: list[LoggedConversation]
) -> None:
    messages, outcomes = tmp_path / "chats.jsonl", tmp_path / "crm.csv"
    write_raw_logs(logs[:300], messages, outcomes)
    with outcomes.open() as file:
        assert len(list(csv.DictReader(file))) == sum(c.outcome is not None for c in logs[:300])
    table = OutcomeTable(str(outcomes), columns={"outcome": "purchase"})
    options = ImportOptions(outcomes=table, key=KEY)
    result = import_logs([messages], tmp_path / "logs", options)
    found = {c.conversation_id: c for c in read_logged(result.folder)}
    allowed = [c for c in logs[:300] if c.consent.training is not False]
    assert found.keys() <= {c.conversation_id for c in allowed}
    texts = {read.conversation for read in found.values()}  # of equal ones the first is kept
    assert texts == {c.conversation for c in allowed}
    assert len(found) > 0.98 * len(allowed)
    for written in (c for c in allowed if c.conversation_id in found):
        read = found[written.conversation_id]
        assert [_kept(step) for step in read.steps] == [_kept(step) for step in written.steps]
        assert read.customer_key == pseudonym(written.customer.removeprefix("hmac:"), KEY)
        assert read.consent.training == written.consent.training
        told, kept = written.outcome, read.outcome
        assert (told is None) == (kept is None)
        if told is not None and kept is not None:
            assert (kept.value, kept.observed_at) == (told.value, told.observed_at)


def _kept(step: Step) -> Step:
    return replace(step, violations=dict(step.violations))
