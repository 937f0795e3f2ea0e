"""Clipped ascent with exact token advantages, far from the closed form: many steps on one batch."""

import pytest
import torch

from tests.theory.mdp import (
    Array,
    expected,
    kl,
    normalised,
    prefix_values,
    reply_policy,
    reply_token_logp,
    token_policy,
    toy,
    turn_of_token,
)
from turnwise.advantages import ppo_replies, reply_token_rewards
from turnwise.losses import ClipRange, policy_objective


def clipped_ascent(token: Array, q: Array, *, steps: int) -> Array:
    """Gradient steps of size 1 in each state's logits, every reply at its chance under π_k."""
    behaviour = reply_token_logp(torch.from_numpy(token)).flatten(0, 1)
    turn = turn_of_token(len(token))
    reward = reply_token_rewards(torch.from_numpy(q).flatten(), torch.zeros_like(behaviour), turn)
    advantage = ppo_replies(reward, prefix_values(reply_policy(token), q), turn, token_lambda=1.0)
    weight = behaviour.sum(1, keepdim=True).exp() * (turn >= 0)
    logits = torch.from_numpy(token).clone().requires_grad_()
    for _ in range(steps):
        logp = reply_token_logp(logits.log_softmax(2)).flatten(0, 1)
        loss = policy_objective(
            logp, behaviour, advantage, weight, clip=ClipRange(0.2, 0.2), dual_clip=None
        )
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = (logits - gradient).detach().requires_grad_()
    return normalised(logits.detach().numpy())


@pytest.mark.parametrize("seed", range(6))
def test_clipped_steps_raise_every_state_a_little(seed: int) -> None:
    mdp, token = toy(seed), token_policy(seed + 1)
    logpi = reply_policy(token)
    q, v = mdp.q(logpi)
    new = reply_policy(clipped_ascent(token, q, steps=400))
    assert (expected(new, q) - v).min() > 0
    before, after = mdp.j(v), mdp.j(mdp.q(new)[1])
    assert after - before > 0.05
    assert 0.05 < kl(new, logpi).mean() < 0.12
    if seed == 0:
        assert (before, after) == pytest.approx((0.298, 0.377), abs=2e-3)
