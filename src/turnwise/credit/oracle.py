"""The credit that a task knows exactly: the yardstick for all others."""

from collections.abc import Sequence

import torch
from torch import Tensor

from turnwise.errors import ShapeError


def oracle_turn_rewards(
    credit_of_dialogues: Sequence[Sequence[float]],
    is_turn_BK: Tensor,
    *,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The task's exact credits as an array, column k for the k-th assistant message.

        R_k = V(after the reply to turn k) − V(before turn k),   Σ_k R_k = V(end) − V(start)

    V is the expected outcome under the best continuation, so R is centred already: it is used as
    the advantage, without a baseline. A credit where `is_turn_BK` is False (an empty message) is 0.
    Returns turn_reward_BK.
    Raises ShapeError, with the dialogue, unless there is one list for each row and one number for
    each assistant message up to the row's last turn.
    """
    B, K = is_turn_BK.shape
    if len(credit_of_dialogues) != B:
        raise ShapeError(
            f"expected {B} lists of oracle credits, got {len(credit_of_dialogues)}; "
            "give one for each dialogue of the batch"
        )
    reward_BK = torch.zeros(B, K, dtype=dtype)
    for b, credit in enumerate(credit_of_dialogues):
        last = int(is_turn_BK[b].nonzero().max()) if bool(is_turn_BK[b].any()) else -1
        if not last < len(credit) <= K:
            raise ShapeError(
                f"dialogue {b}: expected {last + 1} to {K} oracle credits, one for each assistant "
                f"message, got {len(credit)}; the task and the batch see different turns"
            )
        reward_BK[b, : len(credit)] = torch.tensor(credit, dtype=dtype)
    return torch.where(is_turn_BK, reward_BK.to(is_turn_BK.device), 0.0)
