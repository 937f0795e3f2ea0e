"""Logs of `sell`: conversations as a shop would have kept them, led by sellers of known quality.

People stand between the model and some customers, some conversations are still open, some sellers
explore. The same arguments give the same logs.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import blake2b
from pathlib import Path
from typing import Literal, get_args

from turnwise.conversation import (
    Consent,
    EndReason,
    Exploration,
    LoggedConversation,
    LoggedOutcome,
    Message,
    PolicyFacts,
    Step,
)
from turnwise.errors import ConfigError
from turnwise.records import write_text_atomically
from turnwise.tasks.game import RuleTask
from turnwise.tasks.knobs import check_range, unknown
from turnwise.tasks.sell import SellGame, SellScenario, SellState, drawn
from turnwise.tasks.sell_sellers import SELLERS, Plan, choices
from turnwise.users.chance import Key, happens, pick, uniform

LogPolicy = Literal["novice", "average", "pushy", "expert", "mixed"]  # mixed: drawn for each

_OPENED = datetime(2026, 1, 5, 9, tzinfo=UTC)
_TENANTS = {"north": timezone(timedelta(hours=1)), "south": UTC}
_WINDOW_H = 72.0
_VIOLATION = "violation/"


@dataclass(frozen=True)
class LogShares:
    """How much of each complication there is. Shares are in [0, 1]."""

    edited: float = 0.06  # of proposals that a person mends before sending
    rejected: float = 0.03  # of proposals in whose place a person writes
    explored: float = 0.2  # of conversations with one turn in which the seller may deviate
    censored: float = 0.08  # of conversations that are still open
    consent_refused: float = 0.03
    consent_unknown: float = 0.1
    conversations_per_customer: int = 3  # on average

    def __post_init__(self) -> None:
        for name in ("edited", "rejected", "explored", "censored"):
            check_range(name, getattr(self, name), 0.0, 1.0)
        check_range("edited + rejected", self.edited + self.rejected, 0.0, 1.0)
        check_range("consent", self.consent_refused + self.consent_unknown, 0.0, 1.0)
        check_range("conversations_per_customer", self.conversations_per_customer, 1, 10**6)


_SHARES = LogShares()


def generate_logs(
    task: RuleTask[SellScenario, SellState],
    policy: LogPolicy,
    conversations: int,
    seed: int,
    shares: LogShares = _SHARES,
) -> Iterator[LoggedConversation]:
    """Conversations of one policy, oldest first; "mixed" draws one of four for each.

    The policy version of a step is "seller-{name}". Raises ConfigError for an unknown policy or a
    task that is not `sell`.
    """
    if policy not in get_args(LogPolicy):
        raise unknown("policy", policy, get_args(LogPolicy))
    if not isinstance(task.game, SellGame):
        raise ConfigError(f"expected the task 'sell', found {task.name!r}")
    customers = max(1, conversations // shares.conversations_per_customer)
    for number in range(conversations):
        key = ("sell logs", seed, number)
        name = pick(tuple(SELLERS), *key, "policy") if policy == "mixed" else policy
        customer = int(uniform(*key, "customer") * customers)
        yield _Recorder(task, task.game, name, key, shares).conversation(number, customer)


@dataclass(frozen=True)
class _Recorder:
    """Leads one conversation and writes it down."""

    task: RuleTask[SellScenario, SellState]
    game: SellGame
    seller: str
    key: tuple[Key, ...]
    shares: LogShares

    def conversation(self, number: int, customer: int) -> LoggedConversation:
        seed = self.key[1]
        tenant = pick(tuple(_TENANTS), "sell logs", seed, "tenant", customer)
        start = _OPENED + timedelta(minutes=11 * number + 10 * uniform(*self.key, "start"))
        scenario = self.task.scenario(int(uniform(*self.key, "scenario") * 2**40))
        steps, value = self._talk(scenario, start.astimezone(_TENANTS[tenant]))
        found = LoggedConversation(
            conversation_id=f"s{seed}-{number:06d}",
            steps=tuple(steps),
            end_reason=EndReason.USER_LEFT if _is_unanswered(steps) else EndReason.OUTCOME,
            outcome=self._outcome(value, steps),
            customer_key=_customer_key(seed, customer),
            tenant=tenant,
            language=pick(("en-GB", "en-US"), "sell logs", seed, "language", customer),
            started_at=steps[0].ts,
            ended_at=steps[-1].ts,
            consent=self._consent(customer),
        )
        return self._cut(found) if happens(self.shares.censored, *self.key, "censored") else found

    def _talk(self, scenario: SellScenario, start: datetime) -> tuple[list[Step], float]:
        """Every message, and what became of it."""
        noise = int(uniform(*self.key, "noise") * 2**40)
        key = (scenario.id, scenario.seed, noise)  # as the task draws
        state = self.game.start(scenario)
        steps = [Step("user", self.game.opening(scenario), start)]
        while not state.view.is_over:
            step = self._spoken(scenario, state, self._later(steps))
            steps.append(step)
            state = self.game.hear(scenario, state, step.content, key)
            reply = self.game.reply(scenario, state, key)
            if reply.message is not None:
                steps.append(Step("user", reply.message.content, self._later(steps)))
        said = tuple(step.message for step in steps)
        score = self.task.outcome(scenario, said, noise).score
        assert score is not None, "a rule-based outcome is always known"
        return self._with_violations(scenario, said, steps), score

    def _later(self, steps: list[Step]) -> datetime:
        at = steps[-1].ts
        assert at is not None, "every step here is dated"
        return at + timedelta(seconds=5 + int(175 * uniform(*self.key, "pause", len(steps))))

    def _spoken(self, scenario: SellScenario, state: SellState, at: datetime) -> Step:
        """The model's proposal, and what the person beside it sent."""
        view, key = state.view, (*self.key, state.view.turn)
        explore = self._explore(view.turn)
        seller = SELLERS[explore.arm if explore and explore.arm else self.seller]
        options = choices(self.game.knobs, seller, view)
        plan = drawn(options, uniform(*key, "plan"))
        proposed = self.game.text(scenario, view, plan, key)
        step = Step(
            "assistant",
            proposed,
            at,
            author="model",
            disposition="verbatim",
            policy=PolicyFacts(f"seller-{self.seller}", None, None, 1.0, 1.0, 48, "stop"),
            explore=explore,
        )
        return self._overseen(step, scenario, state, plan)

    def _overseen(self, step: Step, scenario: SellScenario, state: SellState, plan: Plan) -> Step:
        """A person mends the faults of a proposal, or writes what the expert would."""
        view, key = state.view, (*self.key, state.view.turn)
        draw = uniform(*key, "overseen")
        if draw >= self.shares.edited + self.shares.rejected:
            return step
        is_edited = draw < self.shares.edited
        if is_edited:
            better = plan._replace(is_careless=False, is_false=False)
        else:
            better = drawn(choices(self.game.knobs, SELLERS["expert"], view), uniform(*key, "own"))
        sent = self.game.text(scenario, view, better, (*key, "person"))
        if sent == step.content:
            return step
        disposition: Literal["edited", "rejected"] = "edited" if is_edited else "rejected"
        return replace(
            step, content=sent, author="human", disposition=disposition, proposed=step.content
        )

    def _explore(self, turn: int) -> Exploration | None:
        """One turn, drawn evenly beforehand, is led by one of the other sellers.

        propensity: of what happened at this turn, this arm or none.
        """
        if not happens(self.shares.explored, *self.key, "explores"):
            return None
        turns, arms = self.task.max_turns, [name for name in SELLERS if name != self.seller]
        if turn != int(uniform(*self.key, "deviates") * turns):
            return Exploration(False, None, 1 - 1 / turns if turns > 1 else None)
        return Exploration(True, pick(arms, *self.key, "arm"), 1 / (turns * len(arms)))

    def _with_violations(
        self, scenario: SellScenario, said: tuple[Message, ...], steps: list[Step]
    ) -> list[Step]:
        rewards = iter(self.task.turn_rewards(scenario, said))
        return [
            replace(
                step,
                violations={name.removeprefix(_VIOLATION): n for name, n in next(rewards).items()},
            )
            if step.is_decision
            else step
            for step in steps
        ]

    def _outcome(self, value: float, steps: list[Step]) -> LoggedOutcome:
        at = steps[-1].ts
        assert at is not None, "every step here is dated"
        hours = uniform(*self.key, "observed") if value else _WINDOW_H
        return LoggedOutcome("purchase", value, at + timedelta(hours=hours), _WINDOW_H, "crm")

    def _consent(self, customer: int) -> Consent:
        draw = uniform("sell logs", self.key[1], "consent", customer)
        if draw < self.shares.consent_refused:
            return Consent(False)
        if draw < self.shares.consent_refused + self.shares.consent_unknown:
            return Consent(None)
        return Consent(True, "contract")

    def _cut(self, conversation: LoggedConversation) -> LoggedConversation:
        """The conversation while it was still open: some reply of the assistant is the last."""
        spoken = [i for i, step in enumerate(conversation.steps) if step.is_decision]
        steps = conversation.steps[: pick(spoken, *self.key, "cut") + 1]
        return replace(
            conversation,
            steps=steps,
            end_reason=EndReason.CENSORED,
            outcome=None,
            ended_at=steps[-1].ts,
        )


