"""A wrapped user is still a pure user, and only what the wrapper says is changed."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.conversation import Conversation, Ending, Message
from turnwise.errors import SpeakerError
from turnwise.users import Failing, Impatient, Mistaken, Noisy, Reply, User, Vague

TEXT = "i would like friday , please ."
CONFUSABLE = (("friday", "monday", "sunday"), ("noon", "evening"))


@dataclass(frozen=True)
class Always:
    """Says the same, or ends."""

    answer: Reply

    async def reply(self, conversation: Conversation) -> Reply:
        return self.answer


TALKS = Always(Reply(Message("user", TEXT)))
ACTED = Always(Reply(ending=Ending.TASK_DONE))

WRAPPERS: dict[str, Callable[[User], User]] = {
    "impatient": lambda user: Impatient(user, 3),
    "noisy": lambda user: Noisy(user, 0.5, 1),
    "mistaken": lambda user: Mistaken(user, 0.5, 1, CONFUSABLE),
    "vague": lambda user: Vague(user, 0.5, 1),
    "failing": lambda user: Failing(user, 0.0, 1),
}


def after(turns: int) -> Conversation:
    exchange = (Message("assistant", "which day ?"), Message("user", TEXT))
    return (Message("user", "hello ."), *(exchange * turns)[: 2 * turns - 1])


def ask(user: User, turns: int = 1) -> Reply:
    return asyncio.run(user.reply(after(turns)))


def text_of(reply: Reply) -> str:
    assert reply.message is not None
    return reply.message.content


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapped_user_is_pure(name: str) -> None:
    user, twin = WRAPPERS[name](TALKS), WRAPPERS[name](TALKS)
    replies = [ask(user, turns) for turns in range(1, 6)]
    assert replies == [ask(twin, turns) for turns in range(5, 0, -1)][::-1]


@pytest.mark.parametrize("name", WRAPPERS)
def test_an_ending_passes_through_every_wrapper(name: str) -> None:
    assert ask(WRAPPERS[name](ACTED), 4) == Reply(ending=Ending.TASK_DONE)


@pytest.mark.parametrize("wrap", [Noisy, Vague, Failing])
def test_rate_zero_changes_nothing(wrap: Callable[[User, float, int], User]) -> None:
    assert [ask(wrap(TALKS, 0.0, 0), turns) for turns in (1, 2, 3)] == [ask(TALKS)] * 3


def test_an_impatient_user_leaves_at_its_turn_and_not_before() -> None:
    user = Impatient(TALKS, 3)
    assert ask(user, 2) == ask(TALKS)
    assert ask(user, 3) == Reply(Message("user", "bye ."), Ending.FAREWELL)


@settings(deadline=None)
@given(seed=st.integers(), turns=st.integers(1, 8))
def test_a_typo_keeps_the_word_count_and_moves_no_letter_to_another_word(
    seed: int, turns: int
) -> None:
    noisy = text_of(ask(Noisy(TALKS, 1.0, seed), turns)).split(" ")
    for before, now in zip(TEXT.split(" "), noisy, strict=True):
        assert sorted(before) == sorted(now)  # no word here has equal neighbours
        assert (before == now) == (len(before) < 2)


def test_a_doubled_letter_is_left_out() -> None:
    user = Noisy(Always(Reply(Message("user", "oo"))), 1.0, 0)
    assert text_of(ask(user)) == "o"


@settings(deadline=None)
@given(seed=st.integers())
def test_a_mistake_stays_in_its_group(seed: int) -> None:
    words = text_of(ask(Mistaken(TALKS, 1.0, seed, CONFUSABLE))).split(" ")
    assert words[3] in ("monday", "sunday")
    assert [*words[:3], "friday", *words[4:]] == TEXT.split(" ")


def test_rates_are_kept() -> None:
    # 1000 seeds, rate .3: standard error .0145, five of them either way.
    vague = sum(text_of(ask(Vague(TALKS, 0.3, seed))) != TEXT for seed in range(1000)) / 1000
    assert abs(vague - 0.3) < 0.073


def test_a_failing_user_says_which_turn_and_fails_again() -> None:
    user = Failing(TALKS, 1.0, 7)
    for _ in range(2):
        with pytest.raises(SpeakerError, match="assistant turn 2"):
            ask(user, 2)


def test_wrappers_nest() -> None:
    user = Impatient(Noisy(TALKS, 1.0, 0), 2)
    assert text_of(ask(user, 1)) != TEXT
    assert ask(user, 2).ending is Ending.FAREWELL
