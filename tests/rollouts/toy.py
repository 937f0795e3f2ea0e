"""A task of twelve words that a table can learn: answer every message with "yes"."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from tokenizers import Tokenizer as RawTokenizer
from tokenizers import models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from turnwise.backends.fake import FakeBackend
from turnwise.backends.protocol import Tokenizer
from turnwise.backends.tiny import CHAT_TEMPLATE, END, PAD, ROLE_TOKENS
from turnwise.conversation import Conversation, Ending, Message, Outcome
from turnwise.rollouts import Limits, Stage
from turnwise.tasks import Scenario
from turnwise.tokens import ChatFormat, ChatTokenizer
from turnwise.users import Reply, User

WORDS = ("hello", "go", "yes", "no", "bye")
LIMITS = Limits(max_turns=3, max_turn_tokens=3, max_conversation_tokens=40)


def word_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """One token a word, in the tiny model's chat template."""
    names = [*ROLE_TOKENS, END, PAD, "<unk>", *words]
    vocabulary = {name: number for number, name in enumerate(names)}
    raw = RawTokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token=END,
        pad_token=PAD,
        unk_token="<unk>",
        extra_special_tokens=list(ROLE_TOKENS),
        chat_template=CHAT_TEMPLATE,
    )


TOKENIZER = word_tokenizer(WORDS)
CHAT = ChatFormat(cast(ChatTokenizer, TOKENIZER))  # its own types allow much more


def backend(seed: int = 0) -> FakeBackend:
    return FakeBackend(cast(Tokenizer, TOKENIZER), len(TOKENIZER), seed=seed)


def ids(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(text, add_special_tokens=False))


def answers(conversation: Conversation) -> list[str]:
    return [message.content for message in conversation if message.role == "assistant"]


class Nodding:
    """A user who goes on until the assistant says bye."""

    async def reply(self, conversation: Conversation) -> Reply:
        if "bye" in conversation[-1].content.split():
            return Reply(ending=Ending.FAREWELL)
        return Reply(Message("user", "go"))


@dataclass(frozen=True)
class Yes:
    """The score is the share of turns that are exactly "yes"; so are the turn rewards."""

    name: str = "yes"
    preset: str = "plain"
    max_turns: int = LIMITS.max_turns

    def scenario(self, seed: int) -> Scenario:
        return Scenario(f"yes-plain-{seed}", seed)

    def opening(self, scenario: Scenario) -> Conversation:
        return (Message("user", "hello" if scenario.seed % 2 else "hello go"),)

    def user(self, scenario: Scenario, seed: int) -> User:
        return Nodding()

    def outcome(self, scenario: Scenario, conversation: Conversation, seed: int) -> Outcome:
        right = self.right(conversation)
        score = sum(right) / len(right)
        return Outcome(score, {"success": float(score == 1.0)})

    def turn_rewards(
        self, scenario: Scenario, conversation: Conversation
    ) -> Sequence[Mapping[str, float]]:
        return [{"yes": value} for value in self.right(conversation)]

    def oracle(
        self, scenario: Scenario, conversation: Conversation, seed: int
    ) -> tuple[float, ...]:
        right = self.right(conversation)
        return tuple((value - 0.5) / len(right) for value in right)

    def right(self, conversation: Conversation) -> list[float]:
        return [float(text == "yes") for text in answers(conversation)]

    def demonstration(self, scenario: Scenario, seed: int) -> Conversation:
        word = WORDS[seed % len(WORDS)]
        return (*self.opening(scenario), Message("assistant", word))

    def secrets(self, scenario: Scenario) -> tuple[str, ...]:
        return ()


def stage(max_live: int = 128, limits: Limits = LIMITS) -> Stage[Scenario]:
    return Stage(Yes(), CHAT, limits, max_live=max_live)
