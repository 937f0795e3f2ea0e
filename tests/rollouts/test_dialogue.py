"""The order of speech without any model: samples and replies go in, a dialogue comes out."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis.strategies import (
    DrawFn,
    booleans,
    composite,
    integers,
    lists,
    sampled_from,
)

from tests.rollouts.toy import CHAT, LIMITS, TOKENIZER, WORDS, answers, ids
from turnwise.backends.protocol import Sample
from turnwise.conversation import Conversation, Ending, Message
from turnwise.errors import BudgetError
from turnwise.rollouts import AskPolicy, AskUser, Limits, Played, Prefix, dialogue
from turnwise.users import Reply

OPENING = (Message("user", "hello"),)
GO = Reply(Message("user", "go"))
END_ID = CHAT.stop_id


def said(text: str, *, is_cut: bool = False) -> Sample:
    token_ids = ids(text) if is_cut else (*ids(text), END_ID)
    logp = tuple(-0.1 * (t + 1) for t in range(len(token_ids)))
    return Sample(token_ids, logp, "length" if is_cut else "stop")


@dataclass(frozen=True)
class Heard:
    """What the generator asked for on its way."""

    prompts: list[AskPolicy]
    conversations: list[Conversation]
    played: Played


def played(
    samples: list[Sample],
    replies: list[Reply],
    limits: Limits = LIMITS,
    start: Conversation | Prefix = OPENING,
) -> Heard:
    """Feeds a dialogue until it ends; a sample longer than asked for is cut as a sampler would."""
    speech, prompts, conversations = dialogue(start, CHAT, limits), [], []
    samples, replies = list(samples), list(replies)
    ask = next(speech)
    while True:
        answer: Sample | Reply
        if isinstance(ask, AskPolicy):
            prompts.append(ask)
            answer = cut(samples.pop(0), ask.max_new_tokens)
        else:
            assert isinstance(ask, AskUser)
            conversations.append(ask.conversation)
            answer = replies.pop(0)
        try:
            ask = speech.send(answer)
        except StopIteration as end:
            return Heard(prompts, conversations, end.value)


def cut(sample: Sample, room: int) -> Sample:
    if len(sample.token_ids) <= room:
        return sample
    return Sample(sample.token_ids[:room], sample.logp[:room], "length")


@composite
def speeches(draw: DrawFn) -> tuple[list[Sample], list[Reply], Limits]:
    limits = Limits(draw(integers(1, 4)), draw(integers(1, 5)), draw(integers(5, 40)))
    samples, replies = [], []
    for _ in range(limits.max_turns):
        text = " ".join(draw(lists(sampled_from(WORDS), min_size=1, max_size=5)))
        samples.append(said(text, is_cut=draw(booleans())))
        ending = draw(sampled_from([None, None, None, *Ending]))
        word = " ".join(draw(lists(sampled_from(WORDS), min_size=1, max_size=3)))
        message = Message("user", word) if ending is None or draw(booleans()) else None
        replies.append(Reply(message, ending))
    return samples, replies, limits


@settings(deadline=None)
@given(speech=speeches())
def test_nothing_is_sampled_and_thrown_away(
    speech: tuple[list[Sample], list[Reply], Limits],
) -> None:
    samples, replies, limits = speech
    heard = played(samples, replies, limits)
    result = heard.played
    assert len(result.turns) == len(heard.prompts) == len(heard.conversations)
    for ask, sample, turn in zip(heard.prompts, samples, result.turns, strict=False):
        kept = cut(sample, ask.max_new_tokens)
        assert result.token_ids[turn.start : turn.stop] == kept.token_ids
        assert (turn.logp_behaviour, turn.stop_reason) == (kept.logp, kept.stop_reason)
        # What the policy was shown is what stands before its words: ids only ever grow at the end.
        assert ask.prompt_ids == result.token_ids[: turn.start]
    assert result.token_ids[: len(CHAT.opening(OPENING))] == CHAT.opening(OPENING)
    assert answers(result.conversation) == [
        CHAT.text(result.token_ids[turn.start : turn.stop]) for turn in result.turns
    ]


@settings(deadline=None)
@given(speech=speeches())
def test_no_limit_is_passed(speech: tuple[list[Sample], list[Reply], Limits]) -> None:
    samples, replies, limits = speech
    heard = played(samples, replies, limits)
    assert 1 <= len(heard.played.turns) <= limits.max_turns
    assert len(heard.played.token_ids) <= limits.max_conversation_tokens
    for ask in heard.prompts:
        room = limits.max_conversation_tokens - len(ask.prompt_ids)
        assert 1 <= ask.max_new_tokens == min(limits.max_turn_tokens, room)


@settings(deadline=None)
@given(speech=speeches())
def test_feedback_is_the_body_of_the_reply_a_turn_caused(
    speech: tuple[list[Sample], list[Reply], Limits],
) -> None:
    samples, replies, limits = speech
    result = played(samples, replies, limits).played
    assert result.turns[-1].feedback == ()
    for turn, reply in zip(result.turns[:-1], replies, strict=False):
        [(start, stop)] = turn.feedback
        assert reply.message is not None
        assert TOKENIZER.decode(list(result.token_ids[start:stop])) == reply.message.content
        assert turn.stop <= start


def test_a_dialogue_is_the_templates_own_rendering() -> None:
    result = played([said("yes"), said("no bye")], [GO, Reply(ending=Ending.TASK_DONE)]).played
    whole = "<|user|>hello<|end|><|assistant|>yes<|end|><|user|>go<|end|><|assistant|>no bye<|end|>"
    assert result.token_ids == ids(whole)
    assert result.ending is Ending.TASK_DONE


def test_a_cut_message_is_kept_and_closed_for_the_reader_alone() -> None:
    limits = replace(LIMITS, max_turn_tokens=1)
    samples = [said("yes yes"), said("no no")]
    result = played(samples, [GO, Reply(ending=Ending.FAREWELL)], limits).played
    whole = "<|user|>hello<|end|><|assistant|>yes<|end|><|user|>go<|end|><|assistant|>no"
    assert result.token_ids == ids(whole)
    first, second = result.turns
    assert (first.stop - first.start, first.stop_reason) == (1, "length")  # without its <|end|>
    assert (second.stop - second.start, second.stop_reason) == (1, "length")


def test_at_the_turn_limit_the_user_is_still_heard() -> None:
    limits = replace(LIMITS, max_turns=1)
    heard = played([said("yes")], [Reply(ending=Ending.TASK_DONE)], limits)
    assert heard.played.ending is Ending.TASK_DONE
    unheard = played([said("yes")], [GO], limits).played
    assert unheard.ending is Ending.TURN_LIMIT
    assert unheard.conversation[-1] == Message("assistant", "yes")  # nobody would answer the reply


def test_a_last_word_is_told_but_costs_no_tokens() -> None:
    bye = Message("user", "bye")
    result = played([said("yes")], [Reply(bye, Ending.FAREWELL)]).played
    assert result.conversation[-1] == bye
    assert len(result.token_ids) == result.turns[-1].stop


@pytest.mark.parametrize(
    ("budget", "ending", "turns"),
    [
        # Opening 4, answer 2, reply with its markup 4: an eleventh token is the first of turn 2.
        (11, Ending.TURN_LIMIT, 2),
        (10, Ending.TOKEN_LIMIT, 1),
        (6, Ending.TOKEN_LIMIT, 1),
        (5, Ending.TOKEN_LIMIT, 1),
    ],
)
def test_a_dialogue_ends_where_no_answer_to_the_reply_would_fit(
    budget: int, ending: Ending, turns: int
) -> None:
    limits = Limits(max_turns=2, max_turn_tokens=3, max_conversation_tokens=budget)
    result = played([said("yes"), said("yes")], [GO, GO], limits).played
    assert (result.ending, len(result.turns)) == (ending, turns)
    assert result.conversation[-1].role == "assistant"


@pytest.mark.parametrize("budget", [1, 4])
def test_an_opening_that_leaves_no_room_is_refused(budget: int) -> None:
    limits = replace(LIMITS, max_conversation_tokens=budget)
    with pytest.raises(BudgetError, match=f"4 tokens .* at most {budget}; raise rollout.max"):
        next(dialogue(OPENING, CHAT, limits))


def test_a_failing_speaker_ends_the_dialogue_with_what_was_said() -> None:
    result = played([said("yes"), said("no")], [GO, Reply(ending=Ending.SPEAKER_FAILED)]).played
    assert result.ending is Ending.SPEAKER_FAILED
    assert answers(result.conversation) == ["yes", "no"]
