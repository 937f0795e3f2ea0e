"""Prompts, Q-functions and a table policy, small enough to improve in a second."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.rollouts.toy import CHAT, backend, ids
from turnwise.backends import AdapterSpec, Learner, Sampler
from turnwise.conversation import Message, Trajectory
from turnwise.iteration.config import ImproveConfig
from turnwise.iteration.episodes import Prompt
from turnwise.iteration.improve import Improvement, improve
from turnwise.iteration.q_model import QModel, QValues
from turnwise.iteration.replies import Replies, sample_replies
from turnwise.training.observer import Observer, Silent

YES = ids("yes")[0]
MAX_TOKENS = 6
SMALL = ImproveConfig(
    num_prompts=8,
    num_generations=8,
    learning_rate=0.08,
    max_steps=25,
    kl_budget=0.5,
    scale_prompts=48,
    check_prompts=48,
    check_every=5,
    max_truncated=1.0,
)


def changed(**settings: object) -> ImproveConfig:
    return SMALL.model_copy(update=settings)


def prompts(number: int = 96) -> list[Prompt]:
    """Half of them of fold A."""
    texts = ("hello", "hello go", "go", "no")
    return [
        Prompt(
            conversation_id=f"c{i}",
            customer=f"c{i}",
            fold=i % 2,
            turn_index=i % 3,
            token_ids=CHAT.opening((Message("user", texts[i // 2 % 4]),)),
            weight=1.0,
        )
        for i in range(number)
    ]


def yeses(tokens: Sequence[int]) -> float:
    """The share of a reply's words that are "yes"."""
    words = [token for token in tokens if token != CHAT.stop_id]
    return sum(token == YES for token in words) / max(len(words), 1)


@dataclass(frozen=True)
class Says:
    """A Q-function that looks at the reply's tokens alone."""

    worth: Callable[[Sequence[int]], float] = yeses
    v: float = 0.1
    heads: tuple[float, ...] = (1.0,)  # each says that many times the worth
    has_prefixes: bool = True

    def values(self, rows: Sequence[Trajectory]) -> QValues:
        prefix_BT = torch.zeros(len(rows), max(len(row.token_ids) for row in rows))
        q_B = torch.zeros(len(rows))
        for b, row in enumerate(rows):
            turn = row.turns[0]
            for t in range(turn.start, turn.stop):
                prefix_BT[b, t] = self.worth(row.token_ids[turn.start : t + 1])
            q_B[b] = prefix_BT[b, turn.stop - 1] * (turn.stop_reason == "stop")
        head_E11 = torch.tensor(self.heads)[:, None, None]
        return QValues(
            q_EBK=head_E11 * q_B[:, None],
            v_EBK=self.v * head_E11 * torch.ones(len(rows), 1),
            prefix_EBT=head_E11 * prefix_BT if self.has_prefixes else None,
        )


def policies(seed: int = 0, *, ends: float = 0.0) -> tuple[Learner, Learner]:
    """One that learns, and the same one frozen. ends: added to the logit of the end token."""
    on = backend(seed)
    on.table_VV[:, CHAT.stop_id] += ends
    return on.create("policy", AdapterSpec()), on.create("anchor", AdapterSpec())


def improved(
    folder: Path,
    config: ImproveConfig = SMALL,
    *,
    q_a: QModel = Says(),
    q_b: QModel = Says(),
    of: tuple[Learner, Learner] | None = None,
    observer: Observer | None = None,
    pessimism: float = 0.0,
) -> Improvement:
    learner, anchor = of or policies()
    return improve(
        learner,
        anchor,
        q_a,
        q_b,
        prompts(),
        config,
        chat=CHAT,
        max_turn_tokens=MAX_TOKENS,
        seed=1,
        round=0,
        folder=folder,
        observer=observer or Silent(),
        pessimism=pessimism,
    )


def fresh(sampler: Sampler, number: int = 64) -> Replies:
    """Eight replies to each prompt, drawn as nobody else draws."""
    return sample_replies(
        sampler, prompts(number), 8, stop_id=CHAT.stop_id, max_tokens=MAX_TOKENS, key=("fresh",)
    )


def worth(sampler: Sampler, q: QModel = Says()) -> float:
    """What fresh replies are worth on average."""
    return float(q.values(fresh(sampler).rows).q_BK.mean())
