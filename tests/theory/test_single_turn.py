"""The single-turn step: token level and reply level have one optimum, and the gradient leads there.

The gradient is the library's (`ascent`: rewards of tokens, advantages, `policy_objective`), every
reply of a state at its chance.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize
from torch import Tensor

from tests.theory.mdp import (
    BETA,
    LENGTH,
    PREFIXES,
    TURN_OF_TOKEN,
    A,
    Array,
    ascent,
    expected,
    forward_tilt,
    gain,
    kl,
    normalised,
    prefix_values,
    reply_policy,
    reply_token_logp,
    tilt,
    token_policy,
    token_rewards,
    token_tilt,
    toy,
    turn_of_token,
)
from turnwise.advantages import (
    grpo_replies,
    kl_penalty,
    reply_token_rewards,
    rewards_over_group_std,
    rloo_replies,
)
from turnwise.losses import (
    ClipRange,
    HistogramSupport,
    histogram_mean,
    histogram_support,
    histogram_target,
    kl_k1,
    kl_k3,
    kl_objective,
    policy_objective,
)
from turnwise.qvalues import first_beta, forward_kl_advantage

TOKEN = token_policy(1)
LOGPI = reply_policy(TOKEN)
Q, V = toy().q(LOGPI)
BETAS = [0.02, 0.1, 1.0]
SOME = slice(None, None, 30)  # 15 of the 422 states


def rho(token: Array, q: Array, reference: Array, beta: float) -> Array:
    """R − β·log-ratio of each reply, by the library. SA."""
    return token_rewards(token, q, reference, beta).sum(1).reshape(-1, A).numpy()


@pytest.mark.parametrize("beta", BETAS)
def test_t2_the_token_level_optimum_multiplies_out_to_the_reply_level_one(beta: float) -> None:
    best, _ = token_tilt(TOKEN, Q, beta)
    assert np.abs(reply_policy(best) - tilt(LOGPI, Q, beta)).max() < 1e-12
    assert np.abs(ascent(best, token_rewards(best, Q, TOKEN, beta))).max() < 1e-12


@pytest.mark.parametrize("beta", BETAS)
def test_t3_at_the_optimum_every_reply_is_worth_the_soft_value(beta: float) -> None:
    best, soft_value = token_tilt(TOKEN, Q, beta)
    log_z = tilt(LOGPI, Q, beta)[:, 0] - LOGPI[:, 0] - Q[:, 0] / beta
    assert np.abs(soft_value + beta * log_z).max() < 1e-12
    assert np.abs(rho(best, Q, TOKEN, beta) - soft_value[:, None]).max() < 1e-12


def test_t4_the_kl_of_replies_is_the_sum_of_their_tokens_kls() -> None:
    near = normalised(TOKEN + 0.3 * token_policy(7))
    by_prefix = (np.exp(near) * (near - TOKEN)).sum(2)
    chance = np.exp(np.stack([near[:, 0, p[0]] if p else np.zeros(len(near)) for p in PREFIXES], 1))
    whole = kl(reply_policy(near), LOGPI)
    assert np.abs((chance * by_prefix).sum(1) - whole).max() < 1e-12
    logp, logp_reference = (reply_token_logp(torch.from_numpy(x)) for x in (near, TOKEN))
    for estimator in (kl_k1, kl_k3):
        each = estimator(logp, logp_reference).sum(2).numpy()
        assert np.abs(expected(reply_policy(near), each) - whole).max() < 1e-12


def test_t5_gradient_ascent_on_tokens_reaches_the_closed_form() -> None:
    token, q = TOKEN[SOME], Q[SOME]

    def loss(flat: Array) -> tuple[float, Array]:
        here = normalised(flat.reshape(token.shape))
        reward = token_rewards(here, q, token, BETA)
        value = expected(reply_policy(here), reward.sum(1).reshape(-1, A).numpy())
        return -float(value.sum()), -ascent(here, reward).ravel()

    found = minimize(
        loss,
        token.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 10000, "ftol": 0, "gtol": 1e-10, "maxcor": 30},
    )
    reached = reply_policy(normalised(found.x.reshape(token.shape)))
    best = tilt(LOGPI[SOME], q, BETA)
    assert np.abs(np.exp(reached) - np.exp(best)).max() < 1e-6
    assert np.abs(np.exp(LOGPI[SOME]) - np.exp(best)).max() > 0.5


def moved(token: Array, at: tuple[int, int, int], by: float) -> Array:
    logits = token.copy()
    logits[at] += by
    return normalised(logits)


def some_logits() -> list[tuple[int, int, int]]:
    """40 logits, a third of them before the first reply, where they matter most."""
    rng = np.random.default_rng(0)
    states = [*rng.integers(0, 2, 13), *rng.integers(2, 30, 13), *rng.integers(30, 422, 14)]
    return [(int(s), int(rng.integers(3)), int(rng.integers(3))) for s in states]


def test_t7_the_multi_turn_gradient_is_the_single_turn_one_weighted_by_visits() -> None:
    def j(token: Array) -> float:
        return toy().j(toy().q(reply_policy(token))[1])

    gradient = ascent(TOKEN, token_rewards(TOKEN, Q, TOKEN, BETA), weight=toy().visits(LOGPI))
    for at in some_logits():
        difference = (j(moved(TOKEN, at, 1e-5)) - j(moved(TOKEN, at, -1e-5))) / 2e-5
        assert abs(difference - gradient[at]) < 1e-7
    assert max(abs(gradient[at]) for at in some_logits()) > 1e-2


@pytest.mark.parametrize("token_lambda", [1.0, 0.3])
def test_t8_token_advantages_give_the_gradient_of_the_expected_q(token_lambda: float) -> None:
    """λ 1 with any critic, smaller λ with the exact one."""
    reward = token_rewards(TOKEN, Q, TOKEN, BETA)
    gradient = ascent(TOKEN, reward, value=prefix_values(LOGPI, Q), token_lambda=token_lambda)

    def total(token: Array) -> float:
        return float(expected(reply_policy(token), Q).sum())

    for at in some_logits():
        difference = (total(moved(TOKEN, at, 1e-5)) - total(moved(TOKEN, at, -1e-5))) / 2e-5
        assert abs(difference - gradient[at]) < 1e-7
    assert np.abs(gradient - ascent(TOKEN, reward)).max() < 1e-12


def test_t9_the_gain_at_the_optimum_is_beta_times_both_kls() -> None:
    new, _ = token_tilt(TOKEN, Q, BETA)
    logp, logp_reference = (reply_token_logp(torch.from_numpy(x)) for x in (new, TOKEN))
    forth = expected(reply_policy(new), kl_k1(logp, logp_reference).sum(2).numpy())
    back = expected(LOGPI, kl_k1(logp_reference, logp).sum(2).numpy())
    assert np.abs(gain(reply_policy(new), LOGPI, Q) - BETA * (forth + back)).max() < 1e-12


def test_t10_the_forward_optimum_is_what_gradient_ascent_finds() -> None:
    logpi, q = LOGPI[SOME], torch.from_numpy(Q[SOME])
    reference, chance = torch.from_numpy(logpi), torch.from_numpy(np.exp(logpi))

    def loss(flat: Array) -> tuple[float, Array]:
        logits = torch.from_numpy(flat.reshape(logpi.shape)).requires_grad_()
        logp = logits.log_softmax(1)
        value = (logp.exp() * q - BETA * chance * kl_k1(reference, logp)).sum()
        (gradient,) = torch.autograd.grad(-value, logits)
        return -float(value.detach()), gradient.numpy().ravel()

    options = {"maxiter": 5000, "maxfun": 10000, "ftol": 0, "gtol": 1e-10, "maxcor": 30}
    found = minimize(loss, logpi.ravel(), jac=True, method="L-BFGS-B", options=options)
    reached = np.exp(normalised(found.x.reshape(logpi.shape)))
    assert np.abs(reached - np.exp(forward_tilt(logpi, Q[SOME], BETA))).max() < 1e-6


def test_the_forward_kls_advantage_gives_its_exact_gradient() -> None:
    token = token_policy(7)
    logp, logp_reference = (
        reply_token_logp(torch.from_numpy(x)).flatten(0, 1) for x in (token, TOKEN)
    )
    paid = forward_kl_advantage(logp, logp_reference, turn_of_token(422), beta=BETA)
    nothing = torch.zeros(422 * A, 2, dtype=torch.float64)
    found = ascent(token, nothing, beside=paid)
    logits = torch.from_numpy(token).requires_grad_()
    whole = reply_token_logp(logits.log_softmax(2)).sum(2)
    kept = -BETA * (torch.from_numpy(np.exp(LOGPI)) * (torch.from_numpy(LOGPI) - whole)).sum()
    (exact,) = torch.autograd.grad(kept, logits)
    assert np.abs(found - exact.numpy()).max() < 1e-12
    assert np.abs(found).max() > 1e-3


def test_t16_a_shift_in_each_state_changes_nothing() -> None:
    shift = np.random.default_rng(0).normal(size=(422, 1))
    assert np.abs(tilt(LOGPI, Q + shift, BETA) - tilt(LOGPI, Q, BETA)).max() < 1e-10
    here = ascent(TOKEN, token_rewards(TOKEN, Q, TOKEN, BETA))
    assert np.abs(ascent(TOKEN, token_rewards(TOKEN, Q + shift, TOKEN, BETA)) - here).max() < 1e-10


def test_t16_a_global_scale_is_another_beta() -> None:
    best, _ = token_tilt(TOKEN, Q, BETA / 3)
    assert np.abs(reply_policy(best) - tilt(LOGPI, 3 * Q, BETA)).max() < 1e-10
    assert np.abs(ascent(best, token_rewards(best, 3 * Q, TOKEN, BETA))).max() < 1e-10


def test_t16_a_scale_of_each_prompt_is_another_beta_in_each_state() -> None:
    state = torch.arange(422).repeat_interleave(A)
    with pytest.warns(UserWarning, match="each prompt has its own β"):
        scaled = rewards_over_group_std(torch.from_numpy(Q).flatten(), state, state >= 0)
    sigma = Q.std(1, ddof=1)
    found = tilt(LOGPI, scaled.reshape(422, A).numpy(), BETA)
    assert np.abs(found - tilt(LOGPI, Q, BETA * sigma)).max() < 1e-10


@pytest.mark.parametrize(("advantage", "share"), [(rloo_replies, 1.0), (grpo_replies, 0.5)])
def test_pairs_of_replies_average_to_the_exact_gradient(
    advantage: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], share: float
) -> None:
    """RLOO gives all of the gradient of E Q − β·KL, GRPO without std (n − 1)/n of it."""
    token, reference, q = token_policy(7)[SOME], TOKEN[SOME], Q[SOME]
    exact = ascent(token, token_rewards(token, q, reference, BETA))
    logits = torch.from_numpy(token).clone().requires_grad_()
    logp_of = reply_token_logp(logits.log_softmax(2))
    pair = torch.cartesian_prod(torch.arange(A), torch.arange(A)).flatten()  # 2 rows each
    logp = logp_of[:, pair].flatten(0, 1)
    turn = turn_of_token(1)[pair].repeat(len(token), 1)
    logp_reference = reply_token_logp(torch.from_numpy(reference))[:, pair].flatten(0, 1)
    penalty = kl_penalty(logp, logp_reference, turn, beta=BETA).sum(1)
    prompt = torch.arange(len(logp) // 2).repeat_interleave(2)
    reward = torch.from_numpy(q)[:, pair].flatten()
    a = advantage(reward, penalty, prompt, prompt >= 0)
    chance = logp.detach().sum(1).exp().reshape(-1, 2).prod(1).repeat_interleave(2) / 2
    loss = policy_objective(
        logp,
        logp.detach(),
        a.unsqueeze(1).expand(logp.shape),
        chance.unsqueeze(1) * (turn >= 0),
        clip=ClipRange(),
        dual_clip=None,
    )
    (gradient,) = torch.autograd.grad(loss, logits)
    assert np.abs(-gradient.numpy() - share * exact).max() < 1e-12
    assert np.abs(exact).max() > 1e-2


def test_the_k3_losss_expected_gradient_is_the_forward_kls() -> None:
    logpi = torch.from_numpy(LOGPI)
    logits = (logpi + 0.2 * torch.from_numpy(reply_policy(token_policy(7)))).requires_grad_()
    logp = logits.log_softmax(1)
    loss = kl_objective(logp, logpi, logp.detach().exp(), kl_coef=1.0, estimator=kl_k3)
    (found,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (forward,) = torch.autograd.grad((logpi.exp() * (logpi - logp)).sum(), logits)
    assert (found - forward).abs().max() < 1e-12
    assert forward.abs().max() > 0.1


def test_at_equal_kl_one_scale_gains_more_than_a_scale_of_each_prompt() -> None:
    """At a KL of .5 nat, averaged over π's visits: .133 against .121."""
    visits = toy().visits(LOGPI)
    visits /= visits.sum()
    sigma = np.sqrt(expected(LOGPI, (Q - V[:, None]) ** 2))

    def gain_at(budget: float, scale: Array) -> float:
        def excess(log_beta: float) -> float:
            return float(visits @ kl(tilt(LOGPI, Q, np.exp(log_beta) * scale), LOGPI) - budget)

        beta = np.exp(brentq(excess, -8, 6, xtol=1e-14))
        return float(visits @ gain(tilt(LOGPI, Q, beta * scale), LOGPI, Q))

    for budget in (0.01, 0.1, 0.5, 1.0):
        assert gain_at(budget, np.ones(422)) > gain_at(budget, sigma) - 1e-12
    assert gain_at(0.5, np.ones(422)) == pytest.approx(0.133, abs=5e-4)
    assert gain_at(0.5, sigma) == pytest.approx(0.121, abs=5e-4)


