"""One endpoint against a real server: retries, limits, cache, and a key that stays unseen."""

import asyncio
import gc
import json
import logging
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.endpoints.server import Reply, Server, in_turn, serving
from turnwise.endpoints import AnswerCache, ChatEndpoint, Patience, Question
from turnwise.errors import ConfigError, SpeakerError

KEY = "sk-secret-0123456789"
QUICK = Patience(retries=2, timeout_s=30, total_timeout_s=60, first_pause_s=1e-3)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def endpoint(
    url: str, patience: Patience = QUICK, places: int = 8, cache: Path | None = None
) -> ChatEndpoint:
    return ChatEndpoint(
        url,
        "judge-1",
        api_key_env="SOME_KEY",
        patience=patience,
        max_concurrency=places,
        cache=AnswerCache(cache) if cache is not None else None,
    )


def question(text: str = "how much?", schema: dict[str, object] | None = None) -> Question:
    return Question([{"role": "user", "content": text}], seed=5, schema=schema)


def asked(of: ChatEndpoint, *questions: Question, read: Callable[[str], str] = str) -> list[str]:
    async def ask() -> list[str]:
        return await asyncio.gather(*(of.ask(one, read) for one in questions))

    return asyncio.run(ask())


def refused(of: ChatEndpoint, *questions: Question) -> str:
    with pytest.raises(SpeakerError) as error:
        asked(of, *(questions or [question()]))
    return str(error.value)


def test_a_question_is_sent_as_openai_defines_it() -> None:
    with serving(in_turn(Reply("seven"))) as server:
        one = endpoint(server.url)
        assert asked(one, question(schema={"type": "object"})) == ["seven"]
    form = {"name": "answer", "strict": True, "schema": {"type": "object"}}
    assert server.bodies == [
        {
            "model": "judge-1",
            "messages": [{"role": "user", "content": "how much?"}],
            "temperature": 0.0,
            "seed": 5,
            "response_format": {"type": "json_schema", "json_schema": form},
        }
    ]
    assert server.keys == [f"Bearer {KEY}"]
    spent = one.spent
    assert (spent.requests, spent.cached, spent.failed) == (1, 0, 0)
    assert (spent.prompt_tokens, spent.completion_tokens) == (7, 3)


HALF = json.dumps({"choices": [{"message": {"content": "seven"}}]})[:30].encode()


@pytest.mark.parametrize(
    "setback",
    [
        Reply(status=500),
        Reply(status=503, body=b"<html>busy</html>"),
        Reply(status=429),
        Reply("seven", is_cut=True),
        Reply(is_reset=True),
        Reply(body=HALF),
        Reply(body=b"[]"),
        Reply(body=b'{"choices": []}'),
        Reply(body=b'{"choices": [{"message": {"content": null}}]}'),
        Reply(body=b"\xff\xfe"),
        Reply(""),
        Reply("   "),
    ],
    ids=lambda reply: f"{reply.status}-{reply.bytes()[:12]!r}-{reply.is_cut}-{reply.is_reset}",
)
def test_a_setback_that_may_pass_is_asked_again_and_then_given_up(setback: Reply) -> None:
    with serving(in_turn(setback, Reply("seven"))) as server:
        one = endpoint(server.url)
        assert asked(one, question()) == ["seven"]
        assert (one.spent.requests, one.spent.failed) == (2, 0)
    with serving(in_turn(setback)) as server:
        one = endpoint(server.url)
        assert "judge-1" in refused(one)
        assert (one.spent.requests, one.spent.failed) == (3, 1)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_is_final_and_says_why(status: int) -> None:
    with serving(in_turn(Reply(status=status, body=b'{"error": "no such model"}'))) as server:
        words = refused(endpoint(server.url))
        assert f"status {status}" in words
        assert "no such model" in words
        assert len(server.bodies) == 1


def test_a_server_is_left_alone_as_long_as_it_asks() -> None:
    with serving(in_turn(Reply(status=429, headers={"Retry-After": "1"}), Reply("yes"))) as server:
        start_s = time.monotonic()
        assert asked(endpoint(server.url), question()) == ["yes"]
        assert time.monotonic() - start_s >= 1.0


def test_nobody_waits_for_a_time_after_the_limit() -> None:
    with serving(in_turn(Reply(status=429, headers={"Retry-After": "3600"}))) as server:
        start_s = time.monotonic()
        assert "status 429" in refused(endpoint(server.url))
        assert time.monotonic() - start_s < 5
        assert len(server.bodies) == 1


