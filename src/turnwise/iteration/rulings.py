"""What the data of a round say as numbers, and whether its new policy is promoted."""

from collections.abc import Sequence
from dataclasses import asdict

from turnwise.conversation import LoggedConversation
from turnwise.errors import LogsError
from turnwise.evaluation import (
    Arm,
    clustered_bootstrap_mean,
    ruling,
    sample_plan_from,
)
from turnwise.iteration.config import CollectConfig, ConfirmConfig
from turnwise.training.observer import Observer

_WARNED = 0.1  # share of censored steps from which on a person should look
_SEED = 0


def judged(arms: tuple[Arm, Arm], config: ConfirmConfig, *, is_paired: bool) -> dict[str, object]:
    """The ruling on the new policy (first arm) against the old one, as facts for JSON.

    A task plays the scenarios that it was told to; of logs the lift to be seen says how many
    conversations there must be.
    """
    new, old = arms
    found = ruling(
        old,
        new,
        is_paired=is_paired,
        needed=_pairs(new, old) if is_paired else _needed(old, config),
        margins=config.max_violation,
        alpha=config.alpha,
        looks=config.looks,
    )
    return {
        "verdict": found.verdict,
        "reasons": list(found.reasons),
        "missing": found.missing,
        "new": outcome_of(new),
        "old": outcome_of(old),
        "difference": asdict(found.comparison.score),
        "violations": {name: asdict(rise) for name, rise in found.comparison.violations.items()},
        "shared_customers": found.comparison.shared_customers,  # randomised by customer: 0
        "is_paired": is_paired,
    }


def _pairs(new: Arm, old: Arm) -> int:
    """Pairs that both have an outcome; at least 1."""
    pairs = zip(new.score, old.score, strict=True)
    return max(sum(None not in pair for pair in pairs), 1)


def _needed(old: Arm, config: ConfirmConfig) -> int:
    pairs = zip(old.score, old.customer, strict=True)
    known = [(score, customer) for score, customer in pairs if score is not None]
    plan = sample_plan_from(
        [score for score, _ in known],
        [customer for _, customer in known],
        config.lift,
        alpha=config.alpha,
        power=config.power,
        looks=config.looks,
    )
    return plan.per_arm


def outcome_of(arm: Arm) -> dict[str, object]:
    """Mean outcome with its interval over customers, and the mean of each violation."""
    interval = clustered_bootstrap_mean(arm.score, arm.customer, seed=_SEED)
    violations = {
        name: sum(counts) / max(len(counts), 1) for name, counts in arm.violations.items()
    }
    return {**asdict(interval), "violations": violations, "conversations": len(arm.score)}


def described(conversations: Sequence[LoggedConversation], arm: Arm) -> dict[str, object]:
    """What a round's conversations are like: outcome, violations, length."""
    turns = sum(len(conversation.decisions) for conversation in conversations)
    return {**outcome_of(arm), "turns": turns / max(len(conversations), 1)}


def check_censoring(share: float, config: CollectConfig, observer: Observer) -> None:
    """Warns where many outcomes are unknown. Raises LogsError where too many are."""
    if share > config.max_censored:
        raise LogsError(
            f"expected outcomes of at least {1 - config.max_censored:.0%} of the steps, found "
            f"{share:.1%} of them in conversations whose outcome is unknown; wait until their "
            "attribution window has closed, or join outcomes with turnwise logs import --outcomes"
        )
    if share > _WARNED:
        observer.warning(f"{share:.1%} of the steps have no outcome: they are prompts only")
