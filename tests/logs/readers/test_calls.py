"""Calls that repeat the history become one conversation: nothing twice, nothing lost."""

from tests.logs.readers.reading import DEFAULT
from turnwise.conversation import Message, Step
from turnwise.logs.readers.calls import Call, prompt_of, reply_of, steps_of_calls

SYSTEM, HELLO, HOW = Step("system", "Sell."), Step("user", "Hello?"), Step("user", "How much?")
HI, TEN = Step("assistant", "Hi."), Step("assistant", "Ten.")


def call(prompt: list[Step], reply: Step) -> Call:
    return Call(tuple(prompt), reply, None, None, None)


def words(steps: list[Step]) -> list[str]:
    return [step.content for step in steps]


def contexts(steps: list[Step]) -> list[list[str] | None]:
    found = [step.context for step in steps if step.author == "model"]
    return [None if one is None else [message.content for message in one] for one in found]


def test_a_history_that_goes_on_needs_no_context() -> None:
    steps = steps_of_calls([call([SYSTEM, HELLO], HI), call([SYSTEM, HELLO, HI, HOW], TEN)])
    assert words(steps) == ["Sell.", "Hello?", "Hi.", "How much?", "Ten."]
    assert contexts(steps) == [None, None]


def test_a_trimmed_history_keeps_its_prompt_and_says_nothing_twice() -> None:
    steps = steps_of_calls([call([SYSTEM, HELLO], HI), call([SYSTEM, HI, HOW], TEN)])
    assert words(steps) == ["Sell.", "Hello?", "Hi.", "How much?", "Ten."]
    assert contexts(steps) == [None, ["Sell.", "Hi.", "How much?"]]


def test_a_summarised_history_keeps_its_prompt() -> None:
    summary = Step("system", "Summary: they greeted.")
    steps = steps_of_calls([call([SYSTEM, HELLO], HI), call([summary, HOW], TEN)])
    assert words(steps) == ["Sell.", "Hello?", "Hi.", "How much?", "Ten."]
    assert contexts(steps) == [None, ["Summary: they greeted.", "How much?"]]


def test_two_replies_to_one_message_stay_two_steps() -> None:
    steps = steps_of_calls([call([SYSTEM, HELLO], HI), call([SYSTEM, HELLO], TEN)])
    assert words(steps) == ["Sell.", "Hello?", "Hi.", "Ten."]
    assert contexts(steps) == [None, ["Sell.", "Hello?"]]


def test_a_router_before_the_reply_sees_the_same_message() -> None:
    router, sales = Step("system", "Which desk?"), Step("assistant", "sales")
    steps = steps_of_calls([call([router, HELLO], sales), call([SYSTEM, HELLO], HI)])
    assert words(steps) == ["Which desk?", "Hello?", "sales", "Hi."]
    assert contexts(steps) == [None, ["Sell.", "Hello?"]]


def test_a_message_said_twice_in_a_whole_history_is_twice_there() -> None:
    steps = steps_of_calls([call([HELLO], HI), call([HELLO, HI, HELLO], TEN)])
    assert words(steps) == ["Hello?", "Hi.", "Hello?", "Ten."]


def test_replies_that_no_call_wrote_are_not_scored() -> None:
    steps = steps_of_calls([call([HELLO, HI, HOW], TEN)])
    assert [step.is_scored for step in steps] == [True, False, True, True]
    assert [step.author for step in steps] == [None, None, None, "model"]


def test_a_result_of_a_tool_belongs_to_the_next_state() -> None:
    result = Step("tool", "3", tool_call_id="t")
    steps = steps_of_calls([call([HELLO], HI), call([HELLO, HI, result], TEN)])
    assert [step.role for step in steps] == ["user", "assistant", "tool", "assistant"]


def test_a_prompt_is_read_from_every_shape_it_is_logged_in() -> None:
    expected = (Step("user", "Hello?"),)
    plain = {"role": "user", "content": "Hello?"}
    langchain = {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "schema", "messages", "HumanMessage"],
        "kwargs": {"content": "Hello?", "type": "human"},
    }
    shapes: list[object] = [
        "Hello?",
        [plain],
        {"messages": [plain]},
        {"messages": [[langchain]]},
        {"prompts": ["Hello?"]},
        {"input": "Hello?"},
        '{"messages": [{"role": "user", "content": "Hello?"}]}',
        [{"type": "human", "data": {"content": "Hello?"}}],
        plain,
    ]
    for shape in shapes:
        assert prompt_of(shape, "input", DEFAULT) == expected, shape


def test_a_reply_is_read_from_every_shape_it_is_logged_in() -> None:
    plain = {"role": "assistant", "content": "Hi."}
    langchain = {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "schema", "messages", "AIMessage"],
        "kwargs": {"content": "Hi.", "type": "ai"},
    }
    chunk = {**langchain, "id": ["langchain", "schema", "messages", "AIMessageChunk"]}
    generation = {"text": "Hi.", "message": langchain, "generation_info": {"finish_reason": "stop"}}
    shapes: list[tuple[object, str | None]] = [
        ("Hi.", None),
        (plain, None),
        ({"content": "Hi."}, None),
        ({"output": "Hi."}, None),
        ({"choices": [{"message": plain, "finish_reason": "stop"}]}, "stop"),
        ({"choices": [{"text": "Hi.", "finish_reason": "length"}]}, "length"),
        ({"generations": [[generation]], "type": "LLMResult"}, "stop"),
        ({"generations": [[{"text": "Hi.", "type": "Generation"}]]}, None),
        ({"messages": [{"role": "user", "content": "Hello?"}, plain]}, None),
        ({"output": {"message": chunk}}, None),
        ({"id": "msg_1", "type": "message", **plain, "stop_reason": "end_turn"}, "end_turn"),
        ({"content": "Hi.", "tool_calls": []}, None),
        ('{"role": "assistant", "content": "Hi."}', None),
    ]
    for text in ('{"answer": 42}', "[1, 2]", '{"text": "x"}'):  # what a model writes may be JSON
        assert reply_of({"output": text}, "output", DEFAULT)[0].content == text
        shapes.append((text, None))
    for shape, finish in shapes:
        reply, found = reply_of(shape, "output", DEFAULT)
        said = shape if isinstance(shape, str) and "Hi." not in shape else "Hi."
        assert (reply.message, found) == (Message("assistant", said), finish), shape
