"""The best of n replies by Q, by hand and on a table policy."""

import asyncio
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from tests.iteration.climbing import MAX_TOKENS, Says, fresh, policies, prompts, worth, yeses
from tests.rollouts.toy import CHAT
from turnwise.backends import Sample, SampleRequest
from turnwise.errors import GroupError, LogsError
from turnwise.iteration.config import PreviewConfig
from turnwise.iteration.preview import (
    BestOfNSampler,
    best_of_gain,
    fixed_prompts,
    preview,
    shortfall,
)
from turnwise.iteration.replies import draw_prompts, sample_replies


def test_the_best_of_two_by_hand() -> None:
    # Pairs of (0, 1, 3): best 1, 3, 3, mean 7/3; a reply as such is worth 4/3
    q_SG = tensor([[3.0, 0.0, 1.0]])
    assert_close(best_of_gain(q_SG, q_SG, 2), tensor([1.0]))
    assert_close(best_of_gain(q_SG, q_SG, 3), tensor([5 / 3]))
    assert_close(best_of_gain(q_SG, q_SG, 1), tensor([0.0]))
    # Who chooses by q and is paid by another: 2, 6, 6 of (6, 0, 2) less 8/3
    assert_close(best_of_gain(q_SG, tensor([[6.0, 0.0, 2.0]]), 2), tensor([2.0]))
    for n in (0, 4):
        with pytest.raises(GroupError, match="1 to 3 replies"):
            best_of_gain(q_SG, q_SG, n)


def test_the_gain_is_the_mean_over_all_choices() -> None:
    generator = torch.Generator().manual_seed(0)
    q_SG, value_SG = torch.randn(2, 4, 6, generator=generator, dtype=torch.float64)
    for n in range(1, 7):
        by_hand_S = [
            sum(
                float(value_SG[s, max(chosen, key=lambda g: float(q_SG[s, g]))])
                for chosen in choices
            )
            / len(choices)
            for s in range(4)
            for choices in [list(combinations(range(6), n))]
        ]
        expected_S = torch.tensor(by_hand_S, dtype=torch.float64) - value_SG.mean(dim=1)
        assert_close(best_of_gain(q_SG, value_SG, n), expected_S)


def test_the_shortfall_is_read_between_two_numbers_of_replies() -> None:
    # Replies 0 and 1: best of 1 gains 0 at KL 0, best of 2 gains 0.5 at ln 2 − ½ = 0.1931
    q_SG = tensor([[0.0, 1.0]])
    assert shortfall(q_SG, kl=0.0966, gain=0.1) == pytest.approx(0.15, abs=1e-3)
    assert shortfall(q_SG, kl=7.0, gain=0.7) == pytest.approx(-0.2)


def test_a_preview_says_what_the_best_of_n_gains_and_how_surely() -> None:
    sampler, config = policies()[1].publish(), PreviewConfig(num_prompts=40, num_generations=6)
    shrunk = Says(lambda tokens: 0.5 * yeses(tokens))
    found = preview(
        sampler,
        Says(),
        shrunk,
        prompts(),
        config,
        chat=CHAT,
        max_turn_tokens=MAX_TOKENS,
        seed=0,
        round=0,
    )
    assert found.kl == pytest.approx(1.7918 - 5 / 6, abs=1e-4)
    assert found.num_prompts == found.gain_b.num_clusters == 40
    assert found.gain_a > 0.05
    assert found.gain_b.mean == pytest.approx(found.gain_a / 2, abs=1e-6)
    assert 0 < found.gain_b.low < found.gain_b.mean < found.gain_b.high
    assert 0.2 < found.truncated < 0.8


def test_serving_the_best_of_n_gains_what_the_preview_promised() -> None:
    sampler = policies()[1].publish()
    replies = fresh(sampler)
    q_SG = replies.by_prompt(Says().values(replies.rows).q_BK[:, 0])
    promised = float(best_of_gain(q_SG, q_SG, 4).mean())
    served = worth(BestOfNSampler(sampler, Says(), 4)) - worth(sampler)
    assert promised > 0.05
    assert served == pytest.approx(
        promised, abs=0.03
    )  # 512 replies of spread 0.2: 3 standard errors


def test_the_best_of_one_is_the_reply_itself() -> None:
    sampler = policies()[1].publish()
    request = SampleRequest(prompts()[0].token_ids, 5, MAX_TOKENS, (CHAT.stop_id,))

    async def both() -> tuple[Sample, Sample]:
        return await sampler.sample(request), await BestOfNSampler(sampler, Says(), 1).sample(
            request
        )

    plain, best = asyncio.run(both())
    assert plain == best
    BestOfNSampler(sampler, Says(), 2).release("dialogue")


def test_replies_stand_by_prompt_and_their_noise_by_key() -> None:
    sampler, states = policies()[1].publish(), prompts(6)
    whole = sample_replies(sampler, states, 3, stop_id=CHAT.stop_id, max_tokens=6, key=("a", 1))
    fewer = sample_replies(sampler, states[:2], 2, stop_id=CHAT.stop_id, max_tokens=6, key=("a", 1))
    other = sample_replies(sampler, states, 3, stop_id=CHAT.stop_id, max_tokens=6, key=("a", 2))
    assert whole.prompt_B.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5]
    assert [row.scenario_id for row in whole.rows[::3]] == [f"c{i}" for i in range(6)]
    assert fewer.rows == [whole.rows[b] for b in (0, 1, 3, 4)]
    assert [row.token_ids for row in other.rows] != [row.token_ids for row in whole.rows]
    for row, is_cut in zip(whole.rows, whole.truncated_B.tolist(), strict=True):
        assert is_cut == (row.token_ids[-1] != CHAT.stop_id)
        assert row.token_ids[: row.turns[0].start] == states[int(row.group_id)].token_ids
    scored_BT = policies()[1].logp(whole.batch)
    assert_close(scored_BT, whole.batch.logp_behaviour_BT, atol=1e-5, rtol=1e-5)
    assert whole.mean_tokens == sum(row.turns[0].num_tokens for row in whole.rows) / 18


def test_prompts_are_drawn_by_their_weights() -> None:
    states = [replace(prompt, weight=float(i)) for i, prompt in enumerate(prompts(4))]
    drawn = [int(p.conversation_id[1:]) for p in draw_prompts(states, 6000, (0, 1))]
    share_4 = torch.bincount(torch.tensor(drawn), minlength=4) / 6000
    assert_close(share_4, tensor([0, 1, 2, 3]) / 6, atol=0.02, rtol=0)  # 3 standard errors
    distinct = draw_prompts(states, 10, (0, 1), distinct=True)
    assert sorted(p.conversation_id for p in distinct) == ["c1", "c2", "c3"]  # weight 0: never
    assert draw_prompts(states, 5, (0, 1)) == draw_prompts(states, 5, (0, 1))


def test_what_is_watched_are_prompts_of_fold_a() -> None:
    fixed = fixed_prompts(prompts(), 20, seed=0, round=0)
    assert {prompt.fold for prompt in fixed} == {0} and len(fixed) == 20
    with pytest.raises(LogsError, match="fold A"):
        fixed_prompts(prompts()[1::2], 20, seed=0, round=0)
