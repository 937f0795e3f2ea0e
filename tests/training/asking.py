"""A task in which asking first makes the answer possible, and a tiny model that has seen it played.

The user thinks of a colour. Asked, they say it; a colour named by the assistant ends the dialogue,
right or wrong. Guessing is right one time in three.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tests.rollouts.toy import answers, word_tokenizer
from turnwise.backends import AdapterSpec
from turnwise.backends.loading import load_backend
from turnwise.backends.local import LocalBackend
from turnwise.backends.tiny import tiny_model
from turnwise.conversation import Conversation, Ending, Message, Outcome, Role, Trajectory, Turn
from turnwise.rollouts import Limits, Stage
from turnwise.tasks import Scenario
from turnwise.tokens import ChatFormat, ChatTokenizer, tokenise
from turnwise.training.observer import Silent
from turnwise.training.prm import PassLimits
from turnwise.training.supervised import imitate, supervised_batch
from turnwise.users import Reply, User
from turnwise.users.chance import happens, pick

COLOURS = ("red", "green", "blue")
FIRST = ("ask", *COLOURS)
WORDS = ("hello", "ask", *COLOURS, "it", "is", "sorry", "?", "No", "information", "found.")
LIMITS = Limits(max_turns=3, max_turn_tokens=3, max_conversation_tokens=40)

SETTINGS: dict[str, object] = {
    "method.credit": "infopo",
    "info.placeholder": "sorry ?",
    "critic.learning_rate": 1e-2,
    "train.num_problems": 8,
    "train.num_generations": 6,
    "train.learning_rate": 3e-3,
    "train.per_device_train_batch_size": 64,
}


@dataclass(frozen=True)
class Thinking:
    """A user who tells what they think of when asked."""

    colour: str

    async def reply(self, conversation: Conversation) -> Reply:
        said = conversation[-1].content
        if said in COLOURS:
            return Reply(ending=Ending.TASK_DONE)
        return Reply(Message("user", f"it is {self.colour}" if said == "ask" else "sorry ?"))


@dataclass(frozen=True)
class Asking:
    """Score 1 if the last word is the colour."""

    name: str = "asking"
    preset: str = "plain"
    max_turns: int = LIMITS.max_turns

    def scenario(self, seed: int) -> Scenario:
        return Scenario(f"asking-plain-{seed}", seed)

    def colour(self, scenario: Scenario) -> str:
        return COLOURS[scenario.seed % 3]

    def opening(self, scenario: Scenario) -> Conversation:
        return (Message("user", "hello"),)

    def user(self, scenario: Scenario, seed: int) -> User:
        return Thinking(self.colour(scenario))

    def outcome(self, scenario: Scenario, conversation: Conversation, seed: int) -> Outcome:
        score = float(answers(conversation)[-1] == self.colour(scenario))
        return Outcome(score, {"success": score})

    def turn_rewards(
        self, scenario: Scenario, conversation: Conversation
    ) -> Sequence[Mapping[str, float]]:
        return [{} for _ in answers(conversation)]

    def oracle(
        self, scenario: Scenario, conversation: Conversation, seed: int
    ) -> tuple[float, ...]:
        return tuple(0.0 for _ in answers(conversation))

    def demonstration(self, scenario: Scenario, seed: int) -> Conversation:
        """Anything at first; having asked, the colour five times in six."""
        word, colour = pick(FIRST, seed, "first"), self.colour(scenario)
        said = (*self.opening(scenario), Message("assistant", word))
        if word != "ask":
            return said
        told = colour if happens(3 / 4, seed, "listens") else pick(COLOURS, seed, "guess")
        return (*said, Message("user", f"it is {colour}"), Message("assistant", told))

    def secrets(self, scenario: Scenario) -> tuple[str, ...]:
        return ()


TOKENIZER = word_tokenizer(WORDS)
CHAT = ChatFormat(cast(ChatTokenizer, TOKENIZER))


def stage() -> Stage[Scenario]:
    return Stage(Asking(), CHAT, LIMITS)


def dialogue(*texts: str, group_id: str = "0", score: float = 1.0, seed: int = 0) -> Trajectory:
    """User and assistant in turn, as if it had been played; the sampler's log-probs are −½."""
    roles: tuple[Role, Role] = ("user", "assistant")
    said = tuple(Message(roles[i % 2], text) for i, text in enumerate(texts))
    tokens = tokenise(said, CHAT)
    turns = tuple(
        Turn(start, stop, (-0.5,) * (stop - start), "stop", bodies)
        for (start, stop), bodies in zip(tokens.turns, tokens.feedback, strict=True)
    )
    name = f"asking-plain-{seed}"
    return Trajectory(
        name, group_id, seed, said, tokens.token_ids, turns, Outcome(score), Ending.TASK_DONE
    )


def demonstrated(path: Path) -> LocalBackend:
    """A model of one layer that has learnt the demonstrations, by way of the folder `path`."""
    raw = tiny_model(TOKENIZER, hidden_size=64, num_layers=1, seed=1)
    learner = LocalBackend(raw, TOKENIZER).create("policy", AdapterSpec(full_weights=True))
    task = Asking()
    batch = supervised_batch(
        [task.demonstration(task.scenario(i), i) for i in range(300)], CHAT, max_tokens=40
    )
    imitate(
        learner, batch, epochs=4, batch_size=20, learning_rate=1e-2, seed=0,
        limits=PassLimits(64, 4096), observer=Silent(),
    )  # fmt: skip
    learner.export(path)
    return load_backend(str(path))
