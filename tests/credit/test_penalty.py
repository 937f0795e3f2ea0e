"""The price of talking."""

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from turnwise.conversation import Message
from turnwise.credit import count_words, length_penalty, penalty_share
from turnwise.errors import ConfigError


def test_the_penalty_by_hand() -> None:
    # 800 words at 5e-5; never below −1
    penalty_B = length_penalty(tensor([800, 0, 10**6]), rate=5e-5)
    assert_close(penalty_B, tensor([-0.04, 0.0, -1.0]))
    assert length_penalty(tensor([7]), rate=0.0).tolist() == [0.0]
    assert length_penalty(tensor([7]), rate=0.1, dtype=torch.float64).dtype == torch.float64


def test_a_negative_rate_is_refused() -> None:
    with pytest.raises(ConfigError, match="rate"):
        length_penalty(tensor([1]), rate=-1e-5)


def test_turns_share_the_penalty_by_their_tokens() -> None:
    share_BK = penalty_share(tensor([[2, 3], [4, 0], [0, 0]]))
    assert_close(share_BK, tensor([[0.4, 0.6], [1.0, 0.0], [0.0, 0.0]]))


def test_words_of_every_message_after_the_first_of_the_user_count() -> None:
    conversation = (
        Message("system", "be brief please"),
        Message("user", "book a table"),
        Message("assistant", "for how  many ?"),
        Message("user", "two"),
        Message("tool", "ok done"),
        Message("assistant", "Done."),
    )
    assert count_words(conversation) == 4 + 1 + 2 + 1
    assert count_words(conversation[:2]) == 0
    assert count_words((conversation[0], conversation[2])) == 4
