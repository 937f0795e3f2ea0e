"""Fixed scenarios with fixed chance: what is played, summed up, and compared in pairs."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest

from tests.rollouts.toy import CHAT, LIMITS, Nodding, Yes, backend, stage
from turnwise.backends import AdapterSpec
from turnwise.backends.fake import FakeSampler
from turnwise.conversation import Conversation, Ending, Message, Outcome, Trajectory, Turn, Usage
from turnwise.errors import GroupError
from turnwise.evaluation import (
    HELD_OUT,
    Evaluation,
    comparison,
    evaluate,
    scenario_rows,
    summary,
)
from turnwise.rollouts import Stage
from turnwise.tasks import Scenario
from turnwise.users import Reply, User


def sampler(seed: int = 0) -> FakeSampler:
    return backend(seed).create("policy", AdapterSpec()).publish()


def played(
    policy: int = 0, *, on: Stage[Scenario] | None = None, samples: int = 1, seed: int = 0
) -> Evaluation:
    return asyncio.run(
        evaluate(on or stage(), sampler(policy), num_scenarios=5, num_samples=samples, seed=seed)
    )


def test_equal_seeds_give_equal_dialogues_whatever_is_live_beside_them() -> None:
    expected = scenario_rows(played(samples=2))
    assert scenario_rows(played(samples=2)) == expected
    assert scenario_rows(played(on=stage(max_live=1), samples=2)) == expected
    assert scenario_rows(played(samples=2, seed=1)) != expected


def test_more_scenarios_do_not_change_the_first_ones() -> None:
    fewer = asyncio.run(evaluate(stage(), sampler(), num_scenarios=3))
    assert scenario_rows(fewer) == scenario_rows(played())[:3]


def test_two_policies_meet_the_same_users_with_the_same_chance() -> None:
    first, second = played(0), played(1)
    assert [t.seed for t in first.trajectories] == [t.seed for t in second.trajectories]
    assert [t.scenario_id for t in first.trajectories] == [
        f"yes-plain-{HELD_OUT + number}" for number in range(5)
    ]
    assert scenario_rows(first) != scenario_rows(second)


def test_each_scenario_is_played_as_often_as_asked_and_never_twice_alike() -> None:
    rows = scenario_rows(played(samples=3))
    assert [(row["id"], row["sample"]) for row in rows] == [
        (f"yes-plain-{HELD_OUT + number}", sample) for number in range(5) for sample in range(3)
    ]
    assert len({t.seed for t in played(samples=3).trajectories}) == 15


def dialogue(
    scenario: str, score: float | None, *, success: float = 0.0, turns: int = 1, tokens: int = 10
) -> Trajectory:
    """A dialogue made up, with the numbers that a summary reads."""
    spoken = tuple(Turn(k + 1, k + 2, (-1.0,), "stop") for k in range(turns))
    ending = Ending.SPEAKER_FAILED if score is None else Ending.FAREWELL
    parts: Mapping[str, float] = {} if score is None else {"success": success}
    return Trajectory(
        scenario,
        scenario,
        0,
        (Message("user", "hello"),),
        tuple(range(turns + 1)),
        spoken,
        Outcome(score, parts),
        ending,
        usage=Usage(1, tokens),
    )


def made(*trajectories: Trajectory) -> Evaluation:
    seen: dict[str, int] = {}
    samples = []
    for one in trajectories:
        samples.append(seen.get(one.scenario_id, 0))
        seen[one.scenario_id] = samples[-1] + 1
    return Evaluation(list(trajectories), samples, [])


def test_a_summary_by_hand() -> None:
    row = summary(
        made(
            dialogue("a", 1.0, success=1.0, turns=2, tokens=10),
            dialogue("b", 0.5, turns=3, tokens=30),
            dialogue("c", None, turns=1, tokens=5),
        )
    )
    # Scores 1 and ½; the dialogue without an outcome is counted and in no mean but lengths.
    assert row["score/mean"] == 0.75
    assert row["success/mean"] == 0.5
    assert 0.5 <= row["score/low"] <= 0.75 <= row["score/high"] <= 1.0
    assert (row["turns/mean"], row["tokens/mean"]) == (2.0, 15.0)
    assert (row["num_scenarios"], row["not_judged"]) == (3.0, 1.0)
    assert row["stop/farewell"] == pytest.approx(2 / 3)
    assert row["stop/speaker_failed"] == pytest.approx(1 / 3)


def test_a_row_keeps_what_was_not_judged_as_none() -> None:
    [row] = scenario_rows(made(dialogue("c", None, tokens=5)))
    assert row == {
        "id": "c",
        "sample": 0,
        "score": None,
        "parts": {},
        "turns": 1,
        "tokens": 5,
        "ending": "speaker_failed",
    }


def rows(*trajectories: Trajectory) -> list[dict[str, object]]:
    return scenario_rows(made(*trajectories))


def test_a_comparison_by_hand() -> None:
    before = rows(dialogue("a", 0.0), dialogue("b", 0.5), dialogue("c", 0.25))
    after = rows(
        dialogue("a", 1.0, success=1.0), dialogue("b", 0.5, success=1.0), dialogue("c", None)
    )
    paired = comparison(before, after)
    # Differences 1 and 0; the scenario that only one of them could judge is left out.
    score, success = paired["score"], paired["success"]
    assert isinstance(score, dict) and isinstance(success, dict)
    assert score["difference"] == 0.5
    assert 0.0 <= score["low"] <= 0.5 <= score["high"] <= 1.0
    assert success == {"difference": 1.0, "low": 1.0, "high": 1.0}
    assert (paired["num_scenarios"], paired["not_judged"]) == (2, 1)


def test_the_same_evaluation_differs_by_nothing() -> None:
    same = scenario_rows(played(samples=2))
    nothing = {"difference": 0.0, "low": 0.0, "high": 0.0}
    assert comparison(same, same) == {
        "score": nothing,
        "success": nothing,
        "num_scenarios": 5,
        "not_judged": 0,
    }


def test_evaluations_of_other_scenarios_are_not_compared() -> None:
    with pytest.raises(GroupError, match="'c'|c"):
        comparison(rows(dialogue("a", 1.0)), rows(dialogue("a", 1.0), dialogue("c", 1.0)))


@dataclass(frozen=True)
class OneFails(Yes):
    """The user of one held-out scenario breaks."""

    def user(self, scenario: Scenario, seed: int) -> User:
        return Broken() if scenario.seed == HELD_OUT + 2 else Nodding()


class Broken:
    async def reply(self, conversation: Conversation) -> Reply:
        raise ConnectionError("no route")


def test_a_failed_dialogue_is_told_and_is_no_zero() -> None:
    result = played(on=Stage(OneFails(), CHAT, LIMITS))
    assert [failure.plan.scenario_seed for failure in result.failures] == [HELD_OUT + 2]
    row = summary(result)
    assert row["not_judged"] == 1.0
    whole = summary(played())
    judged = [t.outcome.score for t in played().trajectories]
    kept = [score or 0.0 for i, score in enumerate(judged) if i != 2]
    assert row["score/mean"] == pytest.approx(sum(kept) / 4)
    assert whole["not_judged"] == 0.0


def test_greedy_evaluation_does_not_depend_on_chance() -> None:
    greedy = replace(stage(), temperature=0.0)
    first, second = played(on=greedy, seed=0), played(on=greedy, seed=1)
    assert [t.token_ids for t in first.trajectories] == [t.token_ids for t in second.trajectories]
