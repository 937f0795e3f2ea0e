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
