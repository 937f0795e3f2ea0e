"""What limits the use of logs is counted as the method page says."""

from dataclasses import replace

import pytest

from turnwise.conversation import (
    EndReason,
    LoggedConversation,
    LoggedOutcome,
    Message,
    PolicyFacts,
    Step,
)
from turnwise.logs.cautions import Cautions
from turnwise.logs.options import LEAK_WORDS

REPLY = Step("assistant", "yes")


def held(num_turns: int = 1, *, is_open: bool = True, reply: Step = REPLY) -> LoggedConversation:
    """`num_turns` questions, each with the same answer."""
    end, outcome = EndReason.CENSORED, None
    if not is_open:
        end, outcome = EndReason.OUTCOME, LoggedOutcome("sale", 0.0)
    return LoggedConversation("c", (Step("user", "well?"), reply) * num_turns, end, outcome)


def found(*conversations: LoggedConversation) -> dict[str, float]:
    cautions = Cautions(LEAK_WORDS)
    for conversation in conversations:
        cautions.see(conversation)
    return cautions.found()


@pytest.mark.parametrize(
    ("name", "facts", "expected"),
    [
        ("unknown_policy_version", {"policy": None}, 1),
        ("unknown_policy_version", {"author": "human"}, 0),
        ("unknown_policy_version", {"policy": PolicyFacts("pi_0")}, 0),
        ("sampling_not_at_1", {"policy": PolicyFacts("v", temperature=0.0)}, 1),
        ("sampling_not_at_1", {"policy": PolicyFacts("v", temperature=1.0, top_p=0.9)}, 1),
        ("sampling_not_at_1", {"policy": PolicyFacts("v", temperature=1.0)}, 0),
        ("finish_not_stop", {"policy": PolicyFacts("v", finish="length")}, 1),
        ("finish_not_stop", {"policy": PolicyFacts("v", finish="tool_calls")}, 0),
        ("edited", {"disposition": "edited"}, 1),
        ("rejected_share", {"disposition": "rejected"}, 1.0),
    ],
)
def test_steps_are_counted(name: str, facts: dict[str, object], expected: float) -> None:
    reply = replace(REPLY, **facts)  # type: ignore[arg-type] # any field
    assert found(held(reply=reply))[name] == expected


def test_censoring_is_compared_with_length() -> None:
    # lengths 1, 2, 3; the longest is open: Sxy = 3 - 6·1/3 = 1, Sxx = 2, Syy = 2/3, r = 1/√(4/3)
    conversations = (held(1, is_open=False), held(2, is_open=False), held(3))
    warnings = found(*conversations)
    assert warnings["censored"] == 1
    assert warnings["censored_share"] == pytest.approx(1 / 3)
    assert warnings["censored_length_correlation"] == pytest.approx((3 / 4) ** 0.5)
    assert found(held(1), held(3))["censored_length_correlation"] == 0  # all open
    assert found()["censored_share"] == 0


def test_whoever_left_without_an_outcome_is_censored() -> None:
    assert found(replace(held(), end_reason=EndReason.USER_LEFT))["censored"] == 1


@pytest.mark.parametrize(
    ("before", "context", "expected"),
    [
        ("CRM: Closed Won on Monday", None, 1),
        ("deal wonder", None, 0),
        ("well?", (Message("system", "label: 1"),), 1),
    ],
)
def test_words_of_the_outcome_before_a_scored_reply_are_a_possible_leak(
    before: str, context: tuple[Message, ...] | None, expected: int
) -> None:
    steps = (Step("user", before), Step("assistant", "deal won", context=context))
    conversation = LoggedConversation("c", steps, EndReason.CENSORED)
    assert found(conversation)["possible_label_leak"] == expected
    unscored = replace(conversation, steps=(steps[0], replace(steps[1], is_scored=False)))
    assert found(unscored)["possible_label_leak"] == 0
