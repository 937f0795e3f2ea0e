"""Learning to imitate: only what the assistant said, however the batch is cut."""

from dataclasses import dataclass, field

import pytest
import torch
from torch.testing import assert_close

from tests.rollouts.toy import CHAT, backend, ids
from tests.training.small import Recording
from turnwise.backends import AdapterSpec
from turnwise.conversation import Conversation, Message
from turnwise.errors import BudgetError, EmptyStepError, TemplateError
from turnwise.training.observer import Silent
from turnwise.training.prm import PassLimits
from turnwise.training.supervised import imitate, supervised_batch

WHOLE = PassLimits(100, 10**6)


def spoken(*texts: str) -> Conversation:
    return tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts))


CONVERSATIONS = [
    spoken("hello", "yes"),
    spoken("hello", "yes", "go", "yes bye"),
    spoken("go", "no no no"),
    spoken("hello", "yes", "go"),
]


def imitated(
    conversations: list[Conversation] = CONVERSATIONS,
    *,
    epochs: int = 1,
    batch_size: int = 4,
    learning_rate: float = 0.1,
    limits: PassLimits = WHOLE,
    observer: Silent | None = None,
) -> tuple[Recording, float]:
    learner = Recording(backend(), "policy", AdapterSpec())
    loss = imitate(
        learner,
        supervised_batch(conversations, CHAT, max_tokens=40),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=0,
        limits=limits,
        observer=observer or Silent(),
    )
    return learner, loss


def test_every_assistant_token_is_imitated_and_no_other() -> None:
    batch = supervised_batch(CONVERSATIONS, CHAT, max_tokens=40)
    written = [
        tuple(batch.token_BT[b][batch.written_BT[b]].tolist()) for b in range(len(CONVERSATIONS))
    ]
    end = "<|end|>"
    said = [f"yes{end}", f"yes{end}yes bye{end}", f"no no no{end}", f"yes{end}"]
    assert written == [ids(text) for text in said]


def test_imitation_lowers_the_loss_to_what_the_data_allow() -> None:
    start, _ = imitated(epochs=1)
    first = imitated(epochs=1)[1]
    learner, last = imitated(epochs=150)
    assert last < 0.5 * first
    batch = supervised_batch(CONVERSATIONS, CHAT, max_tokens=40)
    found = float(-learner.logp(batch).sum() / batch.num_written)
    assert found < 1.05 * last
    assert not torch.equal(start.logp(batch), learner.logp(batch))


def test_the_first_loss_is_that_of_the_model_as_it_came() -> None:
    batch = supervised_batch(CONVERSATIONS, CHAT, max_tokens=40)
    logp_BT = backend().reference().logp(batch)
    _, loss = imitated(epochs=1)  # one step: the loss from before it
    assert loss == pytest.approx(float(-logp_BT.sum() / batch.num_written), rel=1e-5)


def test_a_steps_loss_is_the_mean_over_its_own_tokens() -> None:
    batch = supervised_batch(CONVERSATIONS, CHAT, max_tokens=40)
    logp_B = backend().reference().logp(batch).sum(dim=1)
    mean_B = -logp_B / batch.written_BT.sum(dim=1)
    _, loss = imitated(batch_size=1, learning_rate=1e-9)  # four steps that move nothing
    assert loss == pytest.approx(float(mean_B.mean()), rel=1e-4)


@pytest.mark.parametrize("limits", [PassLimits(1, 10**6), PassLimits(3, 40)])
def test_how_a_step_is_split_changes_no_gradient(limits: PassLimits) -> None:
    whole, expected = imitated()
    split, loss = imitated(limits=limits)
    assert_close(split.gradients[0], whole.gradients[0], atol=1e-6, rtol=1e-5)
    assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 4), (3, 2), (4, 1), (100, 1)])
def test_an_epoch_visits_every_conversation_once(batch_size: int, steps: int) -> None:
    learner, _ = imitated(epochs=3, batch_size=batch_size)
    assert len(learner.gradients) == 3 * steps


@dataclass
class Counting(Silent):
    totals: list[int | None] = field(default_factory=list)
    steps: int = 0

    def phase(self, name: str, total: int | None = None) -> None:
        self.totals.append(total)

    def advance(self, phase: str, by: int = 1, **metrics: float) -> None:
        assert metrics["loss"] > 0
        self.steps += by


def test_whoever_watches_hears_of_every_step() -> None:
    observer = Counting()
    imitated(epochs=3, batch_size=2, observer=observer)
    assert (observer.totals, observer.steps) == ([6], 6)


def test_nothing_to_imitate_is_said() -> None:
    with pytest.raises(EmptyStepError):
        imitated([])


def test_a_conversation_longer_than_the_budget_is_named() -> None:
    long = spoken("hello", " ".join(["no"] * 40))
    with pytest.raises(BudgetError, match=r"conversation 1 has 45 tokens, more than the 40"):
        supervised_batch([CONVERSATIONS[0], long], CHAT, max_tokens=40)


def test_a_conversation_in_which_nobody_answers_is_refused() -> None:
    with pytest.raises(TemplateError, match="has an assistant message"):
        supervised_batch([spoken("hello")], CHAT, max_tokens=40)
