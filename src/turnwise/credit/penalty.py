"""The price of talking: a penalty for length and its division among turns."""

import torch
from torch import Tensor

from turnwise.conversation import Conversation
from turnwise.credit.ranges import check_not_negative


def length_penalty(count_B: Tensor, *, rate: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Penalty of a whole dialogue, in outcome units.

        p = max(−1, −λ·N)

    count_B: N, written tokens (or words, see `count_words`). rate: λ ≥ 0.
    Returns penalty_B in [−1, 0].
    Raises ConfigError if rate is negative.
    """
    check_not_negative("rate", rate)
    return (-rate * count_B.to(dtype)).clamp(min=-1.0)


def penalty_share(length_BK: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Each turn's part of the penalty: share_k = c_k / Σ c.

    length_BK: written tokens c of each turn. Returns share_BK; rows with a token sum to one.
    """
    return length_BK.to(dtype) / length_BK.sum(dim=1, keepdim=True).clamp(min=1)


def count_words(conversation: Conversation) -> int:
    """Whitespace-separated words of every message after the first user message.

    The user's later words are included, as in the published code of ITPO (`words_all_messages`):
    a policy is charged there for what its user says. Without a user message every message after
    the system's counts.
    """
    roles = [message.role for message in conversation]
    start = roles.index("user") + 1 if "user" in roles else roles.count("system")
    return sum(len(message.content.split()) for message in conversation[start:])
