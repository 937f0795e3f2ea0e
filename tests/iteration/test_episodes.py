"""From logged conversations to rows: which tokens, which returns, which folds, which prompts."""

import hashlib
import hmac
import math
from dataclasses import replace
from itertools import pairwise

import pytest

from tests.iteration.logged import heard, logged, said, settings, three_turns
from tests.tokens.templates import TOKENIZERS, byte_level
from turnwise.conversation import (
    Consent,
    Exploration,
    LoggedConversation,
    Message,
    PolicyFacts,
    Step,
)
from turnwise.conversation.messages import ToolCall
from turnwise.errors import LogsError, OneOutcomeError, OutcomeError
from turnwise.iteration.config import IterateConfig
from turnwise.iteration.episodes import (
    Episode,
    build_episodes,
    check_disjoint,
    check_outcomes,
    prompts_of,
)
from turnwise.iteration.folds import early_stop_customers, fold_of, poisson_weight
from turnwise.tokens import ChatFormat, tokenise

CHAT = ChatFormat(TOKENIZERS["tiny"])
WITH_TOOLS = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "{% for call in message.get('tool_calls', []) %}"
    "<call>{{ call['function']['name'] }} {{ call['function']['arguments'] }}</call>"
    "{% endfor %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WITHOUT_OLD_THINKING = (
    "{% for message in messages %}"
    "{% set content = message['content'] if loop.last else "
    "message['content'].split('</think>')[-1].lstrip('\n') %}"
    "<|im_start|>{{ message['role'] }}\n{{ content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def built(
    *conversations: LoggedConversation,
    chat: ChatFormat = CHAT,
    config: IterateConfig | None = None,
    version: str | None = "v1",
) -> tuple[list[Episode], dict[str, float]]:
    return build_episodes(conversations, chat, config or settings(), round=0, version=version)


def replies(episode: Episode, chat: ChatFormat = CHAT) -> list[str]:
    ids = episode.trajectory.token_ids
    return [chat.text(ids[turn.start : turn.stop]) for turn in episode.trajectory.turns]


def test_a_conversation_is_one_row_with_the_tokens_of_a_dialogue() -> None:
    conversation = three_turns()
    (episode,), facts = built(conversation)
    tokens = tokenise(conversation.conversation, CHAT)
    assert episode.trajectory.token_ids == tokens.token_ids
    assert tuple((t.start, t.stop) for t in episode.trajectory.turns) == tokens.turns
    assert all(turn.stop_reason == "stop" for turn in episode.trajectory.turns)
    assert (episode.turn_index, episode.is_last) == ((0, 1, 2), (False, False, True))
    assert (facts["conversations"], facts["steps"], facts["rows"]) == (1, 3, 1)


def test_what_comes_after_the_last_reply_is_in_no_row() -> None:
    (episode,), _ = built(logged(heard("a"), said("bye"), heard("and more")))
    assert episode.trajectory.token_ids[-1] == CHAT.stop_id
    assert episode.trajectory.conversation[-1] == Message("assistant", "bye")


def test_served_ids_are_kept_exactly() -> None:
    chat = ChatFormat(TOKENIZERS["chatml"])
    ids = tuple(i for letter in "friday" for i in chat.encode(letter))  # not how it is encoded
    assert chat.text(ids) == "friday" and chat.encode("friday") != ids
    step = said("friday", token_ids=(*ids, chat.stop_id), token_logp=(-0.5,) * 7)
    (episode,), facts = built(logged(heard("a"), step, heard("b"), said("bye")), chat=chat)
    turn = episode.trajectory.turns[0]
    assert episode.trajectory.token_ids[turn.start : turn.stop] == (*ids, chat.stop_id)
    assert turn.logp_behaviour == (-0.5,) * 7
    assert facts["served_ids"] == 1


def test_an_end_token_that_the_engine_dropped_is_part_of_the_reply() -> None:
    ids = CHAT.encode("friday")
    for finish, expected in (("stop", (*ids, CHAT.stop_id)), ("length", ids)):
        step = said("friday", token_ids=ids, policy=PolicyFacts("v1", finish=finish))
        (episode,), _ = built(logged(heard("a"), step))
        turn = episode.trajectory.turns[0]
        assert episode.trajectory.token_ids[turn.start :] == expected
        assert turn.stop_reason == finish


def test_served_ids_that_say_something_else_are_counted_and_not_used() -> None:
    """Of another vocabulary, or with thinking that nobody saw."""
    step = said("friday", token_ids=(*CHAT.encode("hidden friday"), CHAT.stop_id))
    (episode,), facts = built(logged(heard("a"), step))
    assert replies(episode) == ["friday"]
    assert facts["foreign_ids"] == 1


