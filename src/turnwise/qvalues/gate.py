"""The gate: what a Q-function must show on held-out customers before a policy is moved by it.

Axes: `N` held-out decision steps, `C` customers.
Source: Iterative PPO method page, 4.6.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from turnwise.qvalues.calibration import LossName, Reliability, reliability
from turnwise.qvalues.coverage import strange_share
from turnwise.qvalues.held_out import Array, HeldOut, losses, mean_interval
from turnwise.qvalues.leakage import partial_correlation

Kind = Literal["hard", "warn"]
Verdict = Literal["passes", "warns", "refuses", "off"]

_FOLDS = "AB"
_MAX_STRANGE = 0.2
_LARGE_GROUP = 2000  # steps below which a group's ECE is mostly noise: shown, and no warning


@dataclass(frozen=True)
class Limits:
    """What is asked of each check."""

    loss: LossName = "log"
    min_customers: int = 30  # per fold
    min_rarer: int = 20  # conversations of the rarer outcome, per fold
    max_ece: float = 0.05
    refuse_ece: float = 0.15
    leakage: float = 0.3
    num_bootstrap: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Check:
    """One question to a Q-function, and the answer."""

    name: str  # "G1"
    title: str
    kind: Kind
    verdict: Verdict
    expected: str
    found: str
    advice: str = ""
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def message(self) -> str:
        """Expected, found and what to do, in one line."""
        said = f"gate {self.name}: expected {self.expected}, found {self.found}"
        return f"{said}{self.advice and f': {self.advice}'}"


@dataclass(frozen=True)
class Gate:
    """All checks of one Q-function."""

    checks: tuple[Check, ...]
    num_steps: int
    num_customers: int

    @property
    def is_open(self) -> bool:
        return not any(check.verdict == "refuses" for check in self.checks)

    @property
    def refusal(self) -> str:
        """A line for each check that refuses; empty where the gate is open."""
        lines = [check.message for check in self.checks if check.verdict == "refuses"]
        return "\n".join(f"{line} Nothing was trained." for line in lines)

    @property
    def warnings(self) -> list[str]:
        return [check.message for check in self.checks if check.verdict == "warns"]


def gate(held_out: HeldOut, limits: Limits) -> Gate:
    """Every check, in order. Without a single held-out step only the amount of data is judged."""
    size, customers = len(held_out.target_N), len(set(held_out.customer_N.tolist()))
    if size == 0:
        return Gate((_enough_data(held_out, limits),), 0, 0)
    checks = (
        _beats_v(held_out, limits),
        _shuffled(held_out, limits),
        _judge(held_out, limits),
        _enough_data(held_out, limits),
        _slopes(held_out),
        _calibration(held_out, limits),
        _bellman(held_out),
        _coverage(held_out),
        _leakage(held_out, limits),
    )
    return Gate(checks, size, customers)


def _interval(x_N: Array, held_out: HeldOut, limits: Limits) -> tuple[float, float, float]:
    return mean_interval(
        x_N, held_out.customer_N, num_samples=limits.num_bootstrap, seed=limits.seed
    )


def _said(found: tuple[float, float, float], held_out: HeldOut) -> str:
    customers = len(set(held_out.customer_N.tolist()))
    mean, low, high = (f"{x:.4f}" for x in found)
    return f"{mean} [{low}, {high}] over {customers} customers"


def _more_customers(found: tuple[float, float, float], held_out: HeldOut) -> str:
    """How many customers would show a difference of the size that was found."""
    mean, low, _ = found
    if not (mean > 0 and low <= 0):
        return "Collect more conversations or switch on exploration."
    needed = math.ceil(len(set(held_out.customer_N.tolist())) * ((mean - low) / mean) ** 2)
    return (
        f"If the difference is real, about {needed} customers would show it: collect more "
        "conversations or switch on exploration."
    )


def _beats_v(held_out: HeldOut, limits: Limits) -> Check:
    """G1. V*: the better of V head and mean by turn, so that a bad V cannot open the gate."""
    of_q_N = losses(held_out.q_N, held_out.target_N, loss=limits.loss)
    rivals = {"the V head": held_out.v_N, "the mean by turn": held_out.turn_mean_N}
    by_rival = {
        name: losses(x_N, held_out.target_N, loss=limits.loss) for name, x_N in rivals.items()
    }
    best = min(by_rival, key=lambda name: float(by_rival[name].mean()))
    found = _interval(by_rival[best] - of_q_N, held_out, limits)
    parts = {name: {"loss": float(x_N.mean())} for name, x_N in by_rival.items()}
    return Check(
        "G1",
        "Q beats V",
        "hard",
        "passes" if found[1] > 0 else "refuses",
        "Q to predict held-out outcomes better than V",
        _said(found, held_out),
        f"Q does not depend on the reply. {_more_customers(found, held_out)}",
        *found,
        parts={"Q": {"loss": float(of_q_N.mean())}, **parts},
    )


def _shuffled(held_out: HeldOut, limits: Limits) -> Check:
    """G2. Never sufficient: a shuffled reply is also an unusual one."""
    of_q_N = losses(held_out.q_N, held_out.target_N, loss=limits.loss)
    of_shuffled_N = losses(held_out.shuffled_N, held_out.target_N, loss=limits.loss)
    found = _interval(of_shuffled_N - of_q_N, held_out, limits)
    return Check(
        "G2",
        "Shuffled replies",
        "hard",
        "passes" if found[1] > 0 else "refuses",
        "Q to predict held-out outcomes better from the reply than from another's reply",
        _said(found, held_out),
        f"the reply tells Q nothing. {_more_customers(found, held_out)}",
        *found,
    )


def _judge(held_out: HeldOut, limits: Limits) -> Check:
    """G3."""
    title, expected = "Prompted judge", "Q to be no worse than an untrained prompted judge"
    if held_out.judge_N is None:
        return Check("G3", title, "hard", "off", expected, "no judge was asked")
    of_q_N = losses(held_out.q_N, held_out.target_N, loss=limits.loss)
    of_judge_N = losses(held_out.judge_N, held_out.target_N, loss=limits.loss)
    found = _interval(of_q_N - of_judge_N, held_out, limits)
    return Check(
        "G3",
        title,
        "hard",
        "refuses" if found[1] > 0 else "passes",
        expected,
        f"a loss higher by {_said(found, held_out)}" if found[1] > 0 else _said(found, held_out),
        "the judge knows more than Q. Collect more conversations, or let the judge serve as Q.",
        *found,
        parts={"Q": {"loss": float(of_q_N.mean())}, "judge": {"loss": float(of_judge_N.mean())}},
    )


def _enough_data(held_out: HeldOut, limits: Limits) -> Check:
    """G4. The rarer outcome: above or below the middle of the returns that were found."""
    last: dict[str, tuple[int, float]] = {}
    rows = zip(held_out.conversation_N, held_out.turn_N, held_out.target_N, strict=True)
    fold_of = dict(zip(held_out.conversation_N.tolist(), held_out.fold_N.tolist(), strict=True))
    for conversation, turn, target in rows:
        last[str(conversation)] = max(last.get(str(conversation), (-1, 0.0)), (turn, target))
    returns = {conversation: target for conversation, (_, target) in last.items()}
    middle = (min(returns.values()) + max(returns.values())) / 2 if returns else 0.0
    parts, lacking = {}, []
    for fold, letter in enumerate(_FOLDS):
        customers = len(set(held_out.customer_N[held_out.fold_N == fold].tolist()))
        mine = [returns[one] > middle for one in returns if fold_of[one] == fold]
        rarer = min(sum(mine), len(mine) - sum(mine))
        parts[f"fold {letter}"] = {"customers": float(customers), "rarer": float(rarer)}
        if customers < limits.min_customers or rarer < limits.min_rarer:
            lacking.append(
                f"{customers} customers and {rarer} conversations of the rarer outcome in fold "
                f"{letter}"
            )
    return Check(
        "G4",
        "Enough data",
        "hard",
        "refuses" if lacking else "passes",
        f"at least {limits.min_customers} customers and {limits.min_rarer} conversations of the "
        "rarer outcome in each fold",
        " and ".join(lacking) or "enough",
        "Collect more conversations.",
        parts=parts,
    )


def _slopes(held_out: HeldOut) -> Check:
    """Calibration must not turn the order of replies round."""
    worst = min(held_out.slopes, default=math.nan)
    return Check(
        "slope",
        "Slope of the calibration",
        "hard",
        "off" if not held_out.slopes else "passes" if worst > 0 else "refuses",
        "a calibration that rises with Q (slope a > 0)",
        f"a = {worst:.3g}" if held_out.slopes else "no calibration",
        "Q is larger where outcomes are worse. Collect more conversations.",
        worst,
    )


def _calibration(held_out: HeldOut, limits: Limits) -> Check:
    """G5."""
    parts = {"all": _numbers(reliability(held_out.q_N, held_out.target_N))}
    for name, group_N in {"turn": (held_out.turn_N + 1).astype(str), **held_out.groups}.items():
        for value in sorted(set(group_N.tolist()), key=lambda text: (len(text), text)):
            is_in_N = group_N == value
            found = reliability(held_out.q_N[is_in_N], held_out.target_N[is_in_N])
            parts[f"{name} {value}"] = _numbers(found)
    ece = parts["all"]["ece"]
    large = {name: one["ece"] for name, one in parts.items() if one["steps"] >= _LARGE_GROUP}
    worst = max({"all": ece, **large}.items(), key=lambda item: item[1])
    verdict: Verdict = "warns" if worst[1] > limits.max_ece else "passes"
    return Check(
        "G5",
        "Calibration",
        "hard" if ece > limits.refuse_ece else "warn",
        "refuses" if ece > limits.refuse_ece else verdict,
        f"a calibration error of at most {limits.max_ece} (refused above {limits.refuse_ece})",
        f"{ece:.3f}" + ("" if worst[0] == "all" else f"; {worst[1]:.3f} for {worst[0]}"),
        "values are no probabilities there. Collect more conversations.",
        ece,
        parts=parts,
    )


def _numbers(found: Reliability) -> dict[str, float]:
    names = ("ece", "brier", "reliability", "resolution", "uncertainty")
    return {"steps": float(sum(found.count_M)), **{name: getattr(found, name) for name in names}}


def _bellman(held_out: HeldOut) -> Check:
    """G6. Standard errors keep customers whole."""
    title, expected = "Bellman residual", "r + γV(s') − Q(s, a) within 2 standard errors of 0"
    parts = {} if held_out.residual_N is None else _residuals(held_out, held_out.residual_N)
    if not parts:
        return Check("G6", title, "warn", "off", expected, "no turn with two customers")
    ratio = {name: abs(one["mean"]) / max(one["error"], 1e-12) for name, one in parts.items()}
    worst = max(ratio, key=lambda name: ratio[name])
    mean, error = parts[worst]["mean"], parts[worst]["error"]
    return Check(
        "G6",
        title,
        "warn",
        "warns" if ratio[worst] > 2 else "passes",
        expected,
        f"{mean:.4f} ± {error:.4f} at {worst}",
        "the state misses something that the next one knows, or Q is fitted badly there.",
        mean,
        mean - 2 * error,
        mean + 2 * error,
        parts=parts,
    )


def _residuals(held_out: HeldOut, residual_N: Array) -> dict[str, dict[str, float]]:
    parts = {}
    for turn in sorted(set(held_out.turn_N.tolist())):
        here_N = (held_out.turn_N == turn) & np.isfinite(residual_N)
        _, index_N = np.unique(held_out.customer_N[here_N], return_inverse=True)
        if len(set(index_N.tolist())) < 2:
            continue
        mean = float(residual_N[here_N].mean())
        sum_C = np.bincount(index_N, residual_N[here_N] - mean)
        C, count = len(sum_C), int(here_N.sum())
        error = math.sqrt(float((sum_C**2).sum()) * C / (C - 1)) / count
        parts[f"turn {turn + 1}"] = {"mean": mean, "error": error, "steps": float(count)}
    return parts


def _coverage(held_out: HeldOut) -> Check:
    """G7."""
    share = math.nan
    if held_out.spread_N is not None and held_out.sampled_spread_M is not None:
        share = strange_share(held_out.spread_N, held_out.sampled_spread_M)
    is_off = math.isnan(share)
    return Check(
        "G7",
        "Coverage",
        "warn",
        "off" if is_off else "warns" if share > _MAX_STRANGE else "passes",
        f"at most {_MAX_STRANGE:.0%} of sampled replies to be stranger to the heads than 95 % of "
        "logged ones",
        "no sampled reply or no spread of heads" if is_off else f"{share:.1%}",
        "Q guesses about what the policy writes. Collect conversations of this policy.",
        share,
    )


def _leakage(held_out: HeldOut, limits: Limits) -> Check:
    """G8."""
    gain_N = held_out.q_N - held_out.v_N
    found = {
        name: partial_correlation(x_N, gain_N, held_out.turn_N)
        for name, x_N in held_out.style.items()
    }
    known = {name: r for name, r in found.items() if not math.isnan(r)}
    worst = max(known, key=lambda name: abs(known[name]), default="")
    value = known.get(worst, math.nan)
    return Check(
        "G8",
        "Style leakage",
        "warn",
        "off" if not known else "warns" if abs(value) > limits.leakage else "passes",
        f"Q − V to correlate with style by at most ±{limits.leakage} given the turn",
        f"{value:.2f} with {worst}" if known else "no style that varies",
        "a policy moved by it may learn the style. Look at the replies it prefers.",
        value,
        parts={name: {"partial correlation": r} for name, r in known.items()},
    )
