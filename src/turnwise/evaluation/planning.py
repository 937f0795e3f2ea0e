"""How many conversations a comparison of two policies needs, and what it says when it has them.

Axes: `N` conversations, in any order. Conversations of one customer resemble each other, so
customers are randomised and resampled, never single conversations. A score of None means censored:
it is left out and counted, never taken as 0.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from types import MappingProxyType
from typing import Literal

import numpy as np

from turnwise.errors import ConfigError, GroupError, ShapeError
from turnwise.evaluation.statistics import (
    Interval,
    clustered_bootstrap_difference,
    paired_difference,
)

Verdict = Literal["promote", "reject", "null", "continue"]

_BOOTSTRAP_SEED = 0
_NO_MARGINS: Mapping[str, float] = MappingProxyType({})


def sample_size(
    sum_of_variances: float,
    difference: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    design_effect: float = 1.0,
) -> int:
    """Conversations per arm (pairs, of paired scenarios) that show a difference.

        n = ⌈⌈(z_{1−α/2} + z_{power})² · (σ₁² + σ₂²) / difference²⌉ · design effect⌉

    sum_of_variances: of the two arms, squared outcome units; of paired scenarios the variance of
    the difference. difference: outcome units. alpha: two-sided; divide it by the number of declared
    looks. power: chance to see the difference where it is there.
    Raises ConfigError for a difference of 0, or shares outside (0, 1).
    Source: Fleiss, Levin & Paik 2003, eq. 4.14 without continuity correction.
    """
    if difference == 0 or not math.isfinite(difference) or not sum_of_variances >= 0:
        raise ConfigError(
            f"expected a difference other than 0 and a variance of 0 or more, found {difference} "
            f"and {sum_of_variances}; name the smallest lift that is worth a release"
        )
    if not (0 < alpha < 1 and 0 < power < 1 and design_effect > 0):
        raise ConfigError(
            f"expected alpha and power between 0 and 1 and a design effect above 0, found {alpha}, "
            f"{power} and {design_effect}; 0.05, 0.8 and 1 are common"
        )
    z = NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)
    return math.ceil(math.ceil(z**2 * sum_of_variances / difference**2) * design_effect)


def binary_variances(before: float, after: float) -> float:
    """p₁(1 − p₁) + p₂(1 − p₂): the sum of variances of two success rates.

    Raises ConfigError for a rate outside [0, 1].
    """
    if not (0 <= before <= 1 and 0 <= after <= 1):
        raise ConfigError(
            f"expected two rates in [0, 1], found {before:g} and {after:g}; a lift is added to the "
            "baseline: 0.02 takes 0.10 to 0.12"
        )
    return before * (1 - before) + after * (1 - after)


def design_effect(per_customer: float, icc: float) -> float:
    """1 + (m − 1)·ICC: how many times more conversations are needed because customers come again.

    per_customer: m, conversations of a customer, 1 or more. icc: intraclass correlation of their
    outcomes; a negative estimate counts as 0.
    Raises ConfigError for m below 1 or an ICC above 1.
    Source: Kish 1965, section 5.4.
    """
    if per_customer < 1 or not icc <= 1:
        raise ConfigError(
            f"expected 1 or more conversations per customer and an ICC of at most 1, found "
            f"{per_customer:g} and {icc:g}"
        )
    return 1 + (per_customer - 1) * max(icc, 0.0)


def intraclass_correlation(
    value_N: Sequence[float], customer_N: Sequence[Hashable]
) -> tuple[float, float]:
    """ICC of the values within customers, and the m that goes with it in `design_effect`.

        ICC = (MSB − MSW) / (MSB + (n₀ − 1)·MSW),   n₀ = (N − Σ n_c² / N) / (C − 1)
        m   = Σ n_c² / N      the mean size of the customer that a conversation belongs to

    MSB, MSW: mean squares between and within customers. The ICC is 0 where no customer comes
    twice, or all values are equal; it may be negative.
    Raises ShapeError if the lengths differ, GroupError for fewer than two customers.
    Source: Donner 1986, International Statistical Review 54, eq. 2.1 (ANOVA estimator).
    """
    if len(value_N) != len(customer_N):
        raise ShapeError(f"{len(value_N)} values of {len(customer_N)} customers; give one for each")
    names, index_N = np.unique(np.asarray(customer_N, dtype=str), return_inverse=True)
    if len(names) < 2:
        raise GroupError(f"expected two or more customers, found {len(names)}; collect more logs")
    x_N = np.asarray(value_N, dtype=np.float64)
    size_C = np.bincount(index_N).astype(np.float64)
    mean_C = np.bincount(index_N, weights=x_N) / size_C
    total, customers = float(len(x_N)), float(len(names))
    per_customer = float((size_C**2).sum() / total)
    if total == customers:
        return 0.0, 1.0
    between = float((size_C * (mean_C - x_N.mean()) ** 2).sum()) / (customers - 1)
    within = float(((x_N - mean_C[index_N]) ** 2).sum()) / (total - customers)
    typical = (total - per_customer) / (customers - 1)
    scale = between + (typical - 1) * within
    return (between - within) / scale if scale > 0 else 0.0, per_customer


@dataclass(frozen=True)
class SamplePlan:
    """How many conversations per arm show a lift, and from what that follows."""

    baseline: float  # mean outcome of the policy that is there
    lift: float
    alpha: float  # of one look
    power: float
    per_customer: float  # conversations of a customer
    icc: float  # of their outcomes
    per_arm: int  # conversations


def sample_plan(
    baseline: float,
    lift: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    looks: int = 1,
    per_customer: float = 1.0,
    icc: float = 0.0,
    variance: float | None = None,
) -> SamplePlan:
    """The plan of an experiment with two arms.

    variance: of one outcome where outcomes are not binary. looks: declared; each spends
    alpha / looks. Raises as `sample_size`, `binary_variances` and `design_effect`.
    """
    variances = binary_variances(baseline, baseline + lift) if variance is None else 2 * variance
    per_arm = sample_size(
        variances,
        lift,
        alpha=alpha / looks,
        power=power,
        design_effect=design_effect(per_customer, icc),
    )
    return SamplePlan(baseline, lift, alpha / looks, power, per_customer, icc, per_arm)


def sample_plan_from(
    value_N: Sequence[float],
    customer_N: Sequence[Hashable],
    lift: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    looks: int = 1,
) -> SamplePlan:
    """The plan that follows from the known outcomes of logs: their mean, variance and customers.

    Raises as `sample_plan` and `intraclass_correlation`.
    """
    icc, per_customer = intraclass_correlation(value_N, customer_N)
    is_binary = set(value_N) <= {0.0, 1.0}
    return sample_plan(
        float(np.mean(value_N)),
        lift,
        alpha=alpha,
        power=power,
        looks=looks,
        per_customer=per_customer,
        icc=icc,
        variance=None if is_binary else float(np.var(value_N, ddof=1)),
    )


@dataclass(frozen=True)
class Arm:
    """What one policy did in a comparison: one entry for each conversation."""

    score: Sequence[float | None]  # None: censored
    customer: Sequence[str]
    violations: Mapping[str, Sequence[float]]  # name -> what it came to in each conversation

    @property
    def num_judged(self) -> int:
        return sum(score is not None for score in self.score)

    @property
    def censored(self) -> list[float]:
        """1 where the outcome is unknown."""
        return [float(score is None) for score in self.score]


@dataclass(frozen=True)
class Comparison:
    """Differences after − before, with intervals over customers."""

    score: Interval
    censored: Interval  # of the share of conversations without an outcome
    violations: Mapping[str, Interval]
    num_judged: int  # conversations of the smaller arm, or pairs, that have an outcome
    shared_customers: int  # that met both arms; 0 is what randomising by customer gives
    is_paired: bool


@dataclass(frozen=True)
class Ruling:
    """What follows from a comparison, and why."""

    verdict: Verdict
    reasons: Sequence[str]
    missing: int  # conversations per arm (pairs) until the planned number; 0 at and after it
    comparison: Comparison


def compare(before: Arm, after: Arm, *, is_paired: bool, confidence: float = 0.95) -> Comparison:
    """Two policies side by side.

    is_paired: entry i of both arms is one scenario played with one chance. Otherwise the arms are
    independent and customers are resampled within each. A violation that only one arm names
    counts 0 in the other.
    Raises ShapeError where entries are missing, or pairs do not match.
    """
    for arm in (before, after):
        lengths = {len(arm.score), len(arm.customer), *map(len, arm.violations.values())}
        if len(lengths) > 1:
            raise ShapeError(
                f"an arm needs one entry of everything per conversation, got {lengths}"
            )
    if is_paired and list(before.customer) != list(after.customer):
        raise ShapeError(
            "expected the same scenarios in both arms, in one order, found others; pair them by "
            "scenario and sample, or compare them as independent arms"
        )

    def between(a: Sequence[float | None], b: Sequence[float | None]) -> Interval:
        if is_paired:
            customers = before.customer
            return paired_difference(a, b, customers, seed=_BOOTSTRAP_SEED, confidence=confidence)
        return clustered_bootstrap_difference(
            a, before.customer, b, after.customer, seed=_BOOTSTRAP_SEED, confidence=confidence
        )

    def counts(arm: Arm, name: str) -> Sequence[float]:
        return arm.violations.get(name, [0.0] * len(arm.score))

    score = between(before.score, after.score)
    pairs = zip(before.score, after.score, strict=False)
    return Comparison(
        score=score,
        censored=between(before.censored, after.censored),
        violations={
            name: between(counts(before, name), counts(after, name))
            for name in sorted({*before.violations, *after.violations})
        },
        num_judged=sum(None not in pair for pair in pairs)
        if is_paired
        else min(before.num_judged, after.num_judged),
        shared_customers=0 if is_paired else len({*before.customer} & {*after.customer}),
        is_paired=is_paired,
    )


def ruling(
    before: Arm,
    after: Arm,
    *,
    is_paired: bool,
    needed: int,
    margins: Mapping[str, float] | float = _NO_MARGINS,
    alpha: float = 0.05,
    looks: int = 1,
) -> Ruling:
    """Whether the policy of `after` replaces that of `before`.

    needed: planned conversations per arm (pairs), as `sample_size` gives them for alpha / looks.
    margins: by how much the mean of a violation may rise, for each name or for all. looks: how
    often the comparison is looked at, as declared beforehand: each look has an interval of level
    1 − alpha / looks, and look l may come after l / looks of the planned conversations.

    * *promote*: the difference lies above 0, every violation's rise below its margin, and
      censoring does not differ.
    * *reject*: the difference lies below 0, or a violation's rise above its margin.
    * *continue*: not promoted or rejected, and conversations are missing.  *null*: otherwise.

    Raises ConfigError for a violation without a margin; otherwise as `compare`.
    """
    if looks < 1 or not 0 < alpha < 1 or needed < 1:
        raise ConfigError(
            f"expected 1 or more looks and planned conversations and alpha between 0 and 1, found "
            f"{looks}, {needed} and {alpha}"
        )
    found = compare(before, after, is_paired=is_paired, confidence=1 - alpha / looks)
    missing = max(needed - found.num_judged, 0)
    until_look = math.ceil(needed / looks) - found.num_judged
    if until_look > 0:
        unit = "pairs" if is_paired else "conversations per arm"
        reason = f"expected {needed} {unit}, found {found.num_judged}; {missing} are missing"
        return Ruling("continue", [reason], missing, found)
    against = _against(found, margins)
    doubts = _doubts(found, margins)
    if against:
        return Ruling("reject", against, missing, found)
    if not doubts:
        reason = f"the difference {_said(found.score)} lies above 0"
        return Ruling("promote", [reason], missing, found)
    return Ruling("continue" if missing else "null", doubts, missing, found)


def _against(found: Comparison, margins: Mapping[str, float] | float) -> list[str]:
    """What speaks for rejection."""
    reasons = []
    if found.score.high < 0:
        reasons.append(f"the difference {_said(found.score)} lies below 0")
    for name, rise in found.violations.items():
        if rise.low > _margin(margins, name):
            reasons.append(
                f"{name} rises by {_said(rise)}, above its margin {_margin(margins, name):g}"
            )
    return reasons


def _doubts(found: Comparison, margins: Mapping[str, float] | float) -> list[str]:
    """What stands against promotion; an interval that is not known does."""
    reasons = []
    if not found.score.low > 0:
        reasons.append(f"the difference {_said(found.score)} is not shown to be above 0")
    for name, rise in found.violations.items():
        if not rise.high < _margin(margins, name):
            reasons.append(
                f"{name} may rise by {_said(rise)}; its margin is {_margin(margins, name):g}"
            )
    if not found.censored.low <= 0 <= found.censored.high:
        reasons.append(
            f"the share without an outcome differs by {_said(found.censored)}; wait until the "
            "attribution windows of both arms have closed"
        )
    return reasons


def _margin(margins: Mapping[str, float] | float, name: str) -> float:
    if isinstance(margins, float | int):
        return margins
    if name not in margins:
        raise ConfigError(
            f"expected a margin for the violation {name}, found {', '.join(margins) or 'none'}; "
            "declare by how much its mean per conversation may rise"
        )
    return margins[name]


def _said(interval: Interval) -> str:
    return f"{interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"
