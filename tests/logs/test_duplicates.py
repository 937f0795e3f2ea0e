"""A digest tells conversations apart by who said what, and by nothing else."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from turnwise.conversation import EndReason, LoggedConversation, Step, ToolCall
from turnwise.logs.duplicates import text_digest

words = st.text(st.sampled_from("ab,1 "), max_size=4)
said = st.lists(st.tuples(st.sampled_from(["user", "assistant"]), words), max_size=4)


def talk(*steps: Step) -> LoggedConversation:
    return LoggedConversation("c", steps, EndReason.CENSORED)


@given(first=said, second=said)
def test_digests_are_equal_exactly_where_roles_and_texts_are(
    first: list[tuple[str, str]], second: list[tuple[str, str]]
) -> None:
    digests = [text_digest(talk(*(Step(*one) for one in each))) for each in (first, second)]  # type: ignore[arg-type] # roles
    plain = [[(role, " ".join(text.split())) for role, text in each] for each in (first, second)]
    assert (digests[0] == digests[1]) == (plain[0] == plain[1])


def test_proposals_and_calls_count_and_ids_do_not() -> None:
    step = Step("assistant", "a", proposed="b", tool_calls=(ToolCall("t1", "f", "{}"),))
    same = replace(
        talk(replace(step, tool_calls=(ToolCall("t2", "f", "{}"),))), conversation_id="d"
    )
    assert text_digest(same) == text_digest(talk(step))
    for other in (
        replace(step, proposed="c"),
        replace(step, proposed=None),
        replace(step, tool_calls=(ToolCall("t1", "g", "{}"),)),
        replace(step, tool_calls=()),
    ):
        assert text_digest(talk(other)) != text_digest(talk(step))
