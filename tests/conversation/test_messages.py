"""Conversations survive the way to other libraries and back; what is no conversation is named."""

import json
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis.strategies import (
    SearchStrategy,
    builds,
    lists,
    none,
    sampled_from,
    text,
)

from turnwise.conversation import Conversation, Message, Role, ToolCall
from turnwise.conversation.messages import from_openai, from_trl, to_openai, to_trl
from turnwise.errors import ConfigError

ROLES: tuple[Role, ...] = get_args(Role)
calls = builds(ToolCall, text(), text(), text())
messages = builds(
    Message,
    role=sampled_from(ROLES),
    content=text(),
    name=none() | text(),
    tool_calls=lists(calls, max_size=2).map(tuple),
    tool_call_id=none() | text(),
)
conversations: SearchStrategy[Conversation] = lists(messages, max_size=6).map(tuple)


@settings(deadline=None)
@given(conversation=conversations)
def test_openai_messages_survive_the_round_trip_and_json(conversation: Conversation) -> None:
    shaped = to_openai(conversation)
    assert from_openai(shaped) == conversation
    assert from_openai(json.loads(json.dumps(shaped))) == conversation


@settings(deadline=None)
@given(conversation=conversations)
def test_trl_columns_survive_the_round_trip(conversation: Conversation) -> None:
    row = to_trl(conversation)
    assert from_trl(row) == conversation
    assert from_trl({"messages": to_openai(conversation)}) == conversation


@settings(deadline=None)
@given(conversation=conversations)
def test_the_prompt_ends_where_the_assistant_first_speaks(conversation: Conversation) -> None:
    row = to_trl(conversation)
    prompt, completion = row["prompt"], row["completion"]
    assert isinstance(prompt, list) and isinstance(completion, list)
    assert all(message["role"] != "assistant" for message in prompt)
    assert not completion or completion[0]["role"] == "assistant"


def test_a_tool_dialogue_has_openais_shape() -> None:
    call = ToolCall("call_1", "price", '{"item": "tea"}')
    conversation = (
        Message("user", "how much?", name="ann"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "3", tool_call_id="call_1"),
    )
    asked, called, told = to_openai(conversation)
    assert asked == {"role": "user", "content": "how much?", "name": "ann"}
    function = {"name": "price", "arguments": '{"item": "tea"}'}
    assert called["tool_calls"] == [{"id": "call_1", "type": "function", "function": function}]
    assert told == {"role": "tool", "content": "3", "tool_call_id": "call_1"}
    # OpenAI itself writes null beside tool calls.
    assert from_openai([asked, {**called, "content": None}, told]) == conversation


@pytest.mark.parametrize(
    ("message", "part"),
    [
        ({"content": "a"}, "role"),
        ({"role": "human", "content": "a"}, "'human'"),
        ({"role": "user"}, "found None"),
        ({"role": "user", "content": None}, "found None"),
        ({"role": "user", "content": 42}, "found 42"),
        ({"role": "user", "content": [{"type": "text", "text": "a"}]}, "text as content"),
        ({"role": "user", "content": "a", "name": 1}, "text as name"),
        ({"role": "tool", "content": "a", "tool_call_id": 1}, "tool_call_id"),
        ({"role": "assistant", "content": "a", "tool_calls": "x"}, "list of tool_calls"),
        ({"role": "assistant", "content": "a", "tool_calls": [{"id": "x"}]}, "function.name"),
        (
            {"role": "assistant", "content": "", "tool_calls": [{"id": 1, "function": {}}]},
            "function.arguments",
        ),
    ],
)
def test_what_is_no_message_is_refused_with_its_position(
    message: dict[str, object], part: str
) -> None:
    with pytest.raises(ConfigError, match="message 1: ") as caught:
        from_openai([{"role": "user", "content": "fine"}, message])
    assert part in str(caught.value)


@pytest.mark.parametrize("content", [42, True, None, ["a"]])
def test_a_number_never_becomes_a_message(content: object) -> None:
    row: dict[str, object] = {"role": "user", "content": content}
    with pytest.raises(ConfigError, match="content is text"):
        Message(**row)  # type: ignore[arg-type] # what an untyped caller would do


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(ConfigError, match="'human'"):
        Message("human", "a")  # type: ignore[arg-type] # what an untyped caller would do


@pytest.mark.parametrize(
    ("row", "part"),
    [
        ({"text": "a"}, "['text']"),
        ({"prompt": []}, "['prompt']"),
        ({"messages": "a"}, "found str"),
        ({"prompt": [], "completion": "a"}, "found str"),
    ],
)
def test_a_row_of_other_columns_is_refused(row: dict[str, object], part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_trl(row)
    assert part in str(caught.value)
