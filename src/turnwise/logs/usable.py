"""What logs can be used for, and what is to be known before: features, and warnings in words.

Each feature needs a field; without it it is off, or on for a share of the logs only.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb


@dataclass(frozen=True)
class Feature:
    """Something the library does with logs, and the share of them that it can be done with."""

    name: str
    share: float  # of conversations, or of the assistant's steps, that have what is needed
    needs: str  # the field
    otherwise: str  # what happens where it is missing

    @property
    def is_off(self) -> bool:
        return self.share == 0


# name, table, condition in SQL, field, what happens without
_FEATURES = (
    (
        "fitting Q",
        "conversations",
        "value IS NOT NULL",
        "outcome",
        "conversations without one are censored: prompts, never a target of 0",
    ),
    (
        "folds and intervals by customer",
        "conversations",
        "is_known",
        "customer_key",
        "the conversation stands in for the customer: intervals are too narrow if customers return",
    ),
    (
        "telling whose policy wrote a step",
        "decisions",
        "version IS NOT NULL OR author = 'human'",
        "steps.policy.version",
        "Q evaluates whoever wrote the logs; fresh and old data cannot be told apart",
    ),
    (
        "the model's own action where a person sends",
        "decisions",
        "disposition IS NOT NULL",
        "steps.disposition, steps.proposed",
        "what was sent is taken for what the model wrote",
    ),
    (
        "exploration",
        "decisions",
        "propensity IS NOT NULL",
        "steps.explore.propensity",
        "no step is known to deviate; all count as the policy's own choice",
    ),
    (
        "replies as they were sampled",
        "decisions",
        "has_tokens",
        "steps.token_ids",
        "replies are tokenised again, which may split them otherwise than the model did",
    ),
    (
        "checking the sampling",
        "decisions",
        "temperature IS NOT NULL AND top_p IS NOT NULL",
        "steps.policy.temperature, steps.policy.top_p",
        "sampling at another temperature than 1, or from a cut distribution, cannot be seen",
    ),
    (
        "order and durations",
        "decisions",
        "is_dated",
        "steps.ts",
        "the order of the file is taken for the order of events",
    ),
    (
        "closing the attribution window",
        "conversations",
        "window_h IS NOT NULL OR is_dated",
        "outcome.window_h, outcome.observed_at",
        "an outcome that came late cannot be told from one that never came",
    ),
    (
        "violations with a price of their own",
        "conversations",
        "is_priced",
        "violations",
        "the outcome alone is the goal, whatever it was reached with",
    ),
    (
        "calibration by tenant",
        "conversations",
        "tenant IS NOT NULL",
        "tenant",
        "one calibration for all",
    ),
    (
        "calibration by language",
        "conversations",
        "language IS NOT NULL",
        "language",
        "one calibration for all",
    ),
    (
        "consent at the fit",
        "conversations",
        "training IS NOT NULL",
        "consent.training",
        "unknown consent is not refused unless --require-consent is given at the import",
    ),
    (
        "redacted texts",
        "conversations",
        "is_redacted",
        "redaction",
        "texts are as they were exported",
    ),
)


def features_of(base: duckdb.DuckDBPyConnection) -> list[Feature]:
    """Every feature with the share of the logs that it can be used with.

    base: the tables `conversations` and `decisions` of the data card.
    """
    found = []
    for name, table, condition, needs, otherwise in _FEATURES:
        row = base.execute(f"SELECT avg(({condition})::INT) FROM {table}").fetchone()
        found.append(Feature(name, float(row[0] or 0.0) if row else 0.0, needs, otherwise))
    return found


# Caution -> what is counted, and what it means.
_CAUTIONS = {
    "unknown_policy_version": (
        "decision steps",
        "the policy that wrote them is unknown; write its version beside each step",
    ),
    "sampling_not_at_1": (
        "decision steps",
        "sampled at another temperature or top_p than 1: another policy than the one scored",
    ),
    "finish_not_stop": ("decision steps", "cut off before their end"),
    "edited": ("decision steps", "edited by a person before they were sent"),
    "rejected": ("decision steps", "rejected by a person"),
    "censored": ("conversations", "no outcome yet: prompts, never a target of 0"),
    "consent_unknown": ("conversations", "consent to training unknown; --require-consent refuses"),
    "customer_unknown": ("conversations", "customer unknown: intervals may be too narrow"),
    "possible_label_leak": (
        "conversations",
        "words of the outcome stand before a scored reply; a Q that reads them learns nothing else",
    ),
}
_TELLING = 0.1  # |correlation| from which on a warning says it


def warnings_of(counts: Mapping[str, float], conversations: int) -> list[str]:
    """What `Cautions` counted, in words; only what was found.

    counts: as `Cautions.found` gives them. conversations: that were counted.
    """
    said = []
    totals = {"conversations": conversations, "decision steps": int(counts.get("decisions", 0))}
    for name, (unit, meaning) in _CAUTIONS.items():
        count = int(counts.get(name, 0))
        if count:
            share = count / max(totals[unit], 1)
            said.append(f"{name}: {count:,} of {totals[unit]:,} {unit} ({share:.1%}): {meaning}")
    correlation = counts.get("censored_length_correlation", 0.0)
    if abs(correlation) >= _TELLING:
        which = "longer" if correlation > 0 else "shorter"
        said.append(
            f"censored_length_correlation: {correlation:+.2f}: {which} conversations are censored "
            "more often, so that those with an outcome are no fair sample"
        )
    return said