def test_a_reply_that_was_cut_has_no_end_token_and_the_next_prompt_has_it() -> None:
    cut = said("friday please", policy=PolicyFacts("v1", finish="length"))
    (episode,), _ = built(logged(heard("a"), cut, heard("b"), said("bye")))
    first, second = episode.trajectory.turns
    assert (first.stop_reason, second.stop_reason) == ("length", "stop")
    assert episode.trajectory.token_ids[first.stop] == CHAT.stop_id


@pytest.mark.parametrize(
    ("reason", "steps"),
    [
        ("adjacent_replies", (heard("a"), said("one"), said("two"))),
        ("proposed", (heard("a"), said("sent", proposed="one"), heard("b"), said("two"))),
        (
            "context",
            (heard("a"), said("one", context=(Message("user", "x"),)), heard("b"), said("two")),
        ),
    ],
)
def test_states_that_are_no_prefixes_have_a_row_for_each_step(
    reason: str, steps: tuple[Step, ...]
) -> None:
    episodes, facts = built(logged(*steps))
    assert [episode.turn_index for episode in episodes] == [(0,), (1,)]
    assert [replies(episode) for episode in episodes] == [["one"], ["two"]]
    assert [episode.is_last for episode in episodes] == [(False,), (True,)]
    assert facts[f"one_row_per_step/{reason}"] == 1
    for episode in episodes:
        assert episode.num_steps == 2
        assert episode.trajectory.message_of_turn == [len(episode.trajectory.conversation) - 1]


def test_a_greeting_has_no_state_before_it_and_is_left_out() -> None:
    (episode,), facts = built(logged(said("hello"), heard("a"), said("two")))
    assert episode.turn_index == (1,) and replies(episode) == ["two"]
    assert facts["one_row_per_step/opens_with_reply"] == facts["left_out/nothing_before"] == 1


def test_the_state_goes_on_with_what_was_sent_not_with_what_was_proposed() -> None:
    sent = said("wait", proposed="friday")
    (_, second), _ = built(logged(heard("a"), sent, heard("b"), said("bye")))
    prompt = second.trajectory.token_ids[: second.trajectory.turns[0].start]
    assert prompt == CHAT.opening(
        (Message("user", "a"), Message("assistant", "wait"), Message("user", "b"))
    )


def test_a_context_is_the_exact_prompt() -> None:
    context = (Message("system", "you are a clerk"), Message("user", "day ?"))
    (first, _), _ = built(logged(heard("a"), said("one", context=context), heard("b"), said("two")))
    start = first.trajectory.turns[0].start
    assert first.trajectory.token_ids[:start] == CHAT.opening(context)


def test_an_abstention_is_an_empty_reply_with_its_end_token() -> None:
    step = said("sent by hand", author="human", disposition="abstained")
    (episode,), _ = built(logged(heard("a"), step))
    turn = episode.trajectory.turns[0]
    assert episode.trajectory.token_ids[turn.start :] == (CHAT.stop_id,)
    assert episode.trains_q == (True,) and episode.is_human == (False,)


def test_a_tool_call_is_a_reply_as_the_template_shows_it() -> None:
    chat = ChatFormat(byte_level(WITH_TOOLS))
    call = said("", tool_calls=(ToolCall("t1", "look_up", '{"day": 5}'),))
    answer = Step("tool", "free", tool_call_id="t1")
    episodes, facts = built(logged(heard("a"), call, answer, said("bye")), chat=chat)
    assert replies(episodes[0], chat) == ['<call>look_up {"day": 5}</call>']
    assert replies(episodes[1], chat) == ["bye"]
    assert "look_up" in chat.text(episodes[1].trajectory.token_ids)
    assert facts["one_row_per_step/tool_calls"] == 1


def test_a_tool_call_that_the_template_leaves_out_is_no_row_and_is_counted() -> None:
    call = said("", tool_calls=(ToolCall("t1", "look_up", "{}"),))
    answer = Step("tool", "free", tool_call_id="t1")
    (episode,), facts = built(logged(heard("a"), call, answer, said("bye")))
    assert episode.turn_index == (1,)
    assert facts["left_out/not_in_template"] == 1


def test_thinking_that_the_template_drops_parts_the_conversation() -> None:
    chat = ChatFormat(byte_level(WITHOUT_OLD_THINKING))
    thought = "<think>\nx\n</think>\n\none"
    plain, facts = built(logged(heard("a"), said("one"), heard("b"), said("two")), chat=chat)
    assert len(plain) == 1 and "one_row_per_step/thinking" not in facts
    apart, facts = built(logged(heard("a"), said(thought), heard("b"), said("two")), chat=chat)
    assert facts["one_row_per_step/thinking"] == 1
    assert "<think>" in replies(apart[0], chat)[0]
    assert "<think>" not in chat.text(apart[1].trajectory.token_ids)


