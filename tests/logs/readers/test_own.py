"""Dialogues that a run played are logs like any other."""

from pathlib import Path

import pyarrow.parquet as pq

from tests.logs.readers.reading import read, refused
from turnwise.conversation import (
    Ending,
    EndReason,
    LoggedOutcome,
    Message,
    Outcome,
    PolicyFacts,
    Trajectory,
    Turn,
)
from turnwise.records import Record, write_trajectories


def played(score: float | None, seed: int, *more: Message) -> Record:
    trajectory = Trajectory(
        scenario_id="s-1",
        group_id="g-1",
        seed=seed,
        conversation=(
            Message("assistant", "Welcome."),  # of the opening, not of the policy
            Message("user", "Hello?"),
            Message("assistant", "Hi."),
            *more,
        ),
        token_ids=(1, 2, 3, 4, 5, 6),
        turns=(Turn(4, 6, (-0.5, -1.0), "stop", (), {"polite": 0.25, "violation/spam": 2.0}),),
        outcome=Outcome(score),
        ending=Ending.FAREWELL,
        policy_version=3,
    )
    return Record(trajectory, step=7, split="train")


def test_a_played_dialogue_keeps_its_tokens_and_its_version(tmp_path: Path) -> None:
    write_trajectories(tmp_path / "step_7.parquet", [played(0.5, 1), played(None, 2)])
    first, second = read(tmp_path / "step_7.parquet")
    assert first.conversation_id == "train/7/g-1/1" != second.conversation_id
    assert first.customer == second.customer == "task:s-1"
    assert first.outcome == LoggedOutcome("score", 0.5, source="task")
    assert (first.end_reason, second.end_reason) == (EndReason.OUTCOME, EndReason.CENSORED)
    step = first.steps[2]
    assert (step.token_ids, step.token_logp, step.logp_sum) == ((5, 6), (-0.5, -1.0), -1.5)
    assert (step.reward, dict(step.violations)) == (0.25, {"spam": 2.0})
    assert step.policy == PolicyFacts("3", finish="stop")
    assert [one.is_scored for one in first.steps] == [False, True, True]


def test_a_dialogue_that_breaks_a_rule_costs_itself(tmp_path: Path) -> None:
    bad = played(1.0, 1, Message("user", " "))
    write_trajectories(tmp_path / "a.parquet", [bad])
    found = refused(tmp_path / "a.parquet")
    assert (found.code, found.line, found.conversation_id) == ("empty_turn", 1, "train/7/g-1/1")


def test_another_version_of_dialogues_is_refused(tmp_path: Path) -> None:
    write_trajectories(tmp_path / "a.parquet", [played(1.0, 1)])
    table = pq.read_table(tmp_path / "a.parquet")
    pq.write_table(
        table.replace_schema_metadata({"turnwise.schema_version": "99"}), tmp_path / "a.parquet"
    )
    found = refused(tmp_path / "a.parquet")
    assert found.code == "unreadable_file" and "found '99'" in found.reason