def test_a_reply_that_does_not_come_is_asked_for_again() -> None:
    held = threading.Event()
    patience = Patience(retries=50, timeout_s=0.1, first_pause_s=1e-3)
    with serving(in_turn(Reply("late", wait=held), Reply("in time"))) as server:
        assert asked(endpoint(server.url, patience), question()) == ["in time"]
        held.set()


def test_all_requests_of_a_question_together_have_a_limit() -> None:
    held = threading.Event()
    patience = Patience(retries=99, timeout_s=5, total_timeout_s=0.1, first_pause_s=1e-3)
    with serving(in_turn(Reply("late", wait=held))) as server:
        assert "within 0.1 s" in refused(endpoint(server.url, patience))
        held.set()


def test_a_megabyte_is_not_read_as_an_answer() -> None:
    with serving(in_turn(Reply("7 " * 500_000))) as server:
        assert "1,000,000" in refused(endpoint(server.url))


def test_a_server_that_is_not_there_is_named() -> None:
    with serving(in_turn(Reply())) as server:
        url = server.url
    assert url in refused(endpoint(url))


def test_a_server_without_schemas_is_asked_without_one_from_then_on() -> None:
    def answer(sent: object) -> Reply:
        assert isinstance(sent, dict)
        return Reply(status=400) if "response_format" in sent else Reply("plain")

    with serving(answer) as server:
        one = endpoint(server.url)
        for text in ("a", "b", "c"):
            assert asked(one, question(text, schema={})) == ["plain"]
        assert ["response_format" in body for body in server.bodies] == [True] + 3 * [False]


def test_a_refusal_with_and_without_schema_does_not_blame_the_schema() -> None:
    replies = in_turn(Reply(status=400), Reply(status=400), Reply("formed"))
    with serving(replies) as server:
        one = endpoint(server.url)
        refused(one, question(schema={}))
        assert asked(one, question("b", schema={})) == ["formed"]
        assert "response_format" in server.bodies[-1]


def test_no_more_questions_at_once_than_allowed() -> None:
    full = threading.Event()

    def answer(sent: object) -> Reply:
        if server.live == 3:
            threading.Timer(0.1, full.set).start()  # time for a fourth, if there could be one
        return Reply("yes", wait=full)

    server: Server
    with serving(answer) as server:
        one = endpoint(server.url, places=3)
        assert asked(one, *(question(str(i)) for i in range(9))) == ["yes"] * 9
        assert server.most_live == 3


def _soon() -> threading.Event:
    event = threading.Event()
    threading.Timer(0.05, event.set).start()
    return event


def test_equal_questions_at_the_same_time_are_asked_once() -> None:
    with serving(lambda sent: Reply("yes", wait=_soon())) as server:
        one = endpoint(server.url)
        assert asked(one, *[question()] * 5, question("other")) == ["yes"] * 6
        assert len(server.bodies) == 2
        assert (one.spent.requests, one.spent.cached) == (2, 4)


def test_one_who_stops_waiting_takes_the_answer_from_nobody() -> None:
    async def ask(one: ChatEndpoint) -> str:
        first = asyncio.create_task(one.ask(question(), str))
        second = asyncio.create_task(one.ask(question(), str))
        await asyncio.sleep(0.02)
        first.cancel()
        return await second

    with serving(lambda sent: Reply("yes", wait=_soon())) as server:
        assert asyncio.run(ask(endpoint(server.url))) == "yes"
        assert len(server.bodies) == 1


def test_an_answer_is_kept_for_the_next_process(tmp_path: Path) -> None:
    with serving(in_turn(Reply("yes"))) as server:
        for _ in range(2):
            one = endpoint(server.url, cache=tmp_path)
            assert asked(one, question()) == ["yes"]
        assert (one.spent.requests, one.spent.cached) == (0, 1)
        assert len(server.bodies) == 1


def test_whatever_the_answer_depends_on_is_in_its_name(tmp_path: Path) -> None:
    base = Question([{"role": "user", "content": "a"}])
    others = [
        Question([{"role": "user", "content": "b"}]),
        Question(base.messages, temperature=1.0),
        Question(base.messages, seed=1),
        Question(base.messages, schema={}),
    ]
    with serving(in_turn(Reply("yes"))) as server:
        one = endpoint(server.url, cache=tmp_path)
        asked(one, base, *others)
        assert one.spent.requests == 5
        second = ChatEndpoint(
            server.url, "judge-2", api_key_env="", cache=AnswerCache(tmp_path), patience=QUICK
        )
        asked(second, base)
        assert second.spent.requests == 1


