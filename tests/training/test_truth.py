"""The exact truth of a task as arrays."""

import asyncio
from math import log

import pytest
import torch
from torch.testing import assert_close

from tests.rollouts.speaking import Speaking, stage_of
from tests.rollouts.toy import backend, stage
from turnwise.backends import AdapterSpec
from turnwise.conversation import Conversation, Trajectory
from turnwise.errors import ShapeError
from turnwise.rollouts import Plan, play
from turnwise.tasks import KnowsTruth, list_tasks, make
from turnwise.tokens import turn_batch
from turnwise.training.truth import oracle_credit, scenario_seed, truth
from turnwise.users import Key, pick

TASKS = [(name, preset) for name, presets in list_tasks().items() for preset in presets]
EASY = make("guess", "easy")
SCRIPT = ("is it round ?", "is it metal ?", "hello", "it is the coin .")
TEXTS = (*SCRIPT, "which day ?", "which size ?", "book told")


def script(conversation: Conversation, key: tuple[Key, ...]) -> str:
    return SCRIPT[sum(message.role == "assistant" for message in conversation)]


def coin_seed() -> int:
    return next(seed for seed in range(100) if EASY.scenario(seed).object == "coin")


def test_truth_of_a_dialogue_by_hand() -> None:
    """Of 8 objects 3 are round (coin, lamp, ball), and of these the coin alone is metal."""
    on = stage_of(EASY, *SCRIPT)
    [played] = asyncio.run(play(on, Speaking(on.chat, script), [Plan(coin_seed(), "g", 1)]))[0]
    is_turn_BK = torch.ones(1, 4, dtype=torch.bool)
    found = truth(on, [played], is_turn_BK)
    assert found is not None
    # 8 objects left, then 3, then 1.
    gains = [log(8 / 3), log(3), 0.0, 0.0]
    assert_close(found.gain_BK, torch.tensor([gains]))
    # 4 questions tell 8 objects apart before the fifth turn: the value is 1 from the start, and
    # two are enough here, so that "hello" wastes nothing.
    assert_close(found.oracle_BK, torch.zeros(1, 4))


def random_dialogues(name: str, preset: str) -> list[Trajectory]:
    on = stage_of(make(name, preset), *TEXTS)
    sampler = Speaking(on.chat, lambda conversation, key: pick(TEXTS, *key))
    return asyncio.run(play(on, sampler, [Plan(i, "g", 100 + i) for i in range(6)]))[0]


@pytest.mark.parametrize(("name", "preset"), TASKS)
def test_every_rule_based_task_knows_the_truth_of_its_dialogues(name: str, preset: str) -> None:
    task = make(name, preset)
    assert isinstance(task, KnowsTruth)
    judged = random_dialogues(name, preset)
    batch = turn_batch(judged)
    K = batch.num_turns
    is_turn_BK = torch.arange(K) < torch.tensor([[len(one.turns)] for one in judged])
    found = truth(stage_of(task), judged, is_turn_BK)
    assert found is not None
    for b, one in enumerate(judged):
        scenario = task.scenario(scenario_seed(one))
        pad = [0.0] * (K - len(one.turns))
        gain = task.information_gain(scenario, one.conversation, one.seed)
        assert_close(found.gain_BK[b], torch.tensor([*gain, *pad]))
        credit = task.oracle(scenario, one.conversation, one.seed)
        assert_close(found.oracle_BK[b], torch.tensor([*credit, *pad]))
    assert len(found.oracle_BK.unique()) > 1


def test_a_task_that_knows_no_information_has_no_truth_but_may_have_an_oracle() -> None:
    sampler = backend().create("policy", AdapterSpec()).publish()
    [one] = asyncio.run(play(stage(), sampler, [Plan(0, "g", 0)]))[0]
    is_turn_BK = torch.ones(1, len(one.turns), dtype=torch.bool)
    assert truth(stage(), [one], is_turn_BK) is None
    expected = stage().task.oracle(stage().task.scenario(0), one.conversation, 0)
    assert_close(oracle_credit(stage(), [one], is_turn_BK), torch.tensor([expected]))


def test_a_batch_of_other_turns_is_refused() -> None:
    judged = random_dialogues("guess", "easy")
    with pytest.raises(ShapeError, match="dialogue 0: expected 9 to 9"):
        truth(stage_of(EASY), judged, torch.ones(len(judged), 9, dtype=torch.bool))
