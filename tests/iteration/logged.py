"""Logged conversations small enough to check by eye."""

from collections.abc import Mapping
from dataclasses import replace

from turnwise.conversation import (
    EndReason,
    LoggedConversation,
    LoggedOutcome,
    PolicyFacts,
    Step,
)
from turnwise.iteration.config import IterateConfig
from turnwise.users.chance import uniform

V1 = PolicyFacts("v1")


def said(content: str, **more: object) -> Step:
    """A decision step of policy v1."""
    return replace(Step("assistant", content, author="model", policy=V1), **more)  # type: ignore[arg-type]


def heard(content: str) -> Step:
    return Step("user", content)


def logged(
    *steps: Step, outcome: float | None = 1.0, name: str = "c1", **more: object
) -> LoggedConversation:
    made = LoggedConversation(
        conversation_id=name,
        steps=steps,
        end_reason=EndReason.CENSORED if outcome is None else EndReason.OUTCOME,
        outcome=None if outcome is None else LoggedOutcome("sale", outcome),
    )
    return replace(made, **more)  # type: ignore[arg-type]


def three_turns(**more: object) -> LoggedConversation:
    return logged(
        heard("which day ?"), said("friday ."), heard("thanks"), said("bye"), heard("four"),
        said("book friday"), **more,  # type: ignore[arg-type]
    )  # fmt: skip


def settings(changes: Mapping[str, Mapping[str, object]] = {}, **top: object) -> IterateConfig:
    return IterateConfig.model_validate({**changes, **top})


def yes_or_no(number: int, *, second: float = 0.5, effect: float = 0.5) -> LoggedConversation:
    """Two replies, each yes or no; the second alone decides: success .2, with a yes .2 + effect.

    second: how often it is a yes. Conversations 2i and 2i + 1 are of one customer.
    """
    first_yes, second_yes, luck = (uniform(number, name) for name in ("first", "second", "luck"))
    is_yes = second_yes < second
    return logged(
        heard("hello"),
        said("yes" if first_yes < 0.5 else "no"),
        heard("go"),
        said("yes" if is_yes else "no"),
        outcome=float(luck < 0.2 + effect * is_yes),
        name=f"c{number:04d}",
        customer_key=f"hmac:{number // 2}",
    )
