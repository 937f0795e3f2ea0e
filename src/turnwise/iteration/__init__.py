"""Iterative PPO: fit Q to logged conversations, gate it, improve the policy one turn at a time,
confirm, and begin again.

Source: Jiang, Bhandari, Yang, Munos, Lu, arXiv:2511.21638.
"""

from turnwise.iteration.config import IterateConfig
from turnwise.iteration.presets import resolved
from turnwise.iteration.rounds import (
    Standing,
    Workshop,
    check_first,
    fit_first,
    iterate,
    policy_of,
)

__all__ = [
    "IterateConfig",
    "Standing",
    "Workshop",
    "check_first",
    "fit_first",
    "iterate",
    "policy_of",
    "resolved",
]
