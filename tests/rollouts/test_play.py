"""Dialogues side by side: nobody waits for another, and nobody's failure is another's."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest

from tests.rollouts.toy import LIMITS, Nodding, Yes, answers, backend, stage
from turnwise.backends import AdapterSpec
from turnwise.backends.fake import FakeSampler
from turnwise.backends.protocol import Sample, SampleRequest
from turnwise.conversation import Conversation, Ending, Message, Outcome, Trajectory
from turnwise.errors import ModelError
from turnwise.rollouts import Failure, Plan, Stage, keyed_seed, play
from turnwise.tasks import Scenario
from turnwise.users import Reply, User

PLANS = [Plan(number // 2, f"g{number // 2}", keyed_seed("plan", number)) for number in range(6)]


def sampler() -> FakeSampler:
    return backend().create("policy", AdapterSpec()).publish()


def run(
    on: Stage[Scenario], plans: list[Plan] = PLANS, of: FakeSampler | None = None
) -> tuple[list[Trajectory], list[Failure]]:
    return asyncio.run(play(on, of or sampler(), plans))


def timeless(trajectory: Trajectory) -> Trajectory:
    return replace(trajectory, usage=replace(trajectory.usage, wall_s=0.0))


@dataclass(frozen=True)
class Answering:
    """A user who says what a function says."""

    say: Callable[[Conversation], Awaitable[Reply]]

    async def reply(self, conversation: Conversation) -> Reply:
        return await self.say(conversation)


@dataclass(frozen=True)
class OneFails(Yes):
    """The user of one dialogue is another."""

    who: int = PLANS[3].seed
    other: User = field(default_factory=Nodding)

    def user(self, scenario: Scenario, seed: int) -> User:
        return self.other if seed == self.who else Nodding()

    def outcome(self, scenario: Scenario, conversation: Conversation, seed: int) -> Outcome:
        assert seed != self.who, "a failed dialogue is not judged"
        return super().outcome(scenario, conversation, seed)


async def _breaks(conversation: Conversation) -> Reply:
    if len(answers(conversation)) == 1:
        return Reply(Message("user", "go"))
    raise ConnectionError("no route")


async def _sleeps(conversation: Conversation) -> Reply:
    await asyncio.sleep(60)
    return Reply(Message("user", "go"))


async def _says_nothing(conversation: Conversation) -> Reply:
    return Reply()


def test_equal_plans_give_equal_dialogues_whatever_is_live_beside_them() -> None:
    expected = [timeless(trajectory) for trajectory in run(stage())[0]]
    assert [trajectory.seed for trajectory in expected] == [plan.seed for plan in PLANS]
    assert len({trajectory.token_ids for trajectory in expected}) > 1
    for max_live in (1, 2, 5):
        assert [timeless(one) for one in run(stage(max_live))[0]] == expected
    order = random.Random(0).sample(range(len(PLANS)), len(PLANS))
    shuffled, _ = run(stage(2), [PLANS[i] for i in order])
    assert [timeless(one) for one in shuffled] == [expected[i] for i in order]


def test_a_trajectory_says_who_played_it_and_what_it_cost() -> None:
    trajectories, failures = asyncio.run(play(stage(), sampler(), PLANS, policy_version=7))
    assert failures == []
    for plan, trajectory in zip(PLANS, trajectories, strict=True):
        assert (trajectory.scenario_id, trajectory.group_id) == (
            f"yes-plain-{plan.scenario_seed}",
            plan.group_id,
        )
        written = sum(turn.stop - turn.start for turn in trajectory.turns)
        usage = trajectory.usage
        assert usage.completion_tokens == written
        assert usage.prompt_tokens + written == len(trajectory.token_ids)
        assert usage.wall_s >= 0
        assert trajectory.policy_version == 7
        right = [float(text == "yes") for text in answers(trajectory.conversation)]
        assert [turn.rewards for turn in trajectory.turns] == [{"yes": value} for value in right]


@pytest.mark.parametrize(
    ("say", "reason", "turns"),
    [
        (_breaks, "ConnectionError: no route", (1, 2)),
        (_sleeps, "no reply in time (rollout.timeout_s)", (1,)),
        (_says_nothing, "SpeakerError: expected a message", (1,)),
    ],
)
def test_a_users_failure_ends_its_dialogue_alone_and_is_never_a_zero(
    say: Callable[[Conversation], Awaitable[Reply]], reason: str, turns: tuple[int, ...]
) -> None:
    on = Stage(OneFails(other=Answering(say)), stage().chat, replace(LIMITS, timeout_s=0.2))
    trajectories, failures = run(on)
    assert [failure.plan for failure in failures] == [PLANS[3]]
    assert failures[0].reason.startswith(reason)
    failed = trajectories[3]
    assert (failed.ending, failed.outcome.score) == (Ending.SPEAKER_FAILED, None)
    assert len(failed.turns) in turns  # what was said so far is kept
    expected = [timeless(one) for one in run(stage())[0]]
    others = [i for i in range(len(PLANS)) if i != 3]
    assert [timeless(trajectories[i]) for i in others] == [expected[i] for i in others]


class Breaking(FakeSampler):
    """A sampler that breaks at its third sample; it hears who was cancelled."""

    def __init__(self) -> None:
        super().__init__(backend().table_VV)
        self.samples = 0

    async def sample(self, request: SampleRequest) -> Sample:
        self.samples += 1
        if self.samples == 3:
            raise ModelError("out of memory")
        await asyncio.sleep(0.001)
        return await super().sample(request)


def test_a_samplers_error_is_raised_and_the_other_dialogues_are_cancelled() -> None:
    breaking = Breaking()
    with pytest.raises(ModelError, match="out of memory"):
        run(stage(), of=breaking)
    assert breaking.samples == len(PLANS)  # the first turn of each, nothing after
    assert sorted(breaking.released) == sorted(
        f"{number}/{plan.seed}" for number, plan in enumerate(PLANS)
    )


def test_a_tasks_own_error_is_not_a_speakers() -> None:
    class Unjudgeable(Yes):
        def outcome(self, scenario: Scenario, conversation: Conversation, seed: int) -> Outcome:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(Stage(Unjudgeable(), stage().chat, LIMITS))


def test_every_dialogue_gives_its_cache_back_once() -> None:
    one = sampler()
    run(stage(2), of=one)
    expected = sorted(f"{number}/{plan.seed}" for number, plan in enumerate(PLANS))
    assert sorted(one.released) == expected


def test_whoever_watches_hears_of_each_dialogue_as_it_ends() -> None:
    heard: list[Trajectory] = []
    trajectories, _ = asyncio.run(play(stage(), sampler(), PLANS, on_finished=heard.append))
    assert sorted(one.seed for one in heard) == sorted(one.seed for one in trajectories)


def test_no_more_dialogues_are_live_than_allowed() -> None:
    live, most = 0, 0

    class Counting(FakeSampler):
        async def sample(self, request: SampleRequest) -> Sample:
            nonlocal live, most
            live += 1
            most = max(most, live)
            await asyncio.sleep(0.001)
            live -= 1
            return await super().sample(request)

    run(stage(2), of=Counting(backend().table_VV))
    assert most == 2


def test_a_keyed_seed_depends_on_the_key_alone() -> None:
    assert keyed_seed(0, 1, 2) == keyed_seed(0, 1, 2)
    seeds = {keyed_seed(a, b) for a in range(30) for b in range(30)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**62 for seed in seeds)
    assert keyed_seed("a", 1) != keyed_seed("a", "1")
