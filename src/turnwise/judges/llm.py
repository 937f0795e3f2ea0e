"""A judge that asks a language model."""

from dataclasses import dataclass
from functools import partial

from turnwise.conversation import Conversation, assistant_messages
from turnwise.endpoints import ChatEndpoint
from turnwise.judges.prompt import weight_question
from turnwise.judges.reading import read_weights


@dataclass(frozen=True)
class LLMJudge:
    """Weighs turns by the answer of a chat model at temperature 0.

    It reads the messages that the policy and the user exchanged: no hidden fact, no outcome.
    """

    endpoint: ChatEndpoint
    seed: int = 0

    async def weigh(self, conversation: Conversation) -> tuple[float, ...]:
        turns = len(assistant_messages(conversation))
        if turns == 0:
            return ()  # nothing to ask
        question = weight_question(conversation, seed=self.seed)
        return await self.endpoint.ask(question, partial(read_weights, turns=turns))
