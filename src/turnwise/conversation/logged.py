"""A conversation that was held somewhere and written down: the canonical record `turnwise.log/1`.

Frozen, without tensors; files of it are the business of `records`. A *decision step* is a step of
the assistant. What a product did not record is None, never a made-up value.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

from turnwise.conversation.messages import Conversation, Message, Role, ToolCall

LOG_SCHEMA = "turnwise.log/1"

Author = Literal["model", "human"]
# What the person in front of the model did with its proposal: sent it, changed it, refused it; or
# the model proposed nothing.
Disposition = Literal["verbatim", "edited", "rejected", "abstained"]
OutcomeSource = Literal["crm", "classifier", "human", "task"]

_NONE: Mapping[str, float] = MappingProxyType({})


class EndReason(StrEnum):
    """Why a logged conversation ended."""

    OUTCOME = "outcome"
    USER_LEFT = "user_left"
    ASSISTANT_LEFT = "assistant_left"
    TIMEOUT = "timeout"  # the stated attribution window closed
    CENSORED = "censored"  # still open when the logs were taken: the outcome is unknown


@dataclass(frozen=True)
class LoggedOutcome:
    """What became of a conversation, in the product's own words and units."""

    name: str
    value: float  # within the return range of whoever fits to it; not clipped here
    observed_at: datetime | None = None
    window_h: float | None = None  # attribution window, hours
    source: OutcomeSource | None = None
    confidence: float | None = None  # in [0, 1]


@dataclass(frozen=True)
class Consent:
    """Whether the people in the conversation allow learning from it."""

    training: bool | None = None  # None: unknown
    basis: str | None = None
    retain_until: datetime | None = None


@dataclass(frozen=True)
class Redaction:
    """What took personal data out of the texts."""

    tool: str
    version: str
    map_id: str | None = None


@dataclass(frozen=True)
class Origin:
    """Where a conversation was read."""

    file: str
    line: int  # from 1; the row's number in Parquet
    reader: str


@dataclass(frozen=True)
class PolicyFacts:
    """Which model wrote a step, and how it sampled."""

    version: str
    weights_sha: str | None = None
    template_sha: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    finish: str | None = None  # "stop", "length", ...


@dataclass(frozen=True)
class Exploration:
    """Whether a step departed from the policy on purpose."""

    deviated: bool
    arm: str | None = None
    propensity: float | None = None  # in (0, 1]


@dataclass(frozen=True)
class Step:
    """One message of a logged conversation; the fields from `author` on are the assistant's."""

    role: Role
    content: str  # what was sent
    ts: datetime | None = None  # with its zone
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    author: Author | None = None
    disposition: Disposition | None = None
    proposed: str | None = None  # the model's own text where it differs from `content`: the action
    reward: float = 0.0  # arrives after this step; the outcome is not in it
    violations: Mapping[str, float] = field(default_factory=lambda: _NONE)
    context: Conversation | None = None  # the exact prompt, where it is not the steps before
    policy: PolicyFacts | None = None
    explore: Exploration | None = None
    logp_sum: float | None = None  # nats, as served
    token_ids: tuple[int, ...] | None = None  # as served
    token_logp: tuple[float, ...] | None = None  # nats, as served
    is_scored: bool = True  # False: the exporter asked that it be no training step (weight 0)

    @property
    def is_decision(self) -> bool:
        return self.role == "assistant"

    @property
    def message(self) -> Message:
        return Message(self.role, self.content, self.name, self.tool_calls, self.tool_call_id)


@dataclass(frozen=True)
class LoggedConversation:
    """A conversation with what is known of how it was led and what became of it."""

    conversation_id: str
    steps: tuple[Step, ...]
    end_reason: EndReason
    outcome: LoggedOutcome | None = None  # None: censored, never 0
    customer_key: str | None = None  # "hmac:…"
    tenant: str | None = None
    language: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    violations: Mapping[str, float] = field(default_factory=lambda: _NONE)
    consent: Consent = Consent()
    redaction: Redaction | None = None
    origin: Origin | None = None

    @property
    def customer(self) -> str:
        """Whom folds and intervals keep together: the customer, or where none is known the
        conversation itself."""
        return self.customer_key or self.conversation_id

    @property
    def conversation(self) -> Conversation:
        return tuple(step.message for step in self.steps)

    @property
    def decisions(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.is_decision)
