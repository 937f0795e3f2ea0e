"""Where an improvement starts: what it is given, π_k on the fixed prompts, the frozen scale.

Axes: `S` fixed prompts, `G` replies of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from turnwise.backends.protocol import Learner, Sampler, Scorer
from turnwise.errors import ConfigError, FlatRewardError
from turnwise.iteration.config import ImproveConfig
from turnwise.iteration.episodes import Prompt
from turnwise.iteration.improve_step import RewardRule, compared, flat_share
from turnwise.iteration.preview import fixed_prompts
from turnwise.iteration.q_model import QModel, QValues
from turnwise.iteration.replies import Replies, sample_replies, values_of
from turnwise.qvalues import reward_scale
from turnwise.training.observer import Observer
from turnwise.training.prm import PassLimits


@dataclass(frozen=True)
class Setting:
    """Everything an improvement is given."""

    policy: Learner
    reference: Scorer
    q_a: QModel
    q_b: QModel
    prompts: Sequence[Prompt]
    config: ImproveConfig
    rule: RewardRule
    stop_id: int
    max_tokens: int
    seed: int
    round: int
    folder: Path
    limits: PassLimits
    observer: Observer

    def sample(self, sampler: Sampler, prompts: Sequence[Prompt], n: int, *key: str) -> Replies:
        return sample_replies(
            sampler,
            prompts,
            n,
            stop_id=self.stop_id,
            max_tokens=self.max_tokens,
            key=(self.seed, self.round, "improve", *key),
        )


@dataclass(frozen=True)
class Start:
    """π_k on the fixed prompts, before the first update."""

    prompts: list[Prompt]
    replies: Replies
    a_SG: Tensor  # Q_A, return units
    b_SG: Tensor
    a: QValues


def check(given: Setting) -> None:
    """Warns of what breaks the equivalence. Raises ConfigError for what does not go together."""
    config = given.config
    if config.scale_rewards == "group":
        if config.estimator == "ppo":
            raise ConfigError(
                'scale_rewards = "group" compares replies, and estimator = "ppo" does not; use rloo'
            )
        given.observer.warning(
            'scale_rewards = "group": prompts where the reply hardly matters are pushed hardest'
        )
    if config.kl_estimator == "k3-loss" and config.kl_direction == "reverse":
        given.observer.warning(
            'kl_estimator = "k3-loss": its gradient is that of the forward KL, at prefixes of the '
            "policy that learns"
        )


def measured(given: Setting, sampler: Sampler) -> Start:
    """π_k's replies to the fixed prompts and what both Q-functions say of them."""
    config = given.config
    number = max(config.scale_prompts, config.check_prompts)
    prompts = fixed_prompts(given.prompts, number, given.seed, given.round)
    replies = given.sample(sampler, prompts, config.num_generations, "fixed")
    a = values_of(given.q_a, replies, "Q_A")
    b = values_of(given.q_b, replies, "Q_B")
    return Start(
        prompts,
        replies,
        replies.by_prompt(a.q_BK[:, 0]),
        replies.by_prompt(b.q_BK[:, 0]),
        a,
    )


def frozen_scale(given: Setting, start: Start) -> tuple[float, float]:
    """The number that rewards are divided by, and their standard deviation after that.

    Raises FlatRewardError where rewards hardly differ, or differ among prompts alone.
    """
    rule, replies, n = given.rule, start.replies, given.config.num_generations
    first_B = replies.prompt_B < given.config.scale_prompts
    reward_B = rule.rewards(start.a, replies)
    std = reward_scale(
        rule.excess(start.a, replies)[first_B],
        reward_B[first_B],
        low=rule.return_low,
        high=rule.return_high,
    )
    if n > 1 and flat_share(reward_B, replies) == 1:
        raise FlatRewardError(
            f"expected Q to prefer one of {n} replies to some prompt, found all equal for each of "
            f"{len(start.prompts)} prompts; look at check G1 of the gate: Q does not depend on the "
            "reply, or the policy always says the same. Nothing was trained"
        )
    return (std, 1.0) if given.config.scale_rewards == "round" else (1.0, std)


def kl_from(
    policy: Learner,
    reference: Scorer,
    prompts: Sequence[Prompt],
    number: int,
    *,
    stop_id: int,
    max_tokens: int,
    seed: int,
    round: int,
) -> float:
    """KL(policy ‖ reference) of whole replies to so many fixed prompts, nats.

    Exact at each token of replies that the policy samples.
    """
    replies = sample_replies(
        policy.publish(),
        fixed_prompts(prompts, number, seed, round),
        1,
        stop_id=stop_id,
        max_tokens=max_tokens,
        key=(seed, round, "distance"),
    )
    return float(compared(policy, reference, replies).kl_BT.sum(dim=1).mean())
