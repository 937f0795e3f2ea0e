"""Policies that are functions: they read the conversation and draw from the request's noise."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from tests.rollouts.toy import word_tokenizer
from turnwise.backends.protocol import Sample, SampleRequest
from turnwise.conversation import Conversation, Message
from turnwise.conversation.messages import Role
from turnwise.rollouts import Limits, Stage
from turnwise.tasks import AnyTask
from turnwise.tokens import ChatFormat, ChatTokenizer
from turnwise.users import Key

Speech = Callable[[Conversation, tuple[Key, ...]], str]  # conversation, key of this turn's noise


@dataclass(frozen=True)
class Speaking:
    """Implements `Sampler` with a function of the conversation and a key."""

    chat: ChatFormat
    say: Speech

    async def sample(self, request: SampleRequest) -> Sample:
        await asyncio.sleep(0)  # let other dialogues speak, as a real sampler does
        text = self.chat.tokenizer.decode(list(request.prompt_ids), skip_special_tokens=False)
        messages = re.findall(r"<\|(user|assistant)\|>(.*?)<\|end\|>", str(text))
        conversation = tuple(Message(cast(Role, role), said.strip()) for role, said in messages)
        key = (request.noise_seed, len(request.prompt_ids))
        ids = self.chat.message(self.say(conversation, key))[: request.max_new_tokens]
        is_closed = ids[-1] in request.stop_ids
        return Sample(ids, (-0.5,) * len(ids), "stop" if is_closed else "length")

    def release(self, session: str) -> None:
        pass


def stage_of(task: AnyTask, *texts: str) -> Stage[Any]:
    """A stage whose words are those of the task's demonstrations and of the texts."""
    shown = [message.content for i in range(300) for message in _demonstration(task, i)]
    words = dict.fromkeys(word for text in (*shown, *texts) for word in text.split())
    chat = ChatFormat(cast(ChatTokenizer, word_tokenizer(words)))
    return Stage(task, chat, Limits(task.max_turns, 12, 400))


def _demonstration(task: AnyTask, i: int) -> Conversation:
    return task.demonstration(task.scenario(i), i)
