"""The toy with samples: conversations played, Q estimated from them, rounds of improvement.

Q̂ = (ΣG + κ·V̂(s))/(n + κ), and V̂ is shrunk alike towards the mean of its turn. Axes as in
`tests.theory`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tests.theory.mdp import MDP, MESSAGES, TURNS, A, Array, expected, kl, tilt
from turnwise.advantages import reward_to_go
from turnwise.qvalues import fqe_target, rewards_with_outcome

KAPPA = 2.0


@dataclass(frozen=True)
class Played:
    """B conversations of one policy; -1 where there is no step."""

    state_BK: Array
    action_BK: Array
    outcome_B: Array
    logp_BK: Array  # of the policy that spoke, 0 where there is no step

    @property
    def is_step_BK(self) -> Array:
        return np.asarray(self.state_BK >= 0)


def play(mdp: MDP, logpi: Array, count: int, rng: np.random.Generator) -> Played:
    """Conversations as they come: a reply, then a win, an answer, or the customer is gone."""
    states, actions = np.full((2, count, TURNS), -1)
    outcome = np.zeros(count)
    chance_of_reply = np.exp(logpi).cumsum(1)
    chance_of_end = np.concatenate([mdp.win[..., None], mdp.go], 2).cumsum(2)
    on = np.arange(count)
    state = rng.choice(MESSAGES, count, p=mdp.start)
    for k in range(TURNS):
        action = (rng.random((len(on), 1)) > chance_of_reply[state, :-1]).sum(1)
        states[on, k], actions[on, k] = state, action
        what = (rng.random((len(on), 1)) > chance_of_end[state, action]).sum(1)
        outcome[on[what == 0]] = 1.0
        answered = (what > 0) & (what <= MESSAGES)
        on, state, action, what = (x[answered] for x in (on, state, action, what))
        state = mdp.to[state, action, what - 1]
    logp = np.where(states >= 0, logpi[states, actions], 0.0)
    return Played(states, actions, outcome, logp)


def together(rounds: Sequence[Played]) -> Played:
    return Played(
        np.concatenate([one.state_BK for one in rounds]),
        np.concatenate([one.action_BK for one in rounds]),
        np.concatenate([one.outcome_B for one in rounds]),
        np.concatenate([one.logp_BK for one in rounds]),
    )


def part(played: Played, rows: Array) -> Played:
    return Played(
        played.state_BK[rows], played.action_BK[rows], played.outcome_B[rows], played.logp_BK[rows]
    )


def rewards(played: Played) -> torch.Tensor:
    nothing = torch.zeros(played.state_BK.shape, dtype=torch.float64)
    outcome, is_step = torch.from_numpy(played.outcome_B), torch.from_numpy(played.is_step_BK)
    return rewards_with_outcome(nothing, outcome, is_step)


def returns(played: Played, gamma: float) -> Array:
    is_step = torch.from_numpy(played.is_step_BK)
    return np.asarray(reward_to_go(rewards(played), is_step, discount=gamma).numpy())


def shrunk(mdp: MDP, played: Played, y_BK: Array) -> tuple[Array, Array]:
    """Q̂, V̂ from a target of every step."""
    kept = played.is_step_BK
    state, y = played.state_BK[kept], y_BK[kept]
    pair = state * A + played.action_BK[kept]
    S = len(mdp)
    by_turn = np.bincount(mdp.turn[state], y, TURNS + 1)
    turn_mean = by_turn / np.bincount(mdp.turn[state], minlength=TURNS + 1).clip(1)
    prior = KAPPA * turn_mean[mdp.turn]
    v = (np.bincount(state, y, S) + prior) / (np.bincount(state, minlength=S) + KAPPA)
    total, n = np.bincount(pair, y, S * A), np.bincount(pair, minlength=S * A)
    q = (total.reshape(S, A) + KAPPA * v[:, None]) / (n.reshape(S, A) + KAPPA)
    return q, v


def monte_carlo(mdp: MDP, played: Played, logpi: Array) -> tuple[Array, Array]:
    return shrunk(mdp, played, returns(played, mdp.gamma))


def fqe(mdp: MDP, played: Played, logpi: Array) -> tuple[Array, Array]:
    """As many sweeps as there are turns: then nothing moves any more."""
    reward, is_step = rewards(played), played.is_step_BK
    following = np.pad(played.state_BK, ((0, 0), (0, 1)), constant_values=-1)[:, 1:]
    is_last = torch.from_numpy(np.logical_and(is_step, following < 0))
    q, v = monte_carlo(mdp, played, logpi)
    for _ in range(TURNS):
        value = torch.from_numpy(expected(logpi, q)[following])
        y = fqe_target(reward, value, is_last, discount=mdp.gamma)
        q, v = shrunk(mdp, played, y.numpy())
    return q, v


def weighted(mdp: MDP, played: Played, logpi: Array) -> tuple[Array, Array]:
    """Per-decision importance weights: G_t = r_t + γ·ρ_{t+1}·G_{t+1}."""
    ratio = np.exp(logpi[played.state_BK, played.action_BK] - played.logp_BK)
    g = rewards(played).numpy().copy()
    for k in range(TURNS - 1, 0, -1):
        g[:, k - 1] += mdp.gamma * np.where(played.is_step_BK[:, k], ratio[:, k] * g[:, k], 0.0)
    return shrunk(mdp, played, g)


Estimator = Callable[[MDP, Played, Array], tuple[Array, Array]]


def tilted_to(logpi: Array, q: Array, prompts: Array, budget: float) -> Array:
    """The reverse-KL optimum whose mean KL over the prompts is the budget. prompts: S, sum 1."""
    low, high = np.log(1e-3), np.log(1e3)
    here = prompts > 0
    for _ in range(30):
        middle = (low + high) / 2
        is_far = prompts[here] @ kl(tilt(logpi[here], q[here], np.exp(middle)), logpi[here])
        low, high = (middle, high) if is_far > budget else (low, middle)
    return tilt(logpi, q, float(np.exp(high)))


def prompts_of(mdp: MDP, played: Played) -> Array:
    """Share of each state among all steps."""
    count = np.bincount(played.state_BK[played.is_step_BK], minlength=len(mdp))
    return np.asarray(count / count.sum())


def outer_loop(
    mdp: MDP,
    logpi: Array,
    estimator: Estimator,
    *,
    is_pooled: bool,
    conversations: int,
    budget: float,
    rounds: int,
    seed: int,
) -> list[float]:
    """J of the first policy and after each round, the reference moving along."""
    rng, logs = np.random.default_rng(seed), list[Played]()
    found = [mdp.j(mdp.q(logpi)[1])]
    for _ in range(rounds):
        logs.append(play(mdp, logpi, conversations, rng))
        data = together(logs) if is_pooled else logs[-1]
        q, _ = estimator(mdp, data, logpi)
        logpi = tilted_to(logpi, q, prompts_of(mdp, logs[-1]), budget)
        found.append(mdp.j(mdp.q(logpi)[1]))
    return found
