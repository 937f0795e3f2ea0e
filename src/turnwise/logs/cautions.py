"""What is not wrong with logs but limits what can be learned from them, counted.

Nothing is left out for it.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import sqrt

from turnwise.conversation import LoggedConversation, Step

# A reply that ended by itself; a tool call is a whole reply.
_ENDED = ("stop", "tool_calls", "function_call")


@dataclass
class Cautions:
    """Counts over conversations, one after the other; memory does not grow with them."""

    leak_words: Sequence[str]
    counts: Counter[str] = field(default_factory=Counter)
    _length: "_Correlation" = field(default_factory=lambda: _Correlation())

    def __post_init__(self) -> None:
        self.leak_words = [word.lower() for word in self.leak_words]
        words = "|".join(map(re.escape, self.leak_words))
        self._leak = re.compile(rf"(?<!\w)(?:{words})(?![\w'’])")

    def see(self, conversation: LoggedConversation) -> None:
        """Count one conversation."""
        counts, decisions = self.counts, conversation.decisions
        is_censored = conversation.outcome is None  # however it ended
        self._length.add(len(decisions), is_censored)
        counts["conversations"] += 1
        counts["decisions"] += len(decisions)
        counts["censored"] += is_censored
        counts["consent_unknown"] += conversation.consent.training is None
        counts["customer_unknown"] += conversation.customer_key is None
        counts["possible_label_leak"] += self._has_leak(conversation)
        for step in decisions:
            for name, holds in _STEP_CAUTIONS.items():
                if holds(step):
                    counts[name] += 1

    def _has_leak(self, conversation: LoggedConversation) -> bool:
        """Whether the outcome's words stand before a scored reply."""
        steps = conversation.steps
        scored = [i for i, step in enumerate(steps) if step.is_decision and step.is_scored]
        if not scored or not self.leak_words:
            return False
        texts = [step.content for step in steps[: scored[-1]]]
        texts += [one.content for i in scored for one in steps[i].context or ()]
        text = "\n".join(texts).lower()
        return any(word in text for word in self.leak_words) and bool(self._leak.search(text))

    def found(self) -> dict[str, float]:
        """Warning -> how many, and the shares that a reader of them needs.

        decisions: all decision steps. censored_share: of conversations. edited_share,
        rejected_share: of decision steps. censored_length_correlation: Pearson's, of being
        censored with the number of decision steps, 0 where one of them does not vary.
        """
        names = ("decisions", *_CONVERSATION_CAUTIONS, *_STEP_CAUTIONS)
        counts = {name: self.counts[name] for name in names}
        conversations = max(1, self.counts["conversations"])
        decisions = max(1, self.counts["decisions"])
        return {
            **counts,
            "censored_share": counts["censored"] / conversations,
            "censored_length_correlation": self._length.value(),
            "edited_share": counts["edited"] / decisions,
            "rejected_share": counts["rejected"] / decisions,
        }


_CONVERSATION_CAUTIONS = ("censored", "consent_unknown", "customer_unknown", "possible_label_leak")


def _is_of_unknown_policy(step: Step) -> bool:
    return step.author != "human" and not (step.policy and step.policy.version)


def _is_sampled_otherwise(step: Step) -> bool:
    policy = step.policy
    return policy is not None and not {policy.temperature, policy.top_p} <= {None, 1.0}


def _is_unfinished(step: Step) -> bool:
    return step.policy is not None and step.policy.finish not in (None, *_ENDED)


_STEP_CAUTIONS: dict[str, Callable[[Step], bool]] = {
    "unknown_policy_version": _is_of_unknown_policy,
    "sampling_not_at_1": _is_sampled_otherwise,
    "finish_not_stop": _is_unfinished,
    "edited": lambda step: step.disposition == "edited",
    "rejected": lambda step: step.disposition == "rejected",
}


@dataclass
class _Correlation:
    """Pearson's r of a number and a fact, from running sums."""

    n: int = 0
    sum_x: float = 0.0
    sum_xx: float = 0.0
    sum_y: int = 0
    sum_xy: float = 0.0

    def add(self, x: float, y: bool) -> None:
        self.n += 1
        self.sum_x += x
        self.sum_xx += x * x
        self.sum_y += y
        self.sum_xy += x * y

    def value(self) -> float:
        """r = (n Σxy − Σx Σy) / √((n Σx² − (Σx)²)(n Σy − (Σy)²)), as y² = y."""
        spread_x = self.n * self.sum_xx - self.sum_x**2
        spread_y = self.n * self.sum_y - self.sum_y**2
        if spread_x <= 0 or spread_y <= 0:
            return 0.0
        return (self.n * self.sum_xy - self.sum_x * self.sum_y) / sqrt(spread_x * spread_y)