def test_steps_beyond_the_context_are_left_out_and_counted() -> None:
    (whole,), _ = built(three_turns())
    first, second, _ = whole.trajectory.turns
    fits = settings({"rollout": {"max_conversation_tokens": second.stop}})
    (cut,), facts = built(three_turns(), config=fits)
    assert cut.turn_index == (0, 1) and cut.is_last == (False, False)
    assert cut.trajectory.token_ids == whole.trajectory.token_ids[: second.stop]
    assert cut.mc_return == (1.0, 1.0) and cut.num_steps == 3
    assert facts["left_out/context_overflow"] == 1
    nothing = settings({"rollout": {"max_conversation_tokens": first.stop - 1}})
    assert built(three_turns(), config=nothing)[0] == []


def test_the_outcome_is_paid_on_the_last_step_and_discounted_by_turns() -> None:
    """r = (0, 0, 1), γ .9: G = (.81, .9, 1)."""
    (episode,), _ = built(three_turns(), config=settings(turn_discount=0.9))
    assert episode.reward == (0.0, 0.0, 1.0)
    assert episode.mc_return == pytest.approx((0.81, 0.9, 1.0))


def test_violations_cost_where_they_happen_and_those_of_the_whole_at_the_end() -> None:
    """λ .1: rewards (0 − .2, 0, 1 − .1)."""
    rude = said("friday .", violations={"rude": 1.0, "false": 1.0})
    conversation = three_turns(violations={"late": 1.0})
    steps = (conversation.steps[0], rude, *conversation.steps[2:])
    (episode,), _ = built(replace(conversation, steps=steps), config=settings(violation_weight=0.1))
    assert episode.reward == pytest.approx((-0.2, 0.0, 0.9))
    assert episode.mc_return == pytest.approx((0.7, 0.9, 0.9))


def test_a_return_outside_the_range_is_named_and_never_clipped() -> None:
    with pytest.raises(OutcomeError, match=r"conversation c1, decision step 0: .*\[0, 1\], found"):
        built(three_turns(outcome=1.5))
    wide = settings({"q": {"return_high": 2.0}})
    assert built(three_turns(outcome=1.5), config=wide)[0][0].mc_return == (1.5, 1.5, 1.5)


def test_a_censored_conversation_has_no_return_and_is_still_a_row() -> None:
    (episode,), facts = built(three_turns(outcome=None))
    assert episode.is_censored and episode.outcome is None
    assert episode.has_mc == (False,) * 3
    assert math.isnan(episode.reward[-1]) and episode.reward[:2] == (0.0, 0.0)
    assert facts["censored_share"] == 1.0


def test_returns_count_where_the_policy_alone_spoke_afterwards() -> None:
    deviated = said("bye", explore=Exploration(True, "hot", 0.1))
    other = said("bye", policy=PolicyFacts("v0"))
    by_hand = said("bye", author="human", policy=None)
    for step in (deviated, other, by_hand):
        (episode,), _ = built(
            logged(heard("a"), said("x"), heard("b"), step, heard("c"), said("y"))
        )
        assert episode.has_mc == (False, True, True)
    edited = said("sent", proposed="mine", disposition="edited", author="human")
    rows, _ = built(logged(heard("a"), said("x"), heard("b"), edited))
    assert [row.has_mc for row in rows] == [(True,), (True,)]


def test_what_trains_q_was_written_by_a_model_of_known_version() -> None:
    by_hand = said("bye", author="human")
    nameless, weightless = said("bye", policy=None), said("bye", is_scored=False)
    for step, trains in ((by_hand, False), (nameless, False), (weightless, False)):
        (episode,), _ = built(logged(heard("a"), said("x"), heard("b"), step))
        assert episode.trains_q == (True, trains)
        assert episode.is_human == (False, step is by_hand)


def test_a_changed_reply_whose_proposal_is_unknown_is_the_persons() -> None:
    sent = said("sent", disposition="edited")
    as_it_was = said("sent", author="human", disposition="verbatim")
    for step, is_human in ((sent, True), (as_it_was, False)):
        (episode,), _ = built(logged(heard("a"), said("x"), heard("b"), step))
        assert episode.is_human == (False, is_human)
        assert episode.trains_q == (True, not is_human)


def test_logs_of_whoever_wrote_them_need_no_version() -> None:
    mixed = (said("x", policy=None), heard("b"), said("y", policy=PolicyFacts("v9")))
    (episode,), facts = built(logged(heard("a"), *mixed), version=None)
    assert episode.trains_q == episode.has_mc == (True, True)
    assert episode.version == (None, "v9")
    assert facts["unknown_version"] == 1


