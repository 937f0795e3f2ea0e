"""What a dialogue is worth after each turn, against values that are known."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.rollouts.speaking import Speaking, Speech, stage_of
from tests.rollouts.toy import CHAT, LIMITS, Yes, answers, backend, stage
from turnwise.backends import AdapterSpec
from turnwise.backends.protocol import Sampler
from turnwise.conversation import Conversation, Ending, Message, Outcome, Trajectory
from turnwise.errors import ConfigError
from turnwise.rollouts import (
    LookaheadValues,
    Plan,
    Stage,
    keyed_seed,
    lookahead_values,
    play,
)
from turnwise.tasks import RuleTask, Scenario, make
from turnwise.tasks.guess import ATTRIBUTES, GUESS, OBJECTS, GuessGame
from turnwise.tasks.reading import asked
from turnwise.users import Key, Reply, happens, pick


def scenario_seed(trajectory: Trajectory) -> int:
    return int(trajectory.scenario_id.rsplit("-", 1)[1])


def ahead(
    on: Stage[Any],
    sampler: Sampler,
    trajectories: Sequence[Trajectory],
    *,
    samples: int = 2,
    seed: int = 0,
) -> LookaheadValues:
    return asyncio.run(
        lookahead_values(
            on, sampler, trajectories, samples=samples, seed=seed, scenario_seed_of=scenario_seed
        )
    )


def dialogues(on: Stage[Any], sampler: Sampler, number: int) -> list[Trajectory]:
    plans = [Plan(i, f"g{i}", keyed_seed("dialogue", i)) for i in range(number)]
    return asyncio.run(play(on, sampler, plans))[0]


def table_policy(seed: int = 0) -> Sampler:
    return backend(seed).create("policy", AdapterSpec()).publish()


def saying(text: str) -> Speaking:
    return Speaking(CHAT, lambda conversation, key: text)


def test_the_value_of_a_turn_is_how_another_policy_would_end_from_there() -> None:
    """Three turns of "no", and three of "yes": the score is the share of "yes"."""
    [no, yes] = [dialogues(stage(), saying(text), 1)[0] for text in ("no", "yes")]
    found = ahead(stage(), saying("yes"), [no, yes], samples=3)
    # After one "no" two "yes" follow, after two one; the last value is the dialogue's own outcome.
    assert_close(found.value_BK, torch.tensor([[2 / 3, 1 / 3, 0.0], [1.0, 1.0, 1.0]]))
    assert_close(found.std_error_BK[:, :2], torch.zeros(2, 2))
    assert found.std_error_BK[:, 2].isnan().all()
    # 2 dialogues × 2 states × 3: with two turns to come from the first state, one from the second,
    # of two tokens each.
    assert (found.num_dialogues, found.num_tokens, found.num_failed) == (12, 2 * 3 * 3 * 2, 0)
    assert found.metrics() == {
        "lookahead/dialogues": 12.0,
        "lookahead/tokens": 36.0,
        "lookahead/failed": 0.0,
        "lookahead/unknown": 0.0,
        "lookahead/std_error": 0.0,
    }


def test_a_dialogue_of_one_turn_is_worth_its_outcome_and_costs_nothing() -> None:
    [short] = dialogues(stage(), saying("bye"), 1)
    [long] = dialogues(stage(), saying("yes"), 1)
    assert (len(short.turns), len(long.turns)) == (1, 3)
    alone = ahead(stage(), saying("yes"), [short])
    assert alone.value_BK.tolist() == [[0.0]]
    assert (alone.num_dialogues, alone.num_tokens) == (0, 0)
    assert "lookahead/std_error" not in alone.metrics()
    # Beside a longer one its missing turns hold 0.
    assert ahead(stage(), saying("yes"), [short, long]).value_BK[0].tolist() == [0.0, 0.0, 0.0]


def test_a_value_depends_neither_on_the_order_nor_on_the_number_of_dialogues() -> None:
    sampler = table_policy()
    played = [one for one in dialogues(stage(), sampler, 40) if len(one.turns) == 3][:6]
    whole = ahead(stage(), sampler, played)
    assert len(whole.value_BK[:, :2].unique()) > 2
    order = [4, 0, 5, 2]
    some = ahead(stage(max_live=3), sampler, [played[i] for i in order])
    assert torch.equal(some.value_BK, whole.value_BK[order])
    other = ahead(stage(), sampler, played, seed=1)
    assert not torch.equal(other.value_BK, whole.value_BK)


@dataclass(frozen=True)
class Leaving:
    """A user who cannot be had from the second assistant turn on."""

    async def reply(self, conversation: Conversation) -> Reply:
        if len(answers(conversation)) < 2:
            return Reply(Message("user", "go"))
        raise ConnectionError("no route")


@dataclass(frozen=True)
class OneLeaves(Yes):
    """The user of one dialogue is lost."""

    who: int = keyed_seed("dialogue", 1)

    def user(self, scenario: Scenario, seed: int) -> Any:
        return Leaving() if seed == self.who else super().user(scenario, seed)


def test_a_state_without_a_judged_continuation_has_no_value_and_is_counted() -> None:
    played = dialogues(stage(), saying("yes"), 3)
    broken = Stage(OneLeaves(), CHAT, LIMITS)
    found = ahead(broken, saying("yes"), played)
    assert found.value_BK[1].isnan().tolist() == [True, True, False]
    assert found.value_BK[[0, 2]].eq(1.0).all()
    assert found.num_failed == 4
    assert found.metrics()["lookahead/unknown"] == 2.0


@dataclass(frozen=True)
class SometimesJudged(Yes):
    """An outcome that cannot always be had: only that of a dialogue with a "no"."""

    def outcome(self, scenario: Scenario, conversation: Conversation, seed: int) -> Outcome:
        judged = super().outcome(scenario, conversation, seed)
        return judged if "no" in answers(conversation) else Outcome(None)


def test_a_continuation_without_an_outcome_is_left_out_of_the_mean() -> None:
    on = Stage(SometimesJudged(), CHAT, LIMITS)
    [original] = dialogues(stage(), saying("yes"), 1)

    def yes_or_no(conversation: Conversation, key: tuple[Key, ...]) -> str:
        return pick(("yes", "no"), *key)

    found = ahead(on, Speaking(CHAT, yes_or_no), [original], samples=40)
    # After two turns "yes yes yes" has no outcome and "yes yes no" has 2/3: never a zero between.
    assert found.value_BK[0, 1] == pytest.approx(2 / 3)
    assert 0 < found.num_failed < 80


def test_a_dialogue_that_was_not_judged_has_no_last_value() -> None:
    [one] = dialogues(stage(), saying("yes"), 1)
    lost = replace(one, outcome=Outcome(None), ending=Ending.TURN_LIMIT)
    assert ahead(stage(), saying("yes"), [lost]).value_BK.isnan().tolist() == [[False, False, True]]


def test_at_least_one_continuation_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="at least one continuation of each turn, got 0"):
        ahead(stage(), saying("yes"), [], samples=0)


GUESS_RATE = 0.3
EASY = make("guess", "easy")
TURNS = EASY.max_turns


def candidates(conversation: Conversation) -> tuple[str, ...]:
    """The objects of `guess` easy that agree with every answer."""
    left = tuple(OBJECTS)[:8]
    for question, reply in zip(conversation, conversation[1:], strict=False):
        attribute = asked(question.content, ATTRIBUTES)
        if question.role == "assistant" and attribute is not None:
            is_yes = reply.content.startswith("yes")
            left = tuple(name for name in left if (attribute in OBJECTS[name]) == is_yes)
    return left


def guesser(conversation: Conversation, key: tuple[Key, ...]) -> str:
    """Asks one attribute after the other; with 3 chances in 10, and at last, it guesses."""
    turn = len(answers(conversation))
    if turn + 1 == TURNS or happens(GUESS_RATE, *key, "guess"):
        return GUESS.format(object=pick(candidates(conversation), *key))
    return f"is it {ATTRIBUTES[turn]} ?"


def worth(thing: str, left: tuple[str, ...], turn: int) -> float:
    """Exact chance that `guesser` names the thing, before its turn number `turn`."""
    rate = 1.0 if turn + 1 == TURNS else GUESS_RATE
    if rate == 1.0:
        return 1 / len(left)
    attribute = ATTRIBUTES[turn]
    alike = tuple(o for o in left if (attribute in OBJECTS[o]) == (attribute in OBJECTS[thing]))
    return rate / len(left) + (1 - rate) * worth(thing, alike, turn + 1)


def test_the_mean_of_continuations_is_the_enumerated_value() -> None:
    """100 continuations of each state; 4 standard errors are passed by chance once in 16,000."""
    on = stage_of(EASY, *(f"is it {name} ?" for name in ATTRIBUTES[:4]))
    speaker: Speech = guesser
    sampler = Speaking(on.chat, speaker)
    played = [one for one in dialogues(on, sampler, 14) if len(one.turns) > 1][:7]
    samples = 100
    found = ahead(on, sampler, played, samples=samples)
    assert isinstance(EASY, RuleTask) and isinstance(EASY.game, GuessGame)
    errors, checked = [], 0
    for b, one in enumerate(played):
        thing = EASY.scenario(scenario_seed(one)).object
        for k in range(len(one.turns) - 1):
            # Turn k was a question: the state after its reply is the one before turn k + 1.
            past = one.conversation[: 2 * k + 3]
            value = worth(thing, candidates(past), k + 1)
            deviation = (value * (1 - value) / samples) ** 0.5
            gap = float(found.value_BK[b, k]) - value
            assert abs(gap) <= 4 * deviation + 1e-6
            checked += 1
            if deviation > 0:
                errors.append(gap / deviation)
    assert checked >= 12 and len(errors) >= 10
    assert abs(sum(errors)) < 4 * len(errors) ** 0.5  # no bias that each alone would hide


def test_the_standard_error_is_that_of_a_mean() -> None:
    """Of n judged scores with variance s²: s/√n. Here n scores 0 or 1, s² = n·p·(1 − p)/(n − 1)."""
    on = stage_of(EASY, *(f"is it {name} ?" for name in ATTRIBUTES[:4]))
    sampler = Speaking(on.chat, guesser)
    played = [one for one in dialogues(on, sampler, 6) if len(one.turns) > 1]
    found = ahead(on, sampler, played, samples=8)
    is_state_BK: Tensor = ~found.std_error_BK.isnan()
    p_N = found.value_BK[is_state_BK]
    assert ((p_N > 0) & (p_N < 1)).any()
    assert_close(found.std_error_BK[is_state_BK], (p_N * (1 - p_N) / 7).sqrt())
    assert int(is_state_BK.sum()) * 8 == found.num_dialogues
    single = ahead(on, sampler, played, samples=1)
    assert single.std_error_BK.isnan().all()
    assert not single.value_BK.isnan().any()
