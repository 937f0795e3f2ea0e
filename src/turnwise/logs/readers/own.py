"""Dialogues that a run of turnwise played, as logged conversations."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from turnwise.conversation import (
    EndReason,
    LoggedConversation,
    LoggedOutcome,
    Origin,
    PolicyFacts,
    Step,
    Trajectory,
    Turn,
)
from turnwise.logs.readers.record import check_steps
from turnwise.logs.readers.refused import RefusedError, Row, refusal
from turnwise.logs.refusal import Refusal
from turnwise.records.trajectories import Record, read_trajectories

_VIOLATION = "violation/"  # begins the names of rewards that count what a turn broke


def played(file: Path) -> Iterator[LoggedConversation | Refusal]:
    """Every dialogue of a file of a run, in its order; such files are small and read whole.

    Raises RecordError if the file is of another version.
    """
    for line, record in enumerate(read_trajectories(file), start=1):
        conversation_id = id_of(record)
        try:
            yield _logged(record, conversation_id, Origin(file.as_posix(), line, "trajectories"))
        except RefusedError as error:
            yield refusal(error, Row(None, line), conversation_id)


def id_of(record: Record) -> str:
    """An id that differs between the steps of a run, its splits and siblings."""
    trajectory = record.trajectory
    return f"{record.split}/{record.step}/{trajectory.group_id}/{trajectory.seed}"


def _logged(record: Record, conversation_id: str, origin: Origin) -> LoggedConversation:
    trajectory = record.trajectory
    score = trajectory.outcome.score
    steps = _steps(trajectory)
    check_steps(steps, "conversation")
    return LoggedConversation(
        conversation_id=conversation_id,
        steps=steps,
        end_reason=EndReason.CENSORED if score is None else EndReason.OUTCOME,
        outcome=None if score is None else LoggedOutcome("score", score, source="task"),
        customer_key=f"task:{trajectory.scenario_id}",  # siblings of a scenario belong together
        origin=origin,
    )


def _steps(trajectory: Trajectory) -> tuple[Step, ...]:
    """The messages; those of turns with their tokens as served, other replies are no decision of
    the policy's."""
    turns = dict(zip(trajectory.message_of_turn, trajectory.turns, strict=True))
    version = str(trajectory.policy_version)
    out = []
    for i, message in enumerate(trajectory.conversation):
        step = Step(**vars(message), is_scored=message.role != "assistant" or i in turns)
        out.append(_served(step, turns[i], trajectory, version) if i in turns else step)
    return tuple(out)


def _served(step: Step, turn: Turn, trajectory: Trajectory, version: str) -> Step:
    """The step with its tokens, what the task gave for it and what it broke."""
    rewards = {
        name: value for name, value in turn.rewards.items() if not name.startswith(_VIOLATION)
    }
    return replace(
        step,
        author="model",
        reward=sum(rewards.values()),
        violations={
            name.removeprefix(_VIOLATION): value
            for name, value in turn.rewards.items()
            if name not in rewards
        },
        policy=PolicyFacts(version, finish=turn.stop_reason),
        logp_sum=sum(turn.logp_behaviour),
        token_ids=trajectory.token_ids[turn.start : turn.stop],
        token_logp=turn.logp_behaviour,
    )