@pytest.mark.parametrize("budget", [0.01, 0.1, 0.5])
def test_the_first_beta_is_within_a_fifth_of_the_one_that_spends_the_budget(budget: float) -> None:
    visits = toy().visits(LOGPI) / toy().visits(LOGPI).sum()
    std = float(np.sqrt(visits @ expected(LOGPI, (Q - V[:, None]) ** 2)))

    def excess(log_beta: float) -> float:
        return float(visits @ kl(tilt(LOGPI, Q, np.exp(log_beta)), LOGPI) - budget)

    exact = np.exp(brentq(excess, -8, 6))
    assert first_beta(budget, reward_std=std) == pytest.approx(exact, rel=0.2)


# What must fail


@pytest.mark.parametrize("beta", BETAS)
def test_n3_a_kl_divided_by_length_leaves_the_policy_for_nothing(beta: float) -> None:
    """With constant Q the best E Q − β·E log-ratio/tokens is π·exp(λ·tokens − 1), not π."""
    n = LENGTH.astype(float)

    def best(logpi: Array) -> Array:
        def mass(scale: float) -> float:
            return float(np.exp(logpi + scale * n - 1).sum() - 1)

        return np.asarray(logpi + brentq(mass, -2, 2, xtol=1e-15) * n - 1)

    moved_to = np.stack([best(row) for row in LOGPI])
    assert np.abs(np.exp(moved_to) - np.exp(LOGPI)).max() == pytest.approx(0.170, abs=5e-4)

    def objective(logp: Array) -> Array:
        token = TURN_OF_TOKEN.repeat(422, 1)
        rows = [torch.from_numpy(x).flatten().unsqueeze(1) for x in (logp, LOGPI)]
        penalty = kl_penalty(rows[0], rows[1], token[:, :1], beta=beta)
        divided = penalty / torch.from_numpy(n).repeat(422).unsqueeze(1)
        reward = torch.full((422 * A,), 0.5, dtype=torch.float64)
        worth = reply_token_rewards(reward, divided, token[:, :1]).reshape(422, A)
        return expected(logp, worth.numpy())

    assert (objective(moved_to) > objective(LOGPI) + beta * 1e-4).all()


