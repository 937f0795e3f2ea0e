"""Logged conversations as rows that a model reads.

Axes: `B` rows, `K` decision steps of a row, `T` tokens.
"""

from dataclasses import dataclass

from turnwise.conversation import Trajectory


@dataclass(frozen=True)
class Episode:
    """One row: a whole conversation, or where the template is no prefix one decision step of it.

    `trajectory.turns` are the decision steps that the row holds; its tuples here have one entry
    for each of them.
    """

    conversation_id: str
    customer: str
    fold: int  # 0 (A) or 1 (B): a keyed function of the customer, the same in all rounds
    round: int  # in which it was collected
    trajectory: Trajectory
    turn_index: tuple[int, ...]  # which decision step of the conversation each turn is, from 0
    reward: tuple[float, ...]  # after each decision step; the outcome is paid on the last
    is_censored: bool  # the outcome is unknown: no Monte Carlo target
    is_last: tuple[bool, ...]  # the conversation's last decision step
    trains_q: tuple[bool, ...]  # written by a model, version known
    has_mc: tuple[bool, ...]  # G is a sample of Q of the policy: all later steps are its own
    tenant: str | None = None
    language: str | None = None
    version: tuple[str | None, ...] = ()  # policy version of each decision step


@dataclass(frozen=True)
class Prompt:
    """A state from which the policy is to speak."""

    conversation_id: str
    customer: str
    fold: int
    turn_index: int
    token_ids: tuple[int, ...]  # generation prompt included
    weight: float  # γ^t, or one share of the conversation
