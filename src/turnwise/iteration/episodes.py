"""Logged conversations as rows that a model reads, with what each decision step was followed by.

Axes: `B` rows, `K` decision steps of a row, `T` tokens.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from turnwise.advantages import reward_to_go
from turnwise.conversation import LoggedConversation, Step, Trajectory
from turnwise.errors import LogsError, OneOutcomeError, OutcomeError
from turnwise.iteration.config import IterateConfig, QConfig
from turnwise.iteration.folds import fold_of
from turnwise.iteration.rows import Row, RowBuilder, rewritten_by
from turnwise.qvalues import has_monte_carlo_target, rewards_with_outcome
from turnwise.tokens import ChatFormat

_DIGITS = 9  # of returns: sums of rewards are not to leave the range by rounding


@dataclass(frozen=True)
class Episode:
    """One row: a whole conversation, or where the template is no prefix one decision step of it.

    `trajectory.turns` are the decision steps that the row holds; its tuples here have one entry
    for each of them.
    """

    conversation_id: str
    customer: str
    fold: int  # 0 (A) or 1 (B): a keyed function of the customer, the same in all rounds
    round: int  # in which it was collected
    trajectory: Trajectory
    turn_index: tuple[int, ...]  # which decision step of the conversation each turn is, from 0
    num_steps: int  # of the whole conversation
    collected_by: str | None  # policy version whose returns `has_mc` are; None: whoever wrote them
    reward: tuple[float, ...]  # after each decision step; the outcome is paid on the last
    mc_return: tuple[float, ...]  # G from each step on; a sample of Q only where `has_mc`
    outcome: float | None  # of the conversation; None: unknown
    is_censored: bool  # the outcome is unknown: no Monte Carlo target
    is_last: tuple[bool, ...]  # the conversation's last decision step
    is_human: tuple[bool, ...]  # written by a person alone: trains Q through FQE only
    trains_q: tuple[bool, ...]  # written by a model, version known, not taken out by the exporter
    has_mc: tuple[bool, ...]  # G is a sample of Q of the policy: all later steps are its own
    tenant: str | None = None
    language: str | None = None
    version: tuple[str | None, ...] = ()  # policy version of each decision step


@dataclass(frozen=True)
class Prompt:
    """A state from which the policy is to speak."""

    conversation_id: str
    customer: str
    fold: int
    turn_index: int
    token_ids: tuple[int, ...]  # generation prompt included
    weight: float  # γ^t, or one share of the conversation


def build_episodes(
    conversations: Iterable[LoggedConversation],
    chat: ChatFormat,
    config: IterateConfig,
    *,
    round: int,
    version: str | None,
) -> tuple[list[Episode], dict[str, float]]:
    """The conversations of one round as rows, and counts of what they are and what was left out.

    version: of the policy that collected them; None: whoever wrote them, whose Q it then is.
    Reads of the settings: rollout.max_conversation_tokens (the context), turn_discount,
    violation_weight, project_salt and the return range.
    Raises LogsError for a conversation whose consent forbids training, or without a decision step;
    OutcomeError naming value, conversation and range for a return outside the range.
    """
    facts: Counter[str] = Counter()
    builder = RowBuilder(chat, config.rollout.max_conversation_tokens, rewritten_by(chat), facts)
    episodes = []
    for conversation in conversations:
        check_usable(conversation)
        past = _past(conversation, config, version)
        rows = builder.rows(conversation)
        episodes += [_episode(conversation, row, past, config.project_salt, round) for row in rows]
        facts["conversations"] += 1
        facts["rows"] += len(rows)
        facts.update(_step_facts(conversation, past))
    counts: dict[str, float] = {**dict.fromkeys(("conversations", "steps", "rows"), 0), **facts}
    return episodes, counts | {"censored_share": facts["censored_steps"] / max(facts["steps"], 1)}


def prompts_of(
    episodes: Iterable[Episode],
    *,
    discount: float,
    weighting: Literal["discount", "per_conversation"] = "discount",
) -> list[Prompt]:
    """Every decision step as a state to speak from: censored and human-written ones too.

    weighting: γ^t, the weight of the first exact gradient; or 1/turns of the conversation.
    """
    return [
        Prompt(
            conversation_id=episode.conversation_id,
            customer=episode.customer,
            fold=episode.fold,
            turn_index=k,
            token_ids=episode.trajectory.token_ids[: turn.start],
            weight=discount**k if weighting == "discount" else 1 / episode.num_steps,
        )
        for episode in episodes
        for k, turn in zip(episode.turn_index, episode.trajectory.turns, strict=True)
    ]


def check_outcomes(episodes: Iterable[Episode]) -> None:
    """Raises OneOutcomeError unless at least two different outcomes are known."""
    known = {e.conversation_id: e.outcome for e in episodes if e.outcome is not None}
    found = Counter(known.values())
    if len(found) < 2:
        what = next((f"{count:,} × {value:g}" for value, count in found.items()), "none known")
        raise OneOutcomeError(
            f"expected both outcomes, found {what}: there is nothing to tell replies apart by; "
            "collect more conversations, or wait until their outcomes are known. Prompts may "
            "still be exported"
        )


def check_disjoint(one: Iterable[str], other: Iterable[str], names: tuple[str, str]) -> None:
    """Raises LogsError if a customer is on both sides of a given split."""
    shared = sorted(set(one) & set(other))
    if shared:
        raise LogsError(
            f"customer_in_both_splits: expected disjoint customers, found {len(shared)} in "
            f"{names[0]} and {names[1]} (first {shared[0]}); split by customer"
        )


@dataclass(frozen=True)
class _Past:
    """What is known of a conversation's decision steps, one entry for each."""

    version: str | None
    steps: Sequence[Step]
    reward: list[float]
    mc_return: list[float]
    is_human: list[bool]
    trains_q: list[bool]
    has_mc: list[bool]