def _is_unanswered(steps: list[Step]) -> bool:
    return steps[-1].is_decision


def _customer_key(seed: Key, customer: int) -> str:
    return "hmac:" + blake2b(f"{seed}/{customer}".encode(), digest_size=16).hexdigest()


def write_raw_logs(
    conversations: Iterable[LoggedConversation], messages: Path, outcomes: Path
) -> None:
    """The same as an export would hold them: chats as JSON lines, the shop's outcomes as CSV.

    messages: OpenAI's shape with what was kept beside it. outcomes: conversation_id, purchase,
    observed_at; no row for a conversation that is still open. Raises RunFolderError if the system
    refuses.
    """
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("conversation_id", "purchase", "observed_at"))
    lines = []
    for conversation in conversations:
        lines.append(json.dumps(_raw(conversation)) + "\n")
        if conversation.outcome is not None:
            outcome = conversation.outcome
            rows.writerow(
                (conversation.conversation_id, f"{outcome.value:g}", _time(outcome.observed_at))
            )
    write_text_atomically(messages, "".join(lines))
    write_text_atomically(outcomes, table.getvalue())


def _raw(conversation: LoggedConversation) -> dict[str, object]:
    consent = conversation.consent.training
    return {
        "conversation_id": conversation.conversation_id,
        "customer_id": conversation.customer.removeprefix("hmac:"),
        "tenant": conversation.tenant,
        "language": conversation.language,
        **({} if consent is None else {"consent": {"training": consent}}),
        "messages": [_raw_message(step) for step in conversation.steps],
    }


def _raw_message(step: Step) -> dict[str, object]:
    message: dict[str, object] = {
        "role": step.role,
        "content": step.content,
        "timestamp": _time(step.ts),
    }
    if not step.is_decision:
        return message
    if step.policy is not None:
        facts = ("version", "temperature", "top_p", "max_tokens", "finish")
        message["policy"] = {name: getattr(step.policy, name) for name in facts}
    if step.explore is not None:
        message["explore"] = {
            "deviated": step.explore.deviated,
            "arm": step.explore.arm,
            "propensity": step.explore.propensity,
        }
    optional = {"author": step.author, "disposition": step.disposition, "proposed": step.proposed}
    told = {name: value for name, value in optional.items() if value is not None}
    return {**message, **told, "violations": dict(step.violations)}


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="microseconds")
