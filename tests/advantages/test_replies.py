"""Single replies by hand: the penalised reward, RLOO, GRPO and PPO, and what they refuse."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.advantages import (
    best_of_n_kl,
    grpo_replies,
    kl_penalty,
    ppo_replies,
    reply_token_rewards,
    rewards_over_group_std,
    rloo_replies,
)
from turnwise.errors import ConfigError, GroupError, LogProbError

Advantage = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
TURN = tensor([[-1, 0, 0, 0], [-1, 0, 0, -1]])
ALL = torch.ones(3, dtype=torch.bool)
ONE_PROMPT = tensor([7, 7, 7])


def test_the_reward_stands_on_the_end_token_and_every_token_pays() -> None:
    policy = tensor([[math.nan, -1.0, -2.0, -0.5], [0.0, -1.0, -1.0, math.inf]])
    reference = tensor([[0.0, -1.5, -1.0, -0.5], [0.0, -1.0, -1.0, 0.0]])
    # log-ratios .5, −1, 0 at β .2: penalties .1, −.2, 0. ρ = 1 − .2·(−.5) = 1.1.
    penalty = kl_penalty(policy, reference, TURN, beta=0.2)
    assert_close(penalty, tensor([[0, 0.1, -0.2, 0.0], [0, 0, 0, 0]]))
    reward = reply_token_rewards(tensor([1.0, 0.3]), penalty, TURN)
    assert_close(reward, tensor([[0, -0.1, 0.2, 1.0], [0, 0, 0.3, 0]]))
    assert_close(reward.sum(1), tensor([1.1, 0.3]))


def test_the_penalty_is_a_reward_and_carries_no_gradient() -> None:
    policy = torch.zeros(2, 4, requires_grad=True)
    assert not kl_penalty(policy, torch.zeros(2, 4), TURN, beta=0.1).requires_grad


def test_rloo_and_grpo_by_hand() -> None:
    # ρ = (.9, −.3, .3). Means of the others 0, .6, .3. GRPO: 2/3 of it.
    reward, penalty = tensor([1.0, 0.0, 0.5]), tensor([0.1, 0.3, 0.2])
    rloo = rloo_replies(reward, penalty, ONE_PROMPT, ALL)
    assert_close(rloo, tensor([0.9, -0.9, 0.0]))
    assert_close(grpo_replies(reward, penalty, ONE_PROMPT, ALL), rloo * 2 / 3)


@given(reward=st.floats(-3, 3), penalties=st.lists(st.floats(-1, 1), min_size=3, max_size=3))
@settings(deadline=None)
def test_equal_rewards_leave_exactly_the_penaltys_part(
    reward: float, penalties: list[float]
) -> None:
    penalty, zero = tensor(penalties), torch.zeros(3)
    for advantage in (rloo_replies, grpo_replies):
        found = advantage(torch.full((3,), reward), penalty, ONE_PROMPT, ALL)
        assert torch.equal(found, advantage(zero, penalty, ONE_PROMPT, ALL))
        assert torch.equal(advantage(torch.full((3,), reward), zero, ONE_PROMPT, ALL), zero)


@pytest.mark.parametrize("advantage", [rloo_replies, grpo_replies])
def test_a_lone_reply_is_refused_by_what_compares(advantage: Advantage) -> None:
    with pytest.raises(GroupError, match=r"found one of prompt 4 \(reply 2\); raise num_gen"):
        advantage(torch.ones(3), torch.zeros(3), tensor([7, 7, 4]), ALL)
    with pytest.raises(GroupError):
        advantage(torch.ones(3), torch.zeros(3), ONE_PROMPT, tensor([True, False, False]))


def test_rewards_over_their_own_spread_by_hand_and_with_a_warning() -> None:
    # Mean .5, std with n − 1: √(.5/2) = .5.
    with pytest.warns(UserWarning, match='scale_rewards = "group"'):
        found = rewards_over_group_std(tensor([1.0, 0.0, 0.5]), ONE_PROMPT, ALL)
    assert_close(found, tensor([1.0, -1.0, 0.0]))
    with pytest.warns(UserWarning), pytest.raises(GroupError):
        rewards_over_group_std(torch.ones(3), tensor([7, 7, 4]), ALL)


def test_token_advantages_by_hand() -> None:
    reward, value = tensor([[0, -0.1, -0.2, 1.3]]), tensor([[9.0, 0.5, 0.6, 0.7]])
    turn = TURN[:1]
    # λ 1: to go (1, 1.1, 1.3) minus V.
    assert_close(ppo_replies(reward, value, turn, token_lambda=1.0), tensor([[0, 0.5, 0.5, 0.6]]))
    # λ .5: δ = (0, −.1, .6); A = (.1, .2, .6).
    assert_close(ppo_replies(reward, value, turn, token_lambda=0.5), tensor([[0, 0.1, 0.2, 0.6]]))
    with pytest.raises(ConfigError, match="token_lambda"):
        ppo_replies(reward, value, turn, token_lambda=1.5)


@given(length=st.integers(1, 6))
@settings(deadline=None)
def test_a_reply_is_worth_the_same_however_long(length: int) -> None:
    turn = torch.zeros(1, length, dtype=torch.long)
    penalty: Tensor = torch.zeros(1, length)
    reward = reply_token_rewards(tensor([0.7]), penalty, turn)
    assert_close(ppo_replies(reward, penalty, turn, token_lambda=1.0), torch.full((1, length), 0.7))


def test_best_of_eight_is_1_2044_nats_from_one() -> None:
    assert best_of_n_kl(8) == pytest.approx(2.0794415 - 0.875)
    assert best_of_n_kl(1) == 0.0
    with pytest.raises(GroupError):
        best_of_n_kl(0)


def test_no_penalty_and_log_probabilities_that_are_not_finite_are_refused() -> None:
    zero = torch.zeros(2, 4)
    with pytest.raises(ConfigError, match="beta"):
        kl_penalty(zero, zero, TURN, beta=0.0)
    impossible = zero.clone()
    impossible[1, 2] = -math.inf
    with pytest.raises(LogProbError, match=r"reply 1, position 2.*-inf of the reference"):
        kl_penalty(zero, impossible, TURN, beta=0.1)
