"""Every judge gives one number a turn, or says that it cannot."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from tests.endpoints.server import Reply, in_turn, serving
from turnwise.conversation import Conversation, Message
from turnwise.endpoints import ChatEndpoint, Patience
from turnwise.errors import SpeakerError
from turnwise.judges import LLMJudge, RuleJudge, TurnJudge

DIALOGUE: Conversation = (
    Message("system", "be brief"),
    Message("user", "a party"),
    Message("assistant", "which day?"),
    Message("user", "friday"),
    Message("assistant", "book friday"),
)
QUICK = Patience(retries=1, timeout_s=30, total_timeout_s=50, first_pause_s=1e-3)


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def llm(url: str, patience: Patience = QUICK) -> LLMJudge:
    return LLMJudge(ChatEndpoint(url, "m", api_key_env="", patience=patience))


def weighed(judge: TurnJudge, conversation: Conversation = DIALOGUE) -> tuple[float, ...]:
    return asyncio.run(judge.weigh(conversation))


def test_a_model_weighs_each_turn() -> None:
    with serving(in_turn(Reply('{"weights": [3, 1]}'))) as server:
        assert weighed(llm(server.url)) == (3.0, 1.0)
    (body,) = server.bodies
    assert body["temperature"] == 0.0
    assert "which day?" in str(body["messages"])


BAD = {
    "text instead of numbers": Reply("The first turn was better."),
    "words as weights": Reply('{"weights": ["high", "low"]}'),
    "numbers in quotes": Reply('{"weights": ["3", "1"]}'),
    "too few turns": Reply('{"weights": [3]}'),
    "too many": Reply('{"weights": [3, 1, 1]}'),
    "negative": Reply('{"weights": [3, -1]}'),
    "NaN": Reply('{"weights": [3, NaN]}'),
    "empty content": Reply(""),
    "malformed JSON": Reply('{"weights": [3, 1'),
    "malformed envelope": Reply(body=b'{"choices": [{"mess'),
    "cut stream": Reply('{"weights": [3, 1]}', is_cut=True),
    "500": Reply(status=500),
    "429 with Retry-After": Reply(status=429, headers={"Retry-After": "60"}),
    "connection reset": Reply(is_reset=True),
    "1 MB reply": Reply("x" * 1_000_000),
    "1 MB of JSON": Reply('{"weights": [' + "1, " * 330_000 + "1]}"),
}


@pytest.mark.parametrize("reply", BAD.values(), ids=BAD.keys())
def test_what_is_no_answer_is_said_to_be_none(reply: Reply) -> None:
    with serving(in_turn(reply)) as server:
        judge = llm(server.url)
        with pytest.raises(SpeakerError, match="expected"):
            weighed(judge)
        assert judge.endpoint.spent.failed == 1


def test_a_time_out_is_said_to_be_one() -> None:
    held = threading.Event()
    with serving(in_turn(Reply('{"weights": [3, 1]}', wait=held))) as server:
        judge = llm(server.url, Patience(retries=1, timeout_s=0.05, first_pause_s=1e-3))
        with pytest.raises(SpeakerError, match="no reply within"):
            weighed(judge)
        held.set()


def test_all_zero_is_an_answer_that_weighs_nothing() -> None:
    with serving(in_turn(Reply('{"weights": [0, 0]}'))) as server:
        assert weighed(llm(server.url)) == (0.0, 0.0)  # `judge_weights` takes equal weights


def test_a_dialogue_without_an_assistant_turn_is_not_asked_about() -> None:
    with serving(in_turn(Reply())) as server:
        assert weighed(llm(server.url), DIALOGUE[:2]) == ()
        assert server.bodies == []


def test_a_rule_weighs_each_turn() -> None:
    def lengths(conversation: Conversation) -> list[int]:
        return [len(m.content) for m in conversation if m.role == "assistant"]

    assert weighed(RuleJudge(lengths)) == (10.0, 11.0)
    assert weighed(RuleJudge(lengths), ()) == ()


@pytest.mark.parametrize("wrong", [[1.0], [1.0, 2.0, 3.0], [1.0, -1.0], [float("nan"), 1.0]])
def test_a_rule_that_breaks_the_promise_is_refused_like_a_model(wrong: Sequence[float]) -> None:
    with pytest.raises(SpeakerError, match="expected"):
        weighed(RuleJudge(lambda conversation: wrong))