def test_an_answer_that_cannot_be_read_is_not_kept(tmp_path: Path) -> None:
    def unreadable(answer: str) -> str:
        raise SpeakerError("no numbers")

    with serving(in_turn(Reply("well"), Reply("7"))) as server:
        one = endpoint(server.url, cache=tmp_path)
        with pytest.raises(SpeakerError, match="no numbers"):
            asked(one, question(), read=unreadable)
        assert one.spent.failed == 1
        assert asked(one, question()) == ["7"]
        assert len(server.bodies) == 2


@pytest.mark.parametrize("damage", ["", "{", '{"answer": 7}', "[]", '{"other": "x"}'])
def test_a_damaged_answer_on_disk_is_asked_for_again(tmp_path: Path, damage: str) -> None:
    with serving(in_turn(Reply("yes"))) as server:
        asked(endpoint(server.url, cache=tmp_path), question())
        (file,) = tmp_path.rglob("*.json")
        file.write_text(damage)
        for _ in range(2):
            assert asked(endpoint(server.url, cache=tmp_path), question()) == ["yes"]
        assert len(server.bodies) == 2


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with serving(in_turn(Reply("yes"))) as server:
        one = endpoint(server.url, cache=tmp_path / "file")
        with pytest.raises(ConfigError, match="file"):
            asked(one, question())


def test_a_missing_key_is_named_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY_KEY", " ")
    with serving(in_turn(Reply("yes"))) as server:
        for name in ("NOT_SET_ANYWHERE", "EMPTY_KEY"):
            with pytest.raises(ConfigError, match=name):
                ChatEndpoint(server.url, "m", api_key_env=name)
        assert server.bodies == []


@pytest.mark.parametrize("key", ["sk-a\nb", "sk-ä", "sk a"])
def test_a_key_that_cannot_be_sent_is_refused_unseen(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("SOME_KEY", key)
    with pytest.raises(ConfigError, match="SOME_KEY") as error:
        endpoint("http://127.0.0.1/v1")
    assert key not in str(error.value)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "file:///x", "http://", "http://me:pw@h/v1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="address") as error:
        endpoint(url)
    assert "pw" not in str(error.value)


def test_a_server_without_keys_is_asked_without_ours() -> None:
    with serving(in_turn(Reply("yes"))) as server:
        asked(ChatEndpoint(server.url, "m", api_key_env=""), question())
        assert server.keys != [f"Bearer {KEY}"]


def test_the_key_is_in_no_error_log_repr_or_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    echo = f'{{"error": "bad header Bearer {KEY}"}}'.encode()
    replies = [Reply(status=401, body=echo), Reply(body=echo), Reply("yes")]
    with caplog.at_level(logging.DEBUG), serving(in_turn(*replies)) as server:
        one = endpoint(server.url, Patience(retries=0), cache=tmp_path)
        for _ in range(2):
            with pytest.raises(SpeakerError) as error:
                asked(one, question())
            assert "bad header" in str(error.value)
            assert KEY not in "".join(traceback.format_exception(error.value))
        asked(one, question())
    assert server.keys == [f"Bearer {KEY}"] * 3
    assert KEY not in caplog.text
    assert KEY not in repr(one) + repr(one.spent) + repr(one.patience)
    assert all(KEY not in file.read_text() for file in tmp_path.rglob("*.json"))


def test_a_check_says_at_once_what_is_wrong() -> None:
    wrong = in_turn(Reply(status=404, body=b"model not found"))
    with serving(wrong) as server, pytest.raises(ConfigError, match="model not found"):
        asyncio.run(endpoint(server.url).check())
    with serving(in_turn(Reply("yes"))) as server:
        asyncio.run(endpoint(server.url).check())


def test_nothing_stays_open_and_one_endpoint_serves_many_event_loops() -> None:
    with serving(in_turn(Reply("yes"))) as server:
        one = endpoint(server.url, places=1)
        for i in range(3):
            asked(one, question(f"{i}a"), question(f"{i}b"))  # each in a loop of its own
    gc.collect()  # a connection left open would warn here, and a warning is an error
    assert len(server.bodies) == 6


def test_a_crowd_is_answered(tmp_path: Path) -> None:
    def answer(sent: object) -> Reply:
        assert isinstance(sent, dict)
        is_first = server.bodies.count(sent) == 1
        return Reply(status=429) if is_first else Reply(sent["messages"][0]["content"])

    server: Server
    with serving(answer) as server:
        one = endpoint(server.url, places=16, cache=tmp_path)
        texts = [str(i) for i in range(64)]
        assert asked(one, *map(question, texts)) == texts
        assert one.spent.requests == 128
