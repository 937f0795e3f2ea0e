"""The rules that concern one record alone: each has its code, and says what to do."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.logs.readers.reading import (
    DEFAULT,
    assistant,
    jsonl,
    read,
    read_one,
    refused,
    said,
    user,
)
from turnwise.conversation import EndReason, LoggedConversation
from turnwise.errors import ConfigError
from turnwise.logs.options import ReaderOptions
from turnwise.logs.readers import read_records
from turnwise.logs.refusal import Refusal

TALK = [user("Hello?"), assistant("Good day.")]


def test_without_id_time_or_outcome_a_conversation_is_censored(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "march", {"messages": TALK}, {"messages": TALK})
    first, second = read(file)
    assert (first.conversation_id, second.conversation_id) == (
        "march/chat.jsonl:1",
        "march/chat.jsonl:2",
    )
    assert first.outcome is None and first.end_reason is EndReason.CENSORED
    assert first.origin is not None and first.origin.reader == "openai"


@pytest.mark.parametrize("value", [81, "81"])
def test_whole_numbers_become_ids_exactly(tmp_path: Path, value: object) -> None:
    assert read_one(jsonl(tmp_path, {"id": value, "messages": TALK})).conversation_id == "81"
    large = {"conversation_id": 12345678901234567890123, "messages": TALK}
    assert read_one(jsonl(tmp_path, large)).conversation_id == "12345678901234567890123"


@pytest.mark.parametrize("value", [1.2345678901234567e18, 81.0, True, ["a"]])
def test_an_id_that_may_have_lost_digits_is_refused(tmp_path: Path, value: object) -> None:
    found = refused(jsonl(tmp_path, {"id": value, "messages": TALK}))
    assert (found.code, found.field) == ("id_not_exact", "conversation_id")
    assert found.reason == (
        'expected text or a whole number as conversation_id (81 becomes "81"), '
        f"found {value!r}, digits are lost; export ids as text"
    )


def test_a_customer_of_lost_digits_is_refused_too(tmp_path: Path) -> None:
    found = refused(jsonl(tmp_path, {"customer_id": 1e18, "messages": TALK}))
    assert (found.code, found.field) == ("id_not_exact", "customer_key")


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"role": "user"}, "messages[1].content"),
        ({"role": "user", "content": None}, "messages[1].content"),
        ({"role": "user", "content": 7}, "messages[1].content"),
        ({"content": "a"}, "messages[1].role"),
        ("a", "messages[1]"),
        ({"role": "assistant", "content": "a", "weight": 0.5}, "messages[1].weight"),
        ({"role": "assistant", "content": "a", "reward": "big"}, "messages[1].reward"),
        ({"role": "assistant", "content": "a", "token_ids": [2**31]}, "messages[1].token_ids"),
        ({"role": "assistant", "content": "a", "token_logp": [None]}, "messages[1].token_logp"),
        (
            {"role": "assistant", "content": "a", "policy": {"version": "v", "max_tokens": 2**63}},
            "messages[1].policy.max_tokens",
        ),
        ({"role": "assistant", "content": "a", "author": "bot"}, "messages[1].author"),
        ({"role": "assistant", "content": "a", "policy": {}}, "messages[1].policy.version"),
        (
            {"role": "assistant", "content": "a", "tool_calls": [{}]},
            "messages[1].tool_calls[0].name",
        ),
        (
            {"role": "assistant", "content": "a", "explore": {"deviated": True, "propensity": 0}},
            "messages[1].explore.propensity",
        ),
        ({"role": "user", "content": [{"type": "image_url"}]}, "messages[1].content[0]"),
    ],
)
def test_a_missing_or_wrong_field_is_named(tmp_path: Path, message: object, field: str) -> None:
    found = refused(jsonl(tmp_path, {"messages": [user("a"), message, assistant("b")]}))
    assert (found.code, found.field, found.line) == ("missing_field", field, 1)


@pytest.mark.parametrize(
    "facts",
    [
        {"consent": {"training": "perhaps"}},
        {"consent": True},
        {"end_reason": "bored"},
        {"violations": {"rude": "very"}},
        {"tenant": 1.5},
        {"redaction": {"tool": "x"}},
        {"conversation_id": ""},
        {"messages": None},
        {"messages": {"role": "user"}},
    ],
)
def test_a_fact_of_the_wrong_type_is_refused(tmp_path: Path, facts: dict[str, object]) -> None:
    found = refused(jsonl(tmp_path, {"id": "a", "messages": TALK, **facts}))
    assert found.code in ("missing_field", "id_not_exact")
    assert found.conversation_id == facts.get("conversation_id", "a")


def test_a_line_that_is_no_object_is_refused_and_the_next_is_read(tmp_path: Path) -> None:
    file = jsonl(tmp_path, 7, {"messages": TALK}, "words")
    first, good, last = read_records(file, DEFAULT)
    assert isinstance(good, LoggedConversation)
    for found in (first, last):
        assert isinstance(found, Refusal) and found.code == "missing_field"


def test_an_unknown_role_can_be_mapped(tmp_path: Path) -> None:
    file = jsonl(tmp_path, {"messages": [user("a"), {"role": "bot7", "content": "b"}]})
    found = refused(file)
    assert (found.code, found.field, found.found) == ("unknown_role", "messages[1].role", "'bot7'")
    assert found.reason == (
        "expected system, user, assistant, tool (human, gpt, …), found 'bot7'; "
        "map it with --role bot7=assistant"
    )
    options = ReaderOptions(role_map={"bot7": "assistant"})
    assert said(read_one(file, options).steps)[1] == ("assistant", "b")


@pytest.mark.parametrize("content", ["", " \n\t "])
def test_an_empty_turn_is_refused_unless_it_is_an_abstention(tmp_path: Path, content: str) -> None:
    found = refused(jsonl(tmp_path, {"messages": [user("a"), assistant(content)]}))
    assert (found.code, found.field) == ("empty_turn", "messages[1].content")
    assert found.reason == (
        "expected text or a tool call in messages[1], found neither; remove it or mark it abstained"
    )
    abstained = {**assistant(content), "disposition": "abstained"}
    assert read_one(jsonl(tmp_path, {"messages": [user("a"), abstained]})).decisions
    refused_by_person = {**assistant(""), "disposition": "rejected", "proposed": "Buy!"}
    step = read_one(jsonl(tmp_path, {"messages": [user("a"), refused_by_person]})).steps[1]
    assert (step.content, step.proposed) == ("", "Buy!")


@pytest.mark.parametrize("messages", [[user("a")], []])
def test_without_an_assistant_there_is_nothing_to_decide(tmp_path: Path, messages: object) -> None:
    found = refused(jsonl(tmp_path, {"messages": messages}))
    assert found.code == "no_decision_step"
    assert "expected at least one assistant message in messages, found none" in found.reason


def at(hour: int) -> str:
    return f"2026-01-05T{hour:02}:00:00+01:00"


def test_times_may_not_fall_unless_they_may_be_sorted(tmp_path: Path) -> None:
    late, early = {**user("late"), "ts": at(9)}, {**assistant("early"), "ts": at(8)}
    file = jsonl(tmp_path, {"messages": [late, early]})
    found = refused(file)
    assert (found.code, found.field) == ("turns_out_of_order", "messages[1]")
    assert "found step 1 before step 0; --sort-by-time sorts" in found.reason
    steps = read_one(file, ReaderOptions(sort_by_time=True)).steps
    assert said(steps) == [("assistant", "early"), ("user", "late")]
    assert steps[0].ts == datetime(2026, 1, 5, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("indices", "found_words"),
    [((0, 1, 1), "index 1 twice"), ((0, 2, 3), "index 2 after 0"), ((1, 2, 3), "index 1 after -1")],
)
def test_indices_count_from_zero(
    tmp_path: Path, indices: tuple[int, ...], found_words: str
) -> None:
    messages = [{**assistant("a"), "i": i} for i in indices]
    found = refused(jsonl(tmp_path, {"messages": messages}))
    assert found.code == "turns_out_of_order" and found_words in found.reason


@pytest.mark.parametrize(
    "value", ["2026-01-05 10:02", "yesterday", True, -1, 10**30, "0001-01-01T00:00+14:00"]
)
def test_a_time_needs_its_zone(tmp_path: Path, value: object) -> None:
    found = refused(jsonl(tmp_path, {"messages": [{**assistant("a"), "ts": value}]}))
    assert (found.code, found.field) == ("time_without_zone", "messages[0].ts")
    assert f"found {value!r}; say --timezone" in found.reason


def test_a_zone_can_be_said_and_what_has_one_keeps_it(tmp_path: Path) -> None:
    row = {
        "messages": [{**assistant("a"), "ts": "2026-07-05 10:02"}],
        "started_at": "2026-07-05T10:00:00Z",
        "ended_at": 1_783_245_600,  # seconds since 1970, in UTC by definition
    }
    found = read_one(jsonl(tmp_path, row), ReaderOptions(timezone="Europe/Berlin"))
    assert found.steps[0].ts == datetime(2026, 7, 5, 8, 2, tzinfo=UTC)  # summer: two hours
    assert found.started_at == datetime(2026, 7, 5, 10, tzinfo=UTC)
    assert found.ended_at == datetime(2026, 7, 5, 10, tzinfo=UTC)


@pytest.mark.parametrize("scale", [1, 10**3, 10**6, 10**9])
def test_seconds_since_1970_may_be_finer(tmp_path: Path, scale: int) -> None:
    row = {"messages": TALK, "ended_at": 1_767_225_600 * scale}
    assert read_one(jsonl(tmp_path, row)).ended_at == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_zone_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    file = jsonl(tmp_path, {"messages": TALK, "ended_at": "2026-01-05 10:02"})
    with pytest.raises(ConfigError, match="found 'Berlin'"):
        read(file, ReaderOptions(timezone="Berlin"))


@pytest.mark.parametrize(
    ("facts", "value"),
    [
        ({"outcome": 1}, 1.0),
        ({"score": 0.25}, 0.25),
        ({"label": True}, 1.0),
        ({"label": False}, 0.0),
        ({"reward": 0}, 0.0),
        ({"outcome": "won"}, 1.0),
        ({"outcome": "lost"}, 0.0),
        ({"outcome": 1, "score": 1.0, "label": True}, 1.0),
        ({"outcome": [1, 1.0]}, 1.0),
        ({"outcome": {"value": 1, "name": "sale"}, "reward": 1}, 1.0),
        ({"outcome": None}, None),
    ],
)
def test_an_outcome_is_found_under_its_names_and_equal_ones_count_once(
    tmp_path: Path, facts: dict[str, object], value: float | None
) -> None:
    options = ReaderOptions(outcome_map={"won": 1.0, "lost": 0.0})
    found = read_one(jsonl(tmp_path, {"messages": TALK, **facts}), options)
    assert (found.outcome and found.outcome.value) == value
    assert found.end_reason is (EndReason.CENSORED if value is None else EndReason.OUTCOME)


def test_the_outcome_can_be_named(tmp_path: Path) -> None:
    file = jsonl(tmp_path, {"messages": TALK, "csat": 0.5, "score": 1})
    found = read_one(file, ReaderOptions(outcome_name="csat")).outcome
    assert found is not None and (found.name, found.value) == ("csat", 0.5)


@pytest.mark.parametrize(
    "facts", [{"outcome": 1, "score": 0}, {"outcome": [1.0, 0.0]}, {"label": True, "reward": 0}]
)
def test_two_outcomes_of_a_record_are_refused(tmp_path: Path, facts: dict[str, object]) -> None:
    found = refused(jsonl(tmp_path, {"messages": TALK, **facts}))
    assert found.code == "two_outcomes"
    assert found.reason.startswith("expected one outcome per conversation, found 1 (")
    assert found.reason.endswith("; keep one")


@pytest.mark.parametrize("value", ["won", 7, -0.1, float("nan"), float("inf"), 10**400])
def test_an_outcome_is_a_number_within_the_return_range(tmp_path: Path, value: object) -> None:
    found = refused(jsonl(tmp_path, {"messages": TALK, "outcome": value}))
    assert (found.code, found.field) == ("bad_outcome", "outcome")
    assert found.reason.startswith("expected a number within [0, 1] as outcome, found ")
    assert "map words with --outcome won=1, or set return_range" in found.reason


def test_the_return_range_can_be_set(tmp_path: Path) -> None:
    file = jsonl(tmp_path, {"messages": TALK, "outcome": 7})
    assert read_one(file, ReaderOptions(return_range=(-10, 10))).outcome is not None


def timed_talk() -> list[dict[str, object]]:
    return [
        {**user("a"), "ts": at(8)},
        {**assistant("b"), "ts": at(9)},
        {**user("c"), "ts": at(10)},
        {**assistant("d"), "ts": at(11)},
        {**user("thanks"), "ts": at(12)},
    ]


def test_an_outcome_before_the_last_turn_is_refused_or_cuts(tmp_path: Path) -> None:
    outcome = {"value": 1, "observed_at": "2026-01-05T10:19:00+01:00"}
    file = jsonl(tmp_path, {"messages": timed_talk(), "outcome": outcome})
    found = refused(file)
    assert found.code == "outcome_before_last_turn"
    assert found.reason == (
        "expected an outcome at or after the last turn, found 41 min earlier; "
        "--after-outcome cut drops the later turns"
    )
    cut = read_one(file, ReaderOptions(after_outcome="cut"))
    assert [step.content for step in cut.steps] == ["a", "b", "c"]
    assert cut.end_reason is EndReason.OUTCOME


def test_words_of_the_customer_after_the_outcome_are_no_fault(tmp_path: Path) -> None:
    row = {"messages": timed_talk(), "outcome": 1, "outcome_at": at(11)}
    assert len(read_one(jsonl(tmp_path, row)).steps) == 5


def test_an_outcome_before_the_first_reply_leaves_nothing_to_cut_to(tmp_path: Path) -> None:
    row = {"messages": timed_talk(), "outcome": 1, "outcome_at": at(8)}
    found = refused(jsonl(tmp_path, row), ReaderOptions(after_outcome="cut"))
    assert found.code == "no_decision_step"


CALL = {"id": "t1", "type": "function", "function": {"name": "find", "arguments": "{}"}}


@pytest.mark.parametrize(
    "messages",
    [
        [user("a"), {"role": "tool", "content": "x", "tool_call_id": "t3"}, assistant("b")],
        [
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "content": "x", "tool_call_id": "t3"},
        ],
        [{"role": "tool", "content": "x"}, assistant("b")],
        [
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "content": "x"},
            {"role": "tool", "content": "y"},
        ],
    ],
)
def test_a_result_needs_its_call(tmp_path: Path, messages: list[object]) -> None:
    found = refused(jsonl(tmp_path, {"messages": messages}))
    assert found.code == "tool_result_without_call"
    assert "before its result, found none" in found.reason


def test_a_call_is_a_step_and_its_result_may_be_empty(tmp_path: Path) -> None:
    messages = [
        user("a"),
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "", "tool_call_id": "t1"},
        assistant("b"),
        assistant("c"),
    ]
    found = read_one(jsonl(tmp_path, {"messages": messages}))
    assert len(found.decisions) == 3 and len(found.steps) == 5
    assert found.steps[1].tool_calls[0].arguments == "{}"


def test_the_raw_text_is_kept_back_where_training_is_not_allowed(tmp_path: Path) -> None:
    open_row: dict[str, object] = {"id": "a", "messages": [user("secret")]}
    assert "secret" in (refused(jsonl(tmp_path, open_row)).raw or "")
    for consent in ({"training": False}, '{"training": false}'):
        found = refused(jsonl(tmp_path, {**open_row, "consent": consent}))
        assert found.raw is None and found.conversation_id == "a"


def test_a_refusal_never_quotes_what_was_said(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": {"text": "secret"}}, assistant("b")]},
        {"messages": [{"role": "user", "content": "a", "tool_calls": "secret"}, assistant("b")]},
        {"messages": "secret"},
    ]
    for found in read_records(jsonl(tmp_path, *rows), DEFAULT):
        assert isinstance(found, Refusal)
        assert "secret" not in found.reason + str(found.found)


def test_every_fact_of_a_conversation_is_read(tmp_path: Path) -> None:
    row = {
        "conversation_id": "c",
        "messages": TALK,
        "customer_id": 42,
        "tenant": "shop",
        "language": "de",
        "end_reason": "user_left",
        "violations": {"rude": 0.5},
        "consent": {"training": True, "basis": "contract", "retain_until": "2027-01-01T00:00:00Z"},
        "redaction": {"tool": "x", "version": "1"},
    }
    found = read_one(jsonl(tmp_path, row))
    assert (found.customer_key, found.tenant, found.language) == ("42", "shop", "de")
    assert found.end_reason is EndReason.USER_LEFT
    assert dict(found.violations) == {"rude": 0.5}
    assert (found.consent.training, found.consent.basis) == (True, "contract")
    assert found.consent.retain_until == datetime(2027, 1, 1, tzinfo=UTC)
    assert found.redaction is not None and found.redaction.tool == "x"
