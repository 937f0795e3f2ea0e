"""OpenAI, ShareGPT, TRL and the canonical record: one conversation a row."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.logs.readers.reading import assistant, jsonl, read, read_one, refused, said, user
from turnwise.conversation import (
    Consent,
    Conversation,
    EndReason,
    Exploration,
    LoggedConversation,
    LoggedOutcome,
    Message,
    Origin,
    PolicyFacts,
    Redaction,
    Step,
    ToolCall,
)
from turnwise.conversation.messages import to_openai, to_trl
from turnwise.logs.options import ReaderOptions
from turnwise.records.logs import write_logged, write_logged_jsonl


def test_openai_content_may_be_a_list_of_parts(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Hello "}, {"type": "text", "text": "there"}, "!"]
    thought = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Good day."}]
    row = {"messages": [user("x") | {"content": parts}, assistant("x") | {"content": thought}]}
    found = read_one(jsonl(tmp_path, row))
    assert said(found.steps) == [("user", "Hello there!"), ("assistant", "Good day.")]


def test_a_message_of_weight_zero_is_no_scored_step(tmp_path: Path) -> None:
    messages = [user("a"), {**assistant("b"), "weight": 0}, {**assistant("c"), "weight": 1}]
    found = read_one(jsonl(tmp_path, {"messages": messages}))
    assert [step.is_scored for step in found.steps] == [True, False, True]


def test_adjacent_messages_of_one_speaker_stay_apart(tmp_path: Path) -> None:
    messages = [user("a"), user("b"), assistant("c"), assistant("d")]
    assert len(read_one(jsonl(tmp_path, {"messages": messages})).steps) == 4


def test_older_roles_and_calls_of_openai_are_read(tmp_path: Path) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        user("Weather?"),
        {
            "role": "assistant",
            "content": None,
            "function_call": {"name": "weather", "arguments": '{"c": 1}'},
        },
        {"role": "function", "name": "weather", "content": "Sun."},
        assistant("Sun."),
    ]
    found = read_one(jsonl(tmp_path, {"messages": messages}))
    assert [step.role for step in found.steps] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert found.steps[2].tool_calls == (ToolCall("call_2", "weather", '{"c": 1}'),)


def test_a_list_of_messages_alone_is_a_conversation(tmp_path: Path) -> None:
    found = read(jsonl(tmp_path, [user("a"), assistant("b")], [user("c"), assistant("d")]))
    assert [said(one.steps)[0] for one in found] == [("user", "a"), ("user", "c")]


def test_sharegpt_names_its_speakers_otherwise(tmp_path: Path) -> None:
    row = {
        "id": "QWJ_0",
        "conversations": [
            {"from": "gpt", "value": "Hello."},
            {"from": "human", "value": "<b>Weather</b> &amp; wind?"},
            {"from": "function_call", "value": '{"name": "weather", "arguments": {"c": 1}}'},
            {"from": "observation", "value": "Sun."},
            {"from": "gpt", "value": "<p>Sun.</p>"},
        ],
    }
    found = read_one(jsonl(tmp_path, row))
    assert found.conversation_id == "QWJ_0"
    assert said(found.steps) == [
        ("assistant", "Hello."),
        ("user", "<b>Weather</b> &amp; wind?"),
        ("assistant", ""),
        ("tool", "Sun."),
        ("assistant", "<p>Sun.</p>"),
    ]
    assert found.steps[2].tool_calls == (ToolCall("call_2", "weather", '{"c": 1}'),)
    assert found.steps[3].tool_call_id == "call_2"


def test_a_sharegpt_array_is_read_too(tmp_path: Path) -> None:
    rows = [{"conversations": [{"from": "user", "value": "a"}, {"from": "gpt", "value": "b"}]}] * 2
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=2))
    assert len(read(tmp_path / "a.json")) == 2


def test_trl_prompts_are_history_and_completions_decisions(tmp_path: Path) -> None:
    row = {
        "prompt": [user("a"), assistant("b"), user("c")],
        "completion": [assistant("d")],
        "label": True,
    }
    found = read_one(jsonl(tmp_path, row))
    assert [step.is_scored for step in found.steps] == [True, False, True, True]
    assert found.outcome == LoggedOutcome("label", 1.0) and found.end_reason is EndReason.OUTCOME


def test_trl_columns_may_hold_text(tmp_path: Path) -> None:
    found = read_one(jsonl(tmp_path, {"prompt": "a", "completion": "b", "label": False}))
    assert said(found.steps) == [("user", "a"), ("assistant", "b")]
    assert found.outcome is not None and found.outcome.value == 0


def test_turn_rewards_stand_on_the_turns_of_the_completion(tmp_path: Path) -> None:
    row = {
        "prompt": [assistant("a"), user("b")],
        "completion": [assistant("c"), user("d"), assistant("e")],
        "turn_rewards": [0.5, -1],
    }
    found = read_one(jsonl(tmp_path, row))
    assert [step.reward for step in found.steps] == [0, 0, 0.5, 0, -1]
    assert found.outcome is None and found.end_reason is EndReason.CENSORED
    wrong = refused(jsonl(tmp_path, {**row, "turn_rewards": [1]}))
    assert (wrong.code, wrong.field, wrong.found) == ("missing_field", "turn_rewards", "1")


def test_turn_rewards_may_stand_beside_messages(tmp_path: Path) -> None:
    row = {"messages": [user("a"), assistant("b")], "turn_rewards": [0.5]}
    assert [step.reward for step in read_one(jsonl(tmp_path, row)).steps] == [0, 0.5]


def test_a_prompt_that_looks_like_json_stays_what_was_said(tmp_path: Path) -> None:
    found = read_one(jsonl(tmp_path, {"prompt": "[3, 1]", "completion": '{"sorted": [1, 3]}'}))
    assert said(found.steps) == [("user", "[3, 1]"), ("assistant", '{"sorted": [1, 3]}')]


def test_pairs_carry_no_return(tmp_path: Path) -> None:
    found = refused(jsonl(tmp_path, {"chosen": [assistant("a")], "rejected": [assistant("b")]}))
    assert found.code == "missing_field" and "pairs carry no return" in found.reason


def test_an_unknown_shape_says_which_keys_it_has(tmp_path: Path) -> None:
    found = refused(jsonl(tmp_path, {"dialog": [], "id": 1}))
    assert (found.code, found.line) == ("unknown_format", None)
    assert found.reason == (
        "expected one of turnwise, trl, openai, sharegpt, langsmith, otel, langfuse, table, "
        "trajectories, found the keys {dialog, id}; name it with --format"
    )


def test_a_named_format_is_not_sniffed(tmp_path: Path) -> None:
    file = jsonl(tmp_path, {"dialog": [user("a"), assistant("b")]})
    options = ReaderOptions(format="openai", columns={"messages": "dialog"})
    assert said(read_one(file, options).steps) == [("user", "a"), ("assistant", "b")]


# The canonical record

AT = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)
FULL = LoggedConversation(
    conversation_id="c_9",
    steps=(
        Step("system", "Sell.", ts=AT, name="shop"),
        Step("user", "Grüße 🎈"),
        Step(
            "assistant",
            "",
            tool_calls=(ToolCall("t1", "stock", '{"a":1}'),),
            author="model",
            policy=PolicyFacts("v1", "w", "t", 1.0, 0.9, 64, "tool_calls"),
        ),
        Step("tool", "3", tool_call_id="t1"),
        Step(
            "assistant",
            "Take it.",
            ts=AT,
            author="human",
            disposition="edited",
            proposed="Buy it!",
            reward=-0.25,
            violations={"pushy": 1.0},
            context=(Message("user", "short"), Message("assistant", ""), Message("user", "?")),
            policy=PolicyFacts("v1"),
            explore=Exploration(True, "warm", 0.25),
            logp_sum=-3.5,
            token_ids=(5, 6),
            token_logp=(-1.5, -2.0),
            is_scored=False,
        ),
    ),
    end_reason=EndReason.TIMEOUT,
    outcome=LoggedOutcome("sale", 1.0, AT, 48.0, "crm", 0.75),
    customer_key="hmac:1f",
    tenant="shop",
    language="de",
    started_at=AT,
    ended_at=AT,
    violations={"rude": 0.5},
    consent=Consent(True, "contract", AT),
    redaction=Redaction("regex", "1", "m"),
    origin=Origin("elsewhere.jsonl", 7, "openai"),
)


def test_a_canonical_record_reads_back_as_it_was_written(tmp_path: Path) -> None:
    bare = LoggedConversation("c", (Step("assistant", "a"),), EndReason.CENSORED)
    placed = replace(bare, origin=Origin((tmp_path / "a.parquet").as_posix(), 2, "turnwise"))
    write_logged(tmp_path / "a.parquet", [FULL, bare])
    assert read(tmp_path / "a.parquet") == [FULL, placed]
    write_logged_jsonl(tmp_path / "a.jsonl", [FULL, FULL])
    assert read(tmp_path / "a.jsonl") == [FULL, FULL]


def test_another_version_of_the_record_is_refused(tmp_path: Path) -> None:
    write_logged_jsonl(tmp_path / "a.jsonl", [FULL])
    text = (tmp_path / "a.jsonl").read_text().replace("turnwise.log/1", "turnwise.log/2")
    (tmp_path / "b.jsonl").write_text(text)
    found = refused(tmp_path / "b.jsonl")
    assert found.code == "unknown_format" and "found 'turnwise.log/2'" in found.reason


# Written in a format and read back

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(str.strip)
calls = st.builds(ToolCall, st.just("t"), words, st.sampled_from(["{}", '{"a": [1, "é"]}']))


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    out = [Message("system", draw(words))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 4))):
        out += [Message("user", text) for text in draw(st.lists(words, max_size=2))]
        if draw(st.booleans()):
            call = replace(draw(calls), id=f"call_{len(out)}")
            out += [Message("assistant", "", tool_calls=(call,))]
            out += [Message("tool", draw(words), tool_call_id=call.id)]
        out.append(Message("assistant", draw(words)))
    return tuple(out)


def as_openai(conversation: Conversation) -> object:
    return {"messages": to_openai(conversation)}


def as_sharegpt(conversation: Conversation) -> object:
    names = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}

    def turn(message: Message) -> dict[str, str]:
        for call in message.tool_calls:
            value = json.dumps({"name": call.name, "arguments": call.arguments})
            return {"from": "function_call", "value": value}
        return {"from": names[message.role], "value": message.content}

    return {"conversations": [turn(message) for message in conversation]}


@pytest.mark.parametrize("write", [as_openai, as_sharegpt, to_trl])
def test_what_is_written_in_a_format_reads_back_the_same(
    write: Callable[[Conversation], object],
) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(conversations(), min_size=1, max_size=3))
    def law(expected: list[Conversation]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = jsonl(Path(folder), *(write(one) for one in expected))
            assert [one.conversation for one in read(file)] == expected

    law()
