"""Of logs, what the logging policy wrote by itself is imitated, as it proposed it."""

import pytest

from tests.iteration.logged import V1, heard, logged, said, three_turns
from tests.tokens.templates import TOKENIZERS
from turnwise.conversation import Consent, Exploration, LoggedConversation
from turnwise.errors import LogsError
from turnwise.iteration.cloning import rows_to_clone
from turnwise.tokens import ChatFormat

CHAT = ChatFormat(TOKENIZERS["tiny"])


def imitated(*conversations: LoggedConversation, max_tokens: int = 99) -> list[str]:
    """The texts of all turns that are to be imitated, in their order."""
    return [
        CHAT.text(row.token_ids[turn.start : turn.stop])
        for row in rows_to_clone(conversations, CHAT, max_tokens=max_tokens)
        for turn in row.turns
    ]


def test_every_reply_of_the_policy_is_imitated_whatever_it_earned() -> None:
    for outcome in (0.0, 1.0, None):
        assert imitated(three_turns(outcome=outcome)) == ["friday .", "bye", "book friday"]
    [row] = rows_to_clone([three_turns()], CHAT, max_tokens=99)
    assert all(row.token_ids[turn.stop - 1] == CHAT.stop_id for turn in row.turns)


def test_what_a_person_sent_instead_is_not_imitated_but_what_was_proposed_is() -> None:
    edited = said("friday .", author="human", disposition="edited", proposed="which day ?")
    assert imitated(logged(heard("hello"), edited)) == ["which day ?"]


def test_neither_people_nor_explorers_are_imitated() -> None:
    by_hand = said("bye", author="human", policy=None)
    explored = said("yes", explore=Exploration(True, "novice", 0.1))
    own = said("no", policy=V1)
    shown = logged(heard("hello"), by_hand, heard("go"), explored, heard("four"), own)
    assert imitated(shown) == ["no"]
    assert imitated(logged(heard("hello"), by_hand)) == []


def test_a_reply_beyond_the_limit_is_left_out() -> None:
    [row] = rows_to_clone([three_turns()], CHAT, max_tokens=99)
    assert imitated(three_turns(), max_tokens=row.turns[1].stop) == ["friday .", "bye"]


def test_a_conversation_whose_consent_forbids_training_is_refused() -> None:
    with pytest.raises(LogsError, match="consent_refused"):
        imitated(three_turns(consent=Consent(False)))
