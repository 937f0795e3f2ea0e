"""Users made harder by wrapping: any `User` goes in, a `User` comes out.

Every decision is keyed by the dialogue's seed and the number of assistant turns, so a wrapped user
is as pure as the one inside. A wrapper changes words and endings, never what the user inside
believes to have said.
"""

from dataclasses import dataclass, replace
from typing import Protocol

from turnwise.conversation import Conversation, Ending, Message, assistant_messages
from turnwise.errors import SpeakerError
from turnwise.users.chance import Key, happens, pick, uniform
from turnwise.users.protocol import Reply, User


@dataclass(frozen=True)
class Impatient:
    """Any user, who leaves in reply to assistant turn number `patience`, unless it ended there."""

    user: User
    patience: int
    farewell: str = "bye ."

    async def reply(self, conversation: Conversation) -> Reply:
        reply = await self.user.reply(conversation)
        if reply.ending is not None or len(assistant_messages(conversation)) < self.patience:
            return reply
        return Reply(Message("user", self.farewell), Ending.FAREWELL)


@dataclass(frozen=True)
class Noisy:
    """Any user, who mistypes each word of two letters or more with probability `rate`."""

    user: User
    rate: float
    seed: int

    async def reply(self, conversation: Conversation) -> Reply:
        key = (self.seed, len(assistant_messages(conversation)), "typo")
        reply = await self.user.reply(conversation)
        return _reworded(
            reply, lambda i, word: mistyped(word, *key, i) if self._hits(key, i) else word
        )

    def _hits(self, key: tuple[Key, ...], i: int) -> bool:
        return happens(self.rate, *key, i, "hit")


@dataclass(frozen=True)
class Mistaken:
    """Any user, who says another word of the same group with probability `rate` a word.

    confusable: groups of words that stand for each other wrongly, such as the values of a slot.
    """

    user: User
    rate: float
    seed: int
    confusable: tuple[tuple[str, ...], ...]

    async def reply(self, conversation: Conversation) -> Reply:
        key = (self.seed, len(assistant_messages(conversation)), "mistake")
        reply = await self.user.reply(conversation)
        return _reworded(reply, lambda i, word: self._word(word, (*key, i)))

    def _word(self, word: str, key: tuple[Key, ...]) -> str:
        others = [o for group in self.confusable if word in group for o in group if o != word]
        return pick(others, *key) if others and happens(self.rate, *key, "hit") else word


@dataclass(frozen=True)
class Vague:
    """Any user, who evades with probability `rate` a reply; asking again may help."""

    user: User
    rate: float
    seed: int
    evasions: tuple[str, ...] = ("hard to say .", "i am not sure yet .", "hm , let me think .")

    async def reply(self, conversation: Conversation) -> Reply:
        key = (self.seed, len(assistant_messages(conversation)), "vague")
        reply = await self.user.reply(conversation)
        if reply.ending is not None or not happens(self.rate, *key, "hit"):
            return reply
        return Reply(Message("user", pick(self.evasions, *key)))


@dataclass(frozen=True)
class Failing:
    """Any user, whose reply cannot be had with probability `rate`: a fault for tests.

    Raises SpeakerError when it fails. The same conversation fails again: a retry does not help.
    """

    user: User
    rate: float
    seed: int

    async def reply(self, conversation: Conversation) -> Reply:
        turns = len(assistant_messages(conversation))
        if happens(self.rate, self.seed, turns, "failure"):
            raise SpeakerError(
                f"expected a reply to assistant turn {turns}, got none: this user is set to fail "
                f"with rate {self.rate}; the dialogue ends as {Ending.SPEAKER_FAILED}"
            )
        return await self.user.reply(conversation)


def mistyped(word: str, *key: Key) -> str:
    """The word with two neighbouring letters swapped or, where they are equal, one left out."""
    if len(word) < 2 or not word.isalpha():
        return word
    i = int(uniform(*key) * (len(word) - 1))
    if word[i] == word[i + 1]:
        return word[:i] + word[i + 1 :]
    return word[:i] + word[i + 1] + word[i] + word[i + 2 :]


class _Rewording(Protocol):
    def __call__(self, i: int, word: str, /) -> str: ...


def _reworded(reply: Reply, change: _Rewording) -> Reply:
    if reply.message is None:
        return reply
    words = [change(i, word) for i, word in enumerate(reply.message.content.split(" "))]
    return replace(reply, message=replace(reply.message, content=" ".join(words)))
