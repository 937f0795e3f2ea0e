"""A conversation small enough to be known exactly: 422 states, 7 replies, 3 turns.

Replies are words over {a, b, END} of at most two tokens. A state is all that was said up to a
customer's message; a reply may win at once (reward 1), lose the customer, or be answered by one of
two messages. Policies stay log-probabilities, since deep tilts underflow otherwise. Axes: `S`
states, `A` replies, `C` customer messages, `X` prefixes where a token is chosen, `V` tokens.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from torch import Tensor

from turnwise.advantages import kl_penalty, ppo_replies, reply_token_rewards
from turnwise.losses import ClipRange, policy_objective

Array = NDArray[np.float64]
Reply = tuple[int, ...]

END, TURNS, MESSAGES = 2, 3, 2
PREFIXES: list[Reply] = [(), (0,), (1,)]
REPLIES: list[Reply] = [(a, b) for a in (0, 1) for b in (0, 1, END)] + [(END,)]
A = len(REPLIES)
LENGTH = np.array([len(reply) for reply in REPLIES])
BETA = 0.1


class MDP:
    """Chances of winning and going on, drawn from a seed; exact values and visits of policies."""

    def __init__(self, seed: int, gamma: float = 0.9) -> None:
        rng, self.gamma = np.random.default_rng(seed), gamma
        self.states = _states()
        index = {state: i for i, state in enumerate(self.states)}
        S = len(self.states)
        self.turn = np.array([(len(state) + 1) // 2 for state in self.states])
        self.win, self.go = np.zeros((S, A)), np.zeros((S, A, MESSAGES))
        self.to = np.zeros((S, A, MESSAGES), int)
        for i, a in np.ndindex(S, A):
            if self.turn[i] == TURNS:
                self.win[i, a] = rng.beta(0.5, 1.5)
                continue
            p = rng.dirichlet([0.5] * (2 + MESSAGES))  # wins, drops out, says one of two things
            self.win[i, a] = 0.5 * p[0]
            self.go[i, a] = (1 - self.win[i, a] - p[1]) * p[2:] / p[2:].sum()
            self.to[i, a] = [index[(*self.states[i], a, c)] for c in range(MESSAGES)]
        self.start = rng.dirichlet([1.0] * MESSAGES)

    def __len__(self) -> int:
        return len(self.states)

    def after(self, q: Array, value_of: Callable[[Array], Array]) -> tuple[Array, Array]:
        """Backward induction: Q of what V = value_of(Q) goes on with. Q, V."""
        v = np.zeros(len(self))
        for turn in range(TURNS, 0, -1):
            here = self.turn == turn
            q[here] = self.win[here] + self.gamma * (self.go[here] * v[self.to[here]]).sum(2)
            v[here] = value_of(q)[here]
        return q, v

    def q(self, logpi: Array, cost: Array | float = 0.0) -> tuple[Array, Array]:
        """Exact Q, V of a policy; with a cost of each reply the values that pay it."""
        return self.after(np.zeros(logpi.shape), lambda q: (np.exp(logpi) * (q - cost)).sum(1))

    def best(self) -> tuple[Array, Array]:
        """Q*, V*."""
        return self.after(np.zeros((len(self), A)), lambda q: q.max(1))

    def j(self, v: Array) -> float:
        """Expected value of the first state."""
        return float(self.start @ v[:MESSAGES])

    def visits(self, logpi: Array) -> Array:
        """D(s) = Σ_t γ^t P(s_t = s)."""
        d = np.zeros(len(self))
        d[:MESSAGES] = self.start
        for turn in range(1, TURNS):
            here = self.turn == turn
            flow = self.gamma * (d[here, None] * np.exp(logpi[here]))[..., None] * self.go[here]
            np.add.at(d, self.to[here], flow)
        return d


@cache
def _states() -> list[Reply]:
    layers: list[list[Reply]] = [[(c,) for c in range(MESSAGES)]]
    for _ in range(TURNS - 1):
        layers.append([(*s, a, c) for s in layers[-1] for a in range(A) for c in range(MESSAGES)])
    return [state for layer in layers for state in layer]


@cache
def toy(seed: int = 0, gamma: float = 0.9) -> MDP:
    """The MDP of a seed, made once. It must not be changed."""
    return MDP(seed, gamma)


# Policies


def token_policy(seed: int) -> Array:
    """Token log-probabilities SXV of a random policy."""
    z = np.random.default_rng(seed).normal(size=(len(_states()), len(PREFIXES), END + 1))
    return np.asarray(z - logsumexp(z, axis=2, keepdims=True))


def reply_policy(token: Array) -> Array:
    """Reply log-probabilities SA of a token policy."""
    return reply_token_logp(torch.from_numpy(token)).sum(2).numpy()


def normalised(log_weight: Array) -> Array:
    return np.asarray(log_weight - logsumexp(log_weight, axis=-1, keepdims=True))


def tilt(logpi: Array, q: Array, beta: float | Array) -> Array:
    """π·exp(Q/β)/Z: the best E Q − β·KL(π'‖π). beta: a number, or one for each state."""
    return normalised(logpi + q / np.reshape(beta, (-1, 1)))


def forward_tilt(logpi: Array, q: Array, beta: float) -> Array:
    """β·π/(λ − Q): the best E Q − β·KL(π‖π'), λ found by bisection."""
    low = (q + beta * np.exp(logpi)).max(1)
    high = q.max(1) + beta
    for _ in range(200):
        middle = (low + high) / 2
        is_low = (beta * np.exp(logpi) / (middle[:, None] - q)).sum(1) > 1
        low, high = np.where(is_low, middle, low), np.where(is_low, high, middle)
    return normalised(np.log(beta) + logpi - np.log(high[:, None] - q))


def token_tilt(token: Array, q: Array, beta: float) -> tuple[Array, Array]:
    """The reverse optimum by the token-level soft recursion, and its value at the empty prefix."""
    out = np.zeros_like(token)

    def value(prefix: Reply) -> Array:
        if prefix in REPLIES:
            return q[:, REPLIES.index(prefix)]
        x = PREFIXES.index(prefix)
        after = np.stack([value((*prefix, v)) for v in range(END + 1)], 1)
        weight = token[:, x] + after / beta
        log_z = logsumexp(weight, axis=1)
        out[:, x] = weight - log_z[:, None]
        return np.asarray(beta * log_z)

    return out, value(())


def kl(logp: Array, logq: Array) -> Array:
    """KL(p‖q) in each state, nats."""
    return np.asarray((np.exp(logp) * (logp - logq)).sum(1))


def expected(logpi: Array, q: Array) -> Array:
    """E_π Q in each state."""
    return np.asarray((np.exp(logpi) * q).sum(1))


def gain(new: Array, old: Array, q: Array) -> Array:
    """E_{π'} Q − E_π Q in each state."""
    return np.asarray(((np.exp(new) - np.exp(old)) * q).sum(1))


# Replies as rows of the library's arrays: row s·A + a, two token positions


TURN_OF_TOKEN = torch.tensor([[0, 0 if len(reply) == 2 else -1] for reply in REPLIES])
_FIRST = torch.tensor([reply[0] for reply in REPLIES])
_SECOND = torch.tensor([reply[-1] for reply in REPLIES])
_PREFIX = torch.tensor([PREFIXES.index(reply[:1]) if len(reply) == 2 else 0 for reply in REPLIES])


def reply_token_logp(token: Tensor) -> Tensor:
    """Log-probability of each token of each reply, SA2; 0 behind the end."""
    second = token[:, _PREFIX, _SECOND] * (TURN_OF_TOKEN[:, 1] == 0)
    return torch.stack([token[:, 0, _FIRST], second], dim=2)


def turn_of_token(num_states: int) -> Tensor:
    return TURN_OF_TOKEN.repeat(num_states, 1)


def token_rewards(token: Array, q: Array, reference: Array, beta: float) -> Tensor:
    """The library's reward of each token of each reply, (SA, 2)."""
    logp, logp_reference = (
        reply_token_logp(torch.from_numpy(x)).flatten(0, 1) for x in (token, reference)
    )
    turn = turn_of_token(len(token))
    penalty = kl_penalty(logp, logp_reference, turn, beta=beta)
    return reply_token_rewards(torch.from_numpy(q).flatten(), penalty, turn)


def prefix_values(logpi: Array, q: Array) -> Tensor:
    """E_π Q before each token of each reply, (SA, 2): the exact critic."""
    first = np.repeat(expected(logpi, q)[:, None], A, 1)
    behind = [[b for b, other in enumerate(REPLIES) if other[0] == one[0]] for one in REPLIES]
    second = np.stack([expected(normalised(logpi[:, b]), q[:, b]) for b in behind], 1)
    return torch.from_numpy(np.stack([first, second], 2)).flatten(0, 1)


def ascent(
    token: Array,
    reward: Tensor,
    *,
    weight: Array | float = 1.0,
    value: Tensor | None = None,
    token_lambda: float = 1.0,
    beside: Tensor | float = 0.0,
) -> Array:
    """The library's expected policy gradient in the token logits, SXV, every reply at its chance.

    reward: of tokens, from `token_rewards`. weight: of each state. value: read before each token.
    beside: added to the advantages.
    """
    logits = torch.from_numpy(token).clone().requires_grad_()
    logp = reply_token_logp(logits.log_softmax(2)).flatten(0, 1)
    turn, behaviour = turn_of_token(len(token)), logp.detach()
    advantage = ppo_replies(
        reward,
        torch.zeros_like(reward) if value is None else value,
        turn,
        token_lambda=token_lambda,
    )
    state_weight = torch.as_tensor(np.broadcast_to(weight, len(token)).copy())
    chance = behaviour.sum(1).exp() * state_weight.repeat_interleave(A)
    loss = policy_objective(
        logp,
        behaviour,
        advantage + beside,
        chance.unsqueeze(1) * (turn >= 0),
        clip=ClipRange(),
        dual_clip=None,
    )
    (gradient,) = torch.autograd.grad(loss, logits)
    return -gradient.numpy()
