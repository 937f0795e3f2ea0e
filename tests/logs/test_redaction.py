"""Nothing that names a person is left, and who is who can still be told apart."""

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise.conversation import EndReason, LoggedConversation, Message, Step, ToolCall
from turnwise.errors import CapabilityError
from turnwise.logs import presidio_redactor, regex_redactor
from turnwise.logs.redaction import Span, SpanRedactor, redacted_text


def conversation(*steps: Step) -> LoggedConversation:
    return LoggedConversation("c", steps, EndReason.CENSORED)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("mail a.b+c@shop.co.uk.", "mail EMAIL_1."),
        ("call +49 (151) 123-45678 or 0151 2345678", "call PHONE_1 or PHONE_2"),
        ("415-555-1234, (415) 555-1235", "PHONE_1, PHONE_2"),
        ("card 4111 1111 1111 1111!", "card CARD_1!"),
        ("IBAN DE89 3704 0044 0532 0130 00, GB33BUKB20201555555555", "IBAN IBAN_1, IBAN_2"),
        ("order #AB-12345, invoice no. 99887", "order #ORDER_1, invoice no. ORDER_2"),
        ("order now, table 5, on 2026-01-05 10:02", "order now, table 5, on 2026-01-05 10:02"),
        ("05.01.2026 10:02, 1.000.000 EUR", "05.01.2026 10:02, 1.000.000 EUR"),
    ],
)
def test_patterns_find_what_they_should_and_leave_the_rest(text: str, redacted: str) -> None:
    assert redacted_text(text, regex_redactor()) == redacted


def test_the_same_person_has_the_same_name_throughout_a_conversation_only() -> None:
    redactor = regex_redactor()
    first = Step("user", "I am A@x.org, not b@x.org", name="a@x.org")
    prompt = (Message("user", "b@x.org wrote", name="b@x.org"),)
    second = Step("assistant", "Hello a@x.org", proposed="Hello b@x.org", context=prompt)
    one, two = redactor.redact(conversation(first, second)).steps
    assert (one.content, one.name) == ("I am EMAIL_1, not EMAIL_2", "EMAIL_1")
    assert (two.content, two.proposed) == ("Hello EMAIL_1", "Hello EMAIL_2")
    assert two.context == (Message("user", "EMAIL_2 wrote", name="EMAIL_2"),)
    other = redactor.redact(conversation(Step("user", "b@x.org")))
    assert other.steps[0].content == "EMAIL_1"
    assert other.redaction is not None and other.redaction.tool == "turnwise-regex"


def test_arguments_of_a_call_stay_json_and_unchanged_where_nothing_is_hidden() -> None:
    found = {"to": ["a@b.org"], "phone": 4915112345678, "n": 3, "x": 0.1234567890, "ok": True}
    untouched = '{ "n":3}'
    calls = tuple(
        ToolCall("t", "send", text) for text in (json.dumps(found), untouched, "not {json a@b.org")
    )
    (step,) = regex_redactor().redact(conversation(Step("assistant", "", tool_calls=calls))).steps
    texts = [call.arguments for call in step.tool_calls]
    hidden = {"to": ["EMAIL_1"], "phone": "CARD_1", "n": 3, "x": 0.1234567890, "ok": True}
    assert json.loads(texts[0]) == hidden  # thirteen digits could be a card's
    assert texts[1:] == [untouched, "not {json EMAIL_1"]


def test_tokens_of_a_changed_text_go_and_others_stay() -> None:
    served = {"token_ids": (1, 2), "token_logp": (-0.5, -1.0), "logp_sum": -1.5}
    steps = (Step("assistant", "a@b.org", **served), Step("assistant", "fine", **served))  # type: ignore[arg-type] # mixed types
    changed, same = regex_redactor().redact(conversation(*steps)).steps
    assert (changed.token_ids, changed.token_logp, changed.logp_sum) == (None, None, None)
    assert same == steps[1]


def test_overlapping_names_become_one_so_that_no_end_is_left() -> None:
    def find(text: str) -> Iterable[Span]:
        return [Span(5, 11, "PLACE"), Span(0, 8, "PERSON")]

    redactor = SpanRedactor(find, "test", "1")
    assert redacted_text("Anna Meier Street", redactor) == "PERSON_1Street"


@given(
    st.lists(
        st.sampled_from(["a@b.org", "0151 2345678", "DE89370400440532013000", "hello", "a-b", "7"]),
        max_size=8,
    )
)
def test_redacting_twice_changes_nothing_more(words: list[str]) -> None:
    once = redacted_text(", ".join(words), regex_redactor())
    assert "@" not in once and "2345678" not in once and "DE89" not in once
    assert redacted_text(once, regex_redactor()) == once


def test_without_presidio_the_error_says_what_to_install() -> None:
    with pytest.raises(CapabilityError, match=r"pip install 'turnwise\[presidio\]'"):
        presidio_redactor()