def test_a_refusal_of_consent_is_refused_again() -> None:
    with pytest.raises(LogsError, match="c1: consent_refused"):
        built(three_turns(consent=Consent(training=False)))
    assert built(three_turns(consent=Consent(training=None)))[0]


def test_a_conversation_without_a_decision_step_is_refused() -> None:
    with pytest.raises(LogsError, match="c1: no_decision_step"):
        built(logged(heard("a")))


def test_one_outcome_is_nothing_to_fit_but_its_prompts_may_be_exported() -> None:
    alike = [three_turns(name=f"c{i}") for i in range(3)] + [three_turns(name="d", outcome=None)]
    episodes, _ = built(*alike)
    with pytest.raises(OneOutcomeError, match="expected both outcomes, found 3 × 1"):
        check_outcomes(episodes)
    with pytest.raises(OneOutcomeError, match="found none known"):
        check_outcomes([episodes[-1]])
    assert len(prompts_of(episodes, discount=1.0)) == 12
    check_outcomes(built(*alike, three_turns(name="e", outcome=0.0))[0])


def test_every_step_is_a_prompt_weighted_by_its_visits() -> None:
    by_hand = said("bye", author="human")
    conversations = (three_turns(), logged(heard("a"), by_hand, name="c2", outcome=None))
    episodes, _ = built(*conversations)
    prompts = prompts_of(episodes, discount=0.9)
    assert [p.weight for p in prompts] == pytest.approx([1, 0.9, 0.81, 1])
    assert [(p.conversation_id, p.turn_index) for p in prompts] == [
        ("c1", 0), ("c1", 1), ("c1", 2), ("c2", 0),
    ]  # fmt: skip
    assert prompts[3].token_ids == CHAT.opening((Message("user", "a"),))
    shares = prompts_of(episodes, discount=0.9, weighting="per_conversation")
    assert [p.weight for p in shares] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])
    for before, after in pairwise(prompts[:3]):
        assert after.token_ids[: len(before.token_ids)] == before.token_ids


def test_folds_are_a_keyed_function_of_the_customer_alone() -> None:
    digest = hmac.new(b"salt", b"hmac:9f", hashlib.sha256).digest()
    assert fold_of("hmac:9f", "salt") == int.from_bytes(digest, "big") % 2
    names = [f"customer-{i}" for i in range(400)]
    assert abs(sum(fold_of(name, "salt") for name in names) - 200) < 50
    assert [fold_of(n, "salt") for n in names] != [fold_of(n, "other") for n in names]


def test_folds_survive_permutation_and_new_rounds() -> None:
    first = [three_turns(name=f"c{i}", customer_key=f"hmac:{i % 20}") for i in range(40)]
    later = [three_turns(name=f"d{i}", customer_key=f"hmac:{i}") for i in range(30)]
    before = {e.customer: e.fold for e in built(*first)[0]}
    after = {e.customer: e.fold for e in built(*reversed(first), *later)[0]}
    assert before.items() <= after.items()
    assert set(before.values()) == {0, 1}


def test_customers_that_stop_a_fit_are_a_share_of_all_and_never_all() -> None:
    names = [f"c{i}" for i in range(50)]
    chosen = early_stop_customers(names, 0.1, 7)
    assert len(chosen) == 5 and chosen == early_stop_customers(reversed(names), 0.1, 7)
    assert chosen != early_stop_customers(names, 0.1, 8)
    assert len(early_stop_customers(["a", "b"], 1.0)) == 1
    assert early_stop_customers(["a"], 0.1) == early_stop_customers(names, 0.0) == set()


def test_heads_see_a_customer_once_on_average_and_apart() -> None:
    """Poisson(1): mean 1, variance 1, P(0) = .368; 4 standard errors of 4,000 draws."""
    counts = [poisson_weight(f"c{i}", 0, 3) for i in range(4000)]
    mean = sum(counts) / 4000
    assert abs(mean - 1) < 0.064
    assert abs(sum((c - mean) ** 2 for c in counts) / 4000 - 1) < 0.11
    assert abs(counts.count(0) / 4000 - math.exp(-1)) < 0.031
    assert counts != [poisson_weight(f"c{i}", 1, 3) for i in range(4000)]


def test_a_customer_on_both_sides_of_a_split_is_named() -> None:
    with pytest.raises(LogsError, match=r"customer_in_both_splits: .* found 2 .*\(first b\)"):
        check_disjoint(["a", "b", "c"], ["c", "b", "d"], ("train", "test"))
    check_disjoint(["a"], ["b"], ("train", "test"))
