"""Every conversation that can be held in the toy, as padded rows: 5,908 of them.

Each of the 2,954 pairs of state and reply ends one conversation with an outcome of 1 and one with
0. Axes: `B` conversations, `K` decision steps.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tests.theory.mdp import MDP, TURNS, A, Array


@dataclass(frozen=True)
class Conversations:
    """What was said and what became of it; no chances."""

    state_BK: Array
    action_BK: Array
    is_step_BK: Tensor
    outcome_B: Tensor
    num_steps_B: Array


def all_conversations(mdp: MDP) -> Conversations:
    """Rows in the order of (state, last reply), first those that win, then those that do not."""
    index = {state: i for i, state in enumerate(mdp.states)}
    state_of = np.zeros((len(mdp), TURNS), int)
    action_of = np.zeros((len(mdp), TURNS), int)
    for i, state in enumerate(mdp.states):
        for k in range(mdp.turn[i]):
            state_of[i, k] = index[state[: 2 * k + 1]]
            action_of[i, k] = state[2 * k + 1] if 2 * k + 1 < len(state) else 0
    state_BK, action_BK = state_of.repeat(A, 0), action_of.repeat(A, 0)
    num_steps_B = mdp.turn.repeat(A)
    action_BK[np.arange(len(state_BK)), num_steps_B - 1] = np.tile(np.arange(A), len(mdp))
    is_step_BK = np.arange(TURNS) < num_steps_B[:, None]
    return Conversations(
        np.tile(state_BK, (2, 1)),
        np.tile(action_BK, (2, 1)),
        torch.from_numpy(np.tile(is_step_BK, (2, 1))),
        torch.from_numpy(np.repeat([1.0, 0.0], len(state_BK))),
        np.tile(num_steps_B, 2),
    )


def chances(mdp: MDP, logpi: Array, said: Conversations) -> Array:
    """Probability of each conversation when the policy speaks. Sums to one."""
    state, action, steps = said.state_BK, said.action_BK, said.num_steps_B
    chance = mdp.start[state[:, 0]]
    for k in range(TURNS):
        here = steps > k
        chance[here] *= np.exp(logpi[state[here, k], action[here, k]])
    for k in range(TURNS - 1):
        on = steps > k + 1
        answers = mdp.to[state[on, k], action[on, k]] == state[on, k + 1, None]
        chance[on] *= (mdp.go[state[on, k], action[on, k]] * answers).sum(1)
    rows, last = np.arange(len(steps)), steps - 1
    win = mdp.win[state[rows, last], action[rows, last]]
    on = mdp.go[state[rows, last], action[rows, last]].sum(1)
    return np.asarray(chance * np.where(said.outcome_B.numpy() == 1, win, 1 - win - on))


def mean_at_pairs(mdp: MDP, said: Conversations, value_BK: Array, weight_BK: Array) -> Array:
    """Weighted mean of a number of the steps at each pair of state and reply. Returns SA."""
    total, mass = np.zeros((len(mdp), A)), np.zeros((len(mdp), A))
    kept = said.is_step_BK.numpy()
    at = said.state_BK[kept], said.action_BK[kept]
    np.add.at(total, at, (weight_BK * value_BK)[kept])
    np.add.at(mass, at, weight_BK[kept])
    return total / mass