def _past(conversation: LoggedConversation, config: IterateConfig, version: str | None) -> _Past:
    steps, cost = conversation.decisions, config.violation_weight
    plain = [step.reward - cost * sum(step.violations.values()) for step in steps]
    plain[-1] -= cost * sum(conversation.violations.values())
    outcome = math.nan if conversation.outcome is None else conversation.outcome.value
    is_step_1K = torch.ones(1, len(steps), dtype=torch.bool)
    outcome_1 = torch.tensor([outcome], dtype=torch.float64)
    plain_1K = torch.tensor([plain], dtype=torch.float64)
    reward_1K = rewards_with_outcome(plain_1K, outcome_1, is_step_1K)
    return_1K = reward_to_go(reward_1K, is_step_1K, discount=config.turn_discount)
    own_1K = torch.tensor([[is_own(step, version) for step in steps]])
    past = _Past(
        version,
        steps,
        reward=reward_1K[0].tolist(),
        mc_return=[round(g, _DIGITS) for g in return_1K[0].tolist()],
        is_human=[_is_human(step) for step in steps],
        trains_q=[_trains_q(step, version) for step in steps],
        has_mc=has_monte_carlo_target(is_step_1K, own_1K, outcome_1.isnan())[0].tolist(),
    )
    _check_range(conversation, past, config.q)
    return past


def _is_human(step: Step) -> bool:
    """Written by a person, and nothing is known that the model had proposed in its place."""
    if step.proposed is not None or step.disposition in ("verbatim", "abstained"):
        return False
    return step.author == "human" or step.disposition in ("edited", "rejected")


def is_own(step: Step, version: str | None) -> bool:
    """Whether the policy itself wrote it, as it speaks when nobody explores.

    version: of the policy; None: whoever wrote the logs.
    """
    has_deviated = step.explore is not None and step.explore.deviated
    is_version = version is None or (step.policy is not None and step.policy.version == version)
    return is_version and not has_deviated and not _is_human(step)


def _trains_q(step: Step, version: str | None) -> bool:
    return not _is_human(step) and step.is_scored and (version is None or step.policy is not None)


def check_usable(conversation: LoggedConversation) -> None:
    """Raises LogsError where consent forbids training, or no step is a decision."""
    if conversation.consent.training is False:
        raise LogsError(
            f"conversation {conversation.conversation_id}: consent_refused: expected consent to "
            "training or none stated, found training: false; remove it, nothing was fitted"
        )
    if not conversation.decisions:
        raise LogsError(
            f"conversation {conversation.conversation_id}: no_decision_step: expected at least one "
            "assistant message, found none; remove it"
        )


def _check_range(conversation: LoggedConversation, past: _Past, q: QConfig) -> None:
    for k, g in enumerate(past.mc_return):
        if not math.isnan(g) and not q.return_low <= g <= q.return_high:
            raise OutcomeError(
                f"conversation {conversation.conversation_id}, decision step {k}: expected a "
                f"return in [{q.return_low:g}, {q.return_high:g}], found {g:g}; set q.return_low "
                "and q.return_high to hold every return (it is never clipped)"
            )


def _episode(
    conversation: LoggedConversation, row: Row, past: _Past, salt: str, round: int
) -> Episode:
    kept = row.turn_index
    policies = [past.steps[k].policy for k in kept]
    return Episode(
        conversation_id=conversation.conversation_id,
        customer=conversation.customer,
        fold=fold_of(conversation.customer, salt),
        round=round,
        trajectory=row.trajectory,
        turn_index=kept,
        num_steps=len(past.steps),
        collected_by=past.version,
        reward=tuple(past.reward[k] for k in kept),
        mc_return=tuple(past.mc_return[k] for k in kept),
        outcome=conversation.outcome.value if conversation.outcome else None,
        is_censored=conversation.outcome is None,
        is_last=tuple(k == len(past.steps) - 1 for k in kept),
        is_human=tuple(past.is_human[k] for k in kept),
        trains_q=tuple(past.trains_q[k] for k in kept),
        has_mc=tuple(past.has_mc[k] for k in kept),
        tenant=conversation.tenant,
        language=conversation.language,
        version=tuple(policy.version if policy else None for policy in policies),
    )


def _step_facts(conversation: LoggedConversation, past: _Past) -> dict[str, int]:
    steps = past.steps
    return {
        "steps": len(steps),
        "censored_steps": len(steps) if conversation.outcome is None else 0,
        "human_steps": sum(past.is_human),
        "unknown_version": sum(step.policy is None for step in steps),
        "deviated_steps": sum(bool(step.explore and step.explore.deviated) for step in steps),
        "mc_steps": sum(past.has_mc),
    }
