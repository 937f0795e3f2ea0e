"""A judge that computes: exact where a task knows its truth, and free of noise in tests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from turnwise.conversation import Conversation, assistant_messages
from turnwise.judges.protocol import checked_weights


@dataclass(frozen=True)
class RuleJudge:
    """Weighs turns by a function of the conversation."""

    rule: Callable[[Conversation], Sequence[float]]  # one number for each assistant message

    async def weigh(self, conversation: Conversation) -> tuple[float, ...]:
        return checked_weights(self.rule(conversation), turns=len(assistant_messages(conversation)))
