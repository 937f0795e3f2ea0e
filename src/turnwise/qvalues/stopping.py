"""When an improvement has gone far enough: what the other Q-function says decides.

Q_A is optimised and flatters the policy, Q_B was fitted to other customers and only watches.
Heuristics of this library.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from turnwise.qvalues.kl_control import is_at_budget

STALL_UPDATES = 20
STALL_RISE = 0.01
MAX_SPREAD_RATIO = 2.0


@dataclass(frozen=True)
class Gains:
    """What the fixed prompts say of the policy after some update, against π_k."""

    update: int
    gain_a: float  # mean Q_A of its replies minus that of π_k's, return units
    gain_b: float  # the same by Q_B, which decides
    kl: float  # nats per reply
    spread: float  # mean standard deviation over the heads of Q_A; 0 without an ensemble
    truncated: float  # share of replies without an end token


@dataclass(frozen=True)
class StopRules:
    """The limits."""

    patience: int  # checks without a better gain by Q_B
    max_truncated: float
    budget: float  # nats per reply
    logged_spread: float  # over the heads, on replies as the logs hold them; 0: no such rule


def has_stalled(checks: Sequence[Gains]) -> bool:
    """Whether the gain by Q_A rose by less than 1 % within the last 20 updates or more.

        g_A(now) − g_A(then) < 0.01·|g_A(then)|,   then = the latest check 20 updates ago or before

    checks: ascending, the start included. False while there is none so long ago.
    """
    earlier = [check for check in checks if check.update <= checks[-1].update - STALL_UPDATES]
    if not earlier:
        return False
    return checks[-1].gain_a - earlier[-1].gain_a < STALL_RISE * abs(earlier[-1].gain_a)


def best_gains(checks: Sequence[Gains]) -> Gains:
    """The check with the highest gain by Q_B, the earliest of equals."""
    return max(checks, key=lambda check: (check.gain_b, -check.update))


def stop_reason(checks: Sequence[Gains], rules: StopRules) -> str | None:
    """Why to stop after the newest check; None to go on.

    checks: ascending, at least the start, whose gains are 0.
    """
    now, best = checks[-1], best_gains(checks)
    if now.truncated > rules.max_truncated:
        return (
            f"{now.truncated:.0%} of the replies had no end token (max_truncated "
            f"{rules.max_truncated:.0%}): raise rollout.max_turn_tokens"
        )
    if rules.logged_spread > 0 and now.spread > MAX_SPREAD_RATIO * rules.logged_spread:
        return (
            f"the heads of Q disagree by {now.spread:.3g} about the policy's replies, more than "
            f"twice the {rules.logged_spread:.3g} on logged ones"
        )
    since = [check for check in checks if check.update > best.update]
    if len(since) >= rules.patience:
        return f"the gain by the other Q has not risen for {len(since)} checks"
    if is_at_budget(now.kl, rules.budget) and has_stalled(checks):
        return (
            f"KL {now.kl:.3g} is at its budget of {rules.budget:.3g} nats and the gain rose by "
            f"less than {STALL_RISE:.0%} in {STALL_UPDATES} updates"
        )
    return None
