"""Whoever says what a turn was worth, and what counts as an answer."""

import math
from collections.abc import Sequence
from typing import Protocol

from turnwise.conversation import Conversation
from turnwise.errors import SpeakerError

MAX_WEIGHT = 100.0  # weights are compared with each other only; more than this is no answer


class TurnJudge(Protocol):
    """Weighs the assistant's turns of a finished dialogue against each other."""

    async def weigh(self, conversation: Conversation) -> tuple[float, ...]:
        """One number in [0, MAX_WEIGHT] for each assistant message, in their order.

        Raises SpeakerError when no usable answer can be had; nothing is made up.
        """


def checked_weights(weights: Sequence[float], *, turns: int) -> tuple[float, ...]:
    """The weights as they are. Raises SpeakerError unless there is one finite number in
    [0, MAX_WEIGHT] for each turn."""
    if len(weights) != turns:
        raise SpeakerError(
            f"expected {turns} weights, one for each assistant turn, found {len(weights)}; the "
            "dialogue counts as not judged"
        )
    for turn, weight in enumerate(weights, 1):
        if not (math.isfinite(weight) and 0 <= weight <= MAX_WEIGHT):
            raise SpeakerError(
                f"expected a weight from 0 to {MAX_WEIGHT:g}, found {weight} for turn {turn}; the "
                "dialogue counts as not judged"
            )
    return tuple(float(weight) for weight in weights)
