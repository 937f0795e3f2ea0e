"""Targets of fitted Q evaluation: by hand, who has one, and what the policy is asked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import pytest
import torch
from torch import Tensor

from tests.iteration.logged import heard, logged, said, settings, yes_or_no
from tests.rollouts.toy import CHAT, TOKENIZER, backend, ids
from turnwise.backends import AdapterSpec, Sample, Sampler, SampleRequest
from turnwise.backends.local import LocalBackend
from turnwise.backends.protocol import Weights
from turnwise.backends.tiny import tiny_model
from turnwise.conversation import LoggedConversation
from turnwise.errors import OutcomeError
from turnwise.iteration.episodes import Episode, build_episodes
from turnwise.iteration.fqe import NextReplies, fqe_targets, next_replies, num_sweeps
from turnwise.iteration.q_fit import fit_q
from turnwise.iteration.q_heads import Lesson, Marked, Scores
from turnwise.iteration.q_values import FittedQ
from turnwise.qvalues.calibration import LossName

YES = ids("yes")[0]


@dataclass(frozen=True)
class YesCounter:
    """Q = .75 where the reply that is read begins with yes, .25 elsewhere; a table in words."""

    num_heads: int = 1
    loss: LossName = "square"

    @property
    def learner(self) -> Weights:
        raise AssertionError("nothing learns here")

    def scores(self, rows: Marked) -> Scores:
        start_BK = (rows.v_at_BK + 1).clamp(min=0)
        is_yes_BK = rows.batch.token_BT.gather(1, start_BK) == YES
        q_BK = torch.where(is_yes_BK, 0.75, 0.25).masked_fill(rows.q_at_BK < 0, torch.nan)
        return Scores(q_BK[None], q_BK[None], None)

    def cost(self, lesson: Lesson) -> Tensor:
        raise AssertionError("nothing learns here")

    def backward(self, lesson: Lesson, divisor: float) -> float:
        raise AssertionError("nothing learns here")


@dataclass
class Speaker:
    """A sampler that says its words in turn, and remembers what it was asked."""

    words: Sequence[str]
    asked: list[SampleRequest] = field(default_factory=list)
    released: list[str] = field(default_factory=list)

    async def sample(self, request: SampleRequest) -> Sample:
        self.asked.append(request)
        word = self.words[request.noise_seed % len(self.words)]
        return Sample((*ids(word), CHAT.stop_id), (0.0,) * 2, "stop")

    def release(self, session: str) -> None:
        self.released.append(session)


def speaker(*words: str) -> Speaker:
    return Speaker(words)


def built(*conversations: LoggedConversation, discount: float = 1.0) -> list[Episode]:
    config = settings(turn_discount=discount)
    return build_episodes(conversations, CHAT, config, round=0, version="v1")[0]


def two_turns(name: str, outcome: float | None = 1.0, **more: object) -> LoggedConversation:
    first = said("no", **more)
    return logged(heard("hello"), first, heard("go"), said("no"), outcome=outcome, name=name)


def asked(episodes: Sequence[Episode], sampler: Sampler, number: int = 2) -> NextReplies:
    return next_replies(
        episodes, sampler, number=number, stop_id=CHAT.stop_id, max_tokens=3, key=(7,)
    )


def of_policy(*words: str, episodes: Sequence[Episode]) -> NextReplies:
    """Replies of a policy that says these words, one each, at every next state."""
    found = asked(episodes, speaker(words[0]), number=1)
    for word in words[1:]:
        more = asked(episodes, speaker(word), number=1)
        rows = {
            state: [*found.of_state[state], *(len(found.rows) + r for r in places)]
            for state, places in more.of_state.items()
        }
        found = NextReplies([*found.rows, *more.rows], rows)
    return found


def q_of_words(low: float = 0.0, high: float = 1.0) -> FittedQ:
    return FittedQ(YesCounter(), low, high)


def targets(episodes: Sequence[Episode], *words: str, discount: float = 1.0) -> list[list[float]]:
    following = of_policy(*words, episodes=episodes)
    return fqe_targets(q_of_words(), episodes, following, discount=discount)


def test_a_target_is_the_reward_and_what_the_policys_own_reply_is_worth() -> None:
    """The policy says yes, then no, where the log says no: .9·(.75 + .25)/2 = .45; at the end 1."""
    (found,) = targets(built(two_turns("c")), "yes", "no", discount=0.9)
    assert found == pytest.approx([0.45, 1.0])
    (sure,) = targets(built(two_turns("c", outcome=0.5, reward=0.1)), "yes", discount=0.9)
    assert sure == pytest.approx([0.1 + 0.9 * 0.75, 0.5])


def test_a_censored_conversation_loses_only_its_last_transition() -> None:
    found = targets(built(two_turns("c", outcome=None)), "yes")
    assert found[0][0] == pytest.approx(0.75) and math.isnan(found[0][1])


def test_human_steps_have_a_target_and_steps_taken_out_have_none() -> None:
    by_hand = targets(built(two_turns("c", author="human")), "yes")
    assert by_hand[0][0] == pytest.approx(0.75)
    taken_out = targets(built(two_turns("c", is_scored=False)), "yes")
    assert math.isnan(taken_out[0][0]) and taken_out[0][1] == 1.0


def test_a_step_whose_next_state_is_in_no_row_has_no_target() -> None:
    episodes = built(two_turns("c"))
    cut = [replace_turns(episodes[0])]
    assert math.isnan(targets(cut, "yes")[0][0])


def replace_turns(episode: Episode) -> Episode:
    """The row without its last turn, which did not fit."""
    row = episode.trajectory
    return replace(
        episode,
        trajectory=replace(row, turns=row.turns[:1]),
        turn_index=(0,),
        reward=episode.reward[:1],
        mc_return=episode.mc_return[:1],
        is_last=(False,),
        is_human=(False,),
        trains_q=(True,),
        has_mc=(True,),
    )


def test_next_states_are_found_across_rows_of_one_step() -> None:
    proposed = two_turns("c", proposed="hello")
    episodes = built(proposed)
    assert len(episodes) == 2
    assert [round(y[0], 6) for y in targets(episodes, "yes")] == [0.75, 1.0]


def test_a_target_outside_the_range_is_named_and_an_estimate_outside_is_brought_back() -> None:
    episodes = built(two_turns("c", outcome=0.0, reward=0.5))
    with pytest.raises(OutcomeError, match=r"conversation c, decision step 0: .* found 1.25; set"):
        targets(episodes, "yes")
    following = of_policy("yes", episodes=episodes)
    narrow = fqe_targets(
        FittedQ(YesCounter(), 0.0, 1.0), episodes, following, discount=0.5
    )  # .5 + .5·.75 fits
    assert narrow[0][0] == pytest.approx(0.875)


def test_the_policy_is_asked_m_times_at_every_next_state_with_noise_of_its_own() -> None:
    episodes = built(two_turns("c"), two_turns("d"), logged(heard("hello"), said("no"), name="e"))
    one, other = speaker("yes", "no", "bye"), speaker("yes", "no", "bye")
    found = asked(episodes, one, number=3)
    assert set(found.of_state) == {(0, "c", 1), (0, "d", 1)}
    assert all(len(rows) == 3 for rows in found.of_state.values())
    assert len({request.noise_seed for request in one.asked}) == 6
    assert all(request.temperature == 1.0 for request in one.asked)
    second = episodes[0].trajectory.turns[1].start
    assert one.asked[0].prompt_ids == episodes[0].trajectory.token_ids[:second]
    again = asked(list(reversed(episodes)), other, number=3)
    assert again.of_state == found.of_state and again.rows == found.rows
    assert set(one.released) == {request.session for request in one.asked}


def test_equal_replies_are_read_once() -> None:
    episodes = built(two_turns("c"), two_turns("d"))
    found = asked(episodes, speaker("yes"), number=4)
    assert len(found.rows) == 1  # both states are of the same text
    assert all(set(rows) == {0} for rows in found.of_state.values())


def test_sweeps_are_no_more_than_conversations_have_steps() -> None:
    short, long = built(two_turns("c")), built(logged(*[heard("go"), said("no")] * 9, name="d"))
    assert num_sweeps(short, 6) == 2
    assert num_sweeps(long, 6) == 6
    assert num_sweeps([*short, *built(*(two_turns(f"x{i}") for i in range(60))), *long], 6) == 2


def test_fqe_finds_the_policys_q_where_returns_find_that_of_the_logs() -> None:
    """The second reply alone decides: success .9 after yes, .2 after no. The logs say yes in one
    of five cases, so that the first reply's return is .34; the policy always says yes: Q = .9."""
    conversations = [yes_or_no(i, second=0.2, effect=0.7) for i in range(600)]
    config = settings({"q": {"learning_rate": 0.005, "num_heads": 1, "batch_size": 16}})
    found = {}
    for kind in ("mc", "fqe"):
        q = config.q.model_copy(update={"targets": kind})
        model = tiny_model(TOKENIZER, hidden_size=64, num_layers=1, seed=1)
        on = LocalBackend(model, TOKENIZER)
        episodes = build_episodes(conversations, CHAT, config, round=0, version=None)[0]
        fit = fit_q(on, CHAT, episodes, q, discount=1.0, seed=0, sampler=speaker("yes"))
        rows = [episode.trajectory for episode in episodes]
        found[kind] = fit.a.values(rows).q_BK[:, 0].mean().item()
    assert found["mc"] < 0.5
    assert found["fqe"] > 0.75


def test_a_table_can_be_asked_too() -> None:
    policy = backend().create("policy", AdapterSpec()).publish()
    found = asked(built(two_turns("c")), cast(Sampler, policy))
    assert all(row.turns[0].num_tokens <= 3 for row in found.rows)