def test_n4_a_token_discount_moves_the_optimum_and_the_best_reply() -> None:
    discounted = Q * 0.95 ** (LENGTH - 1)
    difference = np.exp(tilt(LOGPI, discounted, BETA)) - np.exp(tilt(LOGPI, Q, BETA))
    assert np.abs(difference).max() == pytest.approx(0.103, abs=5e-4)
    other_best = np.mean(discounted.argmax(1) != Q.argmax(1))
    assert other_best == pytest.approx(0.0142, abs=5e-5)


@pytest.mark.parametrize(("mean", "found"), [(0.02, 0.03299), (0.10, 0.11083)])
def test_n6_a_histogram_without_room_pulls_rare_outcomes_inwards(mean: float, found: float) -> None:
    edges = torch.linspace(0, 1, 52, dtype=torch.float64)
    tight = HistogramSupport(edges, sigma=0.75 / 51)
    labels = torch.tensor([0.0, 1.0], dtype=torch.float64)
    share = torch.tensor([1 - mean, mean], dtype=torch.float64)
    for support, expected_mean in ((tight, found), (histogram_support(dtype=edges.dtype), mean)):
        # The cross-entropy's minimiser is the mixture of the labels' bells.
        minimiser = (share @ histogram_target(labels, support)).log()
        assert float(histogram_mean(minimiser, support)) == pytest.approx(expected_mean, abs=6e-6)
