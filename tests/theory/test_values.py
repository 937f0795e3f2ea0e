"""Returns and fitted Q evaluation give exactly what backward induction gives."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.theory.mdp import MDP, MESSAGES, A, Array, expected, reply_policy, token_policy, toy
from tests.theory.mdp import tilt as reverse_tilt
from tests.theory.trajectories import Conversations, all_conversations, chances, mean_at_pairs
from turnwise.advantages import reward_to_go
from turnwise.qvalues import fqe_target, has_monte_carlo_target, rewards_with_outcome

GAMMAS = [0.9, 0.95, 1.0]


@cache
def said() -> Conversations:
    return all_conversations(toy())


def returns(gamma: float) -> Tensor:
    """G of every step of every conversation, by the library."""
    nothing = torch.zeros_like(said().is_step_BK, dtype=torch.float64)
    paid = rewards_with_outcome(nothing, said().outcome_B, said().is_step_BK)
    return reward_to_go(paid, said().is_step_BK, discount=gamma)


def policy(seed: int) -> Array:
    return reply_policy(token_policy(seed))


def test_golden_numbers() -> None:
    q, v = toy().q(policy(1))
    assert len(v) == 422
    assert abs(toy().j(v) - 0.2983316755296905) < 1e-12
    assert abs(toy().j(toy().best()[1]) - 0.7214064326) < 1e-10
    assert np.abs(v[:2] - [0.3696853390, 0.2846657408]).max() < 1e-10
    better = toy().q(reverse_tilt(policy(1), q, 0.1))[1]
    assert abs(toy().j(better) - 0.5835923398) < 1e-10


@pytest.mark.parametrize("gamma", GAMMAS)
def test_t1_the_sum_over_all_leaves_is_backward_induction(gamma: float) -> None:
    mdp = toy(0, gamma)
    chance = chances(mdp, policy(1), said())
    is_win = said().outcome_B.numpy() == 1
    assert is_win.sum() == 2954
    assert abs(chance.sum() - 1) < 1e-12
    by_leaves = chance[is_win] @ returns(gamma)[is_win, 0].numpy()
    assert abs(by_leaves - mdp.j(mdp.q(policy(1))[1])) < 1e-12


@pytest.mark.parametrize("gamma", GAMMAS)
def test_t17_returns_of_all_conversations_average_to_q(gamma: float) -> None:
    mdp, g = toy(0, gamma), returns(gamma).numpy()
    assert len(g) == 5908
    last = g[np.arange(len(g)), said().num_steps_B - 1]
    assert (last == said().outcome_B.numpy()).all()
    is_valid = has_monte_carlo_target(
        said().is_step_BK, said().is_step_BK, torch.zeros(len(g), dtype=torch.bool)
    )
    assert torch.equal(is_valid, said().is_step_BK)
    weight = np.broadcast_to(chances(mdp, policy(1), said())[:, None], g.shape)
    mean = mean_at_pairs(mdp, said(), g, weight)
    assert np.abs(mean - mdp.q(policy(1))[0]).max() < 1e-12


def test_t17_with_rewards_one_step_late_every_last_turn_is_worth_nothing() -> None:
    """G_i = Σ_j γ^j r_{i+j+1} on logs that list r_i beside a_i: the outcome never pays."""
    paid = rewards_with_outcome(torch.zeros(5908, 3), said().outcome_B, said().is_step_BK)
    late = torch.nn.functional.pad(paid, (0, 1))[:, 1:]
    g = reward_to_go(late, said().is_step_BK, discount=0.9)
    assert g[torch.arange(5908), torch.from_numpy(said().num_steps_B - 1)].abs().max() == 0
    assert said().outcome_B.sum() == 2954


def fqe(mdp: MDP, next_policy: Array, sweeps: int = 3) -> Array:
    """Exact sweeps of the library's targets: wins, ends, or is answered by one of the messages."""
    q = torch.zeros(len(mdp), A, dtype=torch.float64)
    ends = 1 - mdp.win - mdp.go.sum(2)
    chance = torch.from_numpy(np.concatenate([mdp.win[..., None], ends[..., None], mdp.go], 2))
    reward = torch.zeros_like(chance)
    reward[..., 0] = 1.0
    is_last = torch.zeros_like(chance, dtype=torch.bool)
    is_last[..., :2] = True
    for _ in range(sweeps):
        value = torch.from_numpy(expected(next_policy, q.numpy()))
        following = torch.nn.functional.pad(value[torch.from_numpy(mdp.to)], (2, 0))
        target = fqe_target(reward, following, is_last, discount=mdp.gamma)
        q = (chance * target).sum(2)
    assert chance.shape[2] == 2 + MESSAGES
    return np.asarray(q.numpy())


def test_t18_fqe_on_logs_of_another_policy_finds_this_policys_q() -> None:
    pi, mu = policy(1), policy(7)
    assert np.abs(fqe(toy(), pi) - toy().q(pi)[0]).max() < 1e-10
    assert np.abs(fqe(toy(), mu) - toy().q(mu)[0]).max() < 1e-10


def test_n7_the_logged_next_reply_gives_the_q_of_whoever_wrote_the_logs() -> None:
    difference = np.abs(fqe(toy(), policy(7)) - toy().q(policy(1))[0]).max()
    assert difference == pytest.approx(0.221, abs=5e-4)


def test_t19_per_decision_importance_weights_are_right_in_expectation() -> None:
    mdp, pi, mu = toy(), policy(1), policy(7)
    steps, at = said().is_step_BK.numpy(), (said().state_BK, said().action_BK)
    ratio = np.where(steps, np.exp((pi - mu)[at]), 0.0)
    reward = rewards_with_outcome(
        torch.zeros(steps.shape, dtype=torch.float64), said().outcome_B, said().is_step_BK
    ).numpy()
    g = reward.copy()
    for k in (1, 0):
        g[:, k] += mdp.gamma * ratio[:, k + 1] * g[:, k + 1]
    weight = np.broadcast_to(chances(mdp, mu, said())[:, None], g.shape)
    assert np.abs(mean_at_pairs(mdp, said(), g, weight) - mdp.q(pi)[0]).max() < 1e-10


def test_n8_a_state_without_the_proposals_has_the_wrong_q() -> None:
    """The person sends x with .7 whatever is proposed; agreeing makes the next proposal be used."""
    used_if = {True: 0.9, False: 0.4}
    success = {agrees: 0.5 * used + 0.1 * (1 - used) for agrees, used in used_if.items()}
    # Rows: propose x, propose y. Columns: x is sent, y is sent.
    sent = torch.tensor([[0.7, 0.3], [0.7, 0.3]])
    agrees = torch.eye(2, dtype=torch.bool)
    full = torch.where(agrees, success[True], success[False])
    dropped = full.mean(dim=0, keepdim=True).expand(2, 2)  # only what was sent is kept
    nothing, never = torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.bool)
    q = (sent * fqe_target(nothing, full, never, discount=1.0)).sum(1)
    q_dropped = (sent * fqe_target(nothing, dropped, never, discount=1.0)).sum(1)
    torch.testing.assert_close(q, torch.tensor([0.40, 0.32]))
    torch.testing.assert_close(q_dropped, torch.tensor([0.36, 0.36]))
    torch.testing.assert_close(q_dropped - q, torch.tensor([-0.04, 0.04]))
