"""Dialogues as numbers: who is whose sibling, what each reached, what its length costs."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from tests.training.small import dialogues, settings
from turnwise.conversation import Message, Outcome
from turnwise.errors import OutcomeError
from turnwise.tokens import turn_batch
from turnwise.training.evidence import group_index, length_penalties, outcomes

PLAYED = dialogues(settings())


def test_siblings_share_a_number_wherever_they_stand() -> None:
    order = [0, 4, 1, 15, 5]
    assert group_index([PLAYED[i] for i in order]).tolist() == [0, 1, 0, 2, 1]


def test_outcomes_are_scores_as_they_are() -> None:
    expected = [t.outcome.score for t in PLAYED]
    assert outcomes(PLAYED).tolist() == pytest.approx(expected)


def test_a_dialogue_that_was_not_judged_is_never_a_number() -> None:
    unjudged = replace(PLAYED[1], outcome=Outcome(None))
    with pytest.raises(OutcomeError, match=r"dialogue 1 \(yes-plain-0\) has no outcome"):
        outcomes([PLAYED[0], unjudged])


def test_a_length_penalty_counts_what_the_policy_wrote() -> None:
    method = settings({"method.length_penalty": 0.01}).method
    written_B = torch.tensor([t.usage.completion_tokens for t in PLAYED])
    assert_close(length_penalties(PLAYED, turn_batch(PLAYED), method), -0.01 * written_B)


def test_the_published_penalty_counts_words_of_users_too() -> None:
    keys = {"method.length_penalty": 0.01, "method.penalty_count": "words_all_messages"}
    said = tuple(
        Message("assistant" if i % 2 else "user", text)
        for i, text in enumerate(["hello go", "yes no", "go go go", "bye"])
    )
    one = replace(PLAYED[0], conversation=said)
    # After the first user message: 2 + 3 + 1 words.
    penalty_B = length_penalties([one], turn_batch([one]), settings(keys).method)
    assert penalty_B.tolist() == pytest.approx([-0.06])
