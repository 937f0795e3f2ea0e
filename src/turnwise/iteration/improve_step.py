"""One update of the improvement: from replies and what Q says of them to a moved policy.

Axes: `B` replies of a step, siblings together; `E` heads. Rewards are in units of the frozen scale.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from turnwise.advantages import (
    grpo_replies,
    kl_penalty,
    ppo_replies,
    reply_token_rewards,
    rewards_over_group_std,
    rloo_replies,
)
from turnwise.arrays import spread_to_tokens
from turnwise.backends.protocol import Comparison, Learner, Scorer
from turnwise.errors import CapabilityError, LogProbError, TrainingError
from turnwise.iteration.config import ImproveConfig
from turnwise.iteration.q_model import QValues
from turnwise.iteration.replies import Replies
from turnwise.losses import kl_k3
from turnwise.qvalues import forward_kl_advantage, pessimistic, reward_in_space
from turnwise.training.config import TrainConfig
from turnwise.training.policy import PolicyStep, update_policy
from turnwise.training.prm import PassLimits

_TOKEN_LAMBDA = 1.0


@dataclass(frozen=True)
class RewardRule:
    """How Q-values become rewards; `scale` is frozen before the first update."""

    config: ImproveConfig
    return_low: float
    return_high: float
    pessimism: float  # κ
    scale: float = 1.0

    def excess(self, values: QValues, replies: Replies) -> Tensor:
        """Q̂ − V̂ in return units; a reply without end token has the lowest return."""
        return self._q(values, replies) - values.v_BK[:, 0]

    def rewards(self, values: QValues, replies: Replies) -> Tensor:
        """R_B: Q̂ − V̂ in the reward's space, over the scale."""
        return self._scaled(self._q(values, replies), values.v_BK[:, 0])

    def baseline(self, values: QValues, replies: Replies) -> Tensor:
        """What R is expected to be before each token: of the prefix so far; 0 before the first.

        Raises CapabilityError for a Q-function without values of prefixes.
        """
        if values.prefix_EBT is None:
            raise CapabilityError(
                'estimator = "ppo" needs a Q-function with values after every token, found one '
                'that values whole replies only; use rloo, or q.head = "scalar"'
            )
        prefix_BT = pessimistic(values.prefix_EBT, kappa=self.pessimism)
        reward_BT = self._scaled(prefix_BT, values.v_BK)
        before_BT = torch.nn.functional.pad(reward_BT, (1, 0))[:, :-1]
        written_BT = replies.batch.written_BT
        follows_BT = torch.nn.functional.pad(written_BT, (1, 0))[:, :-1]
        return torch.where(written_BT & follows_BT, before_BT, 0.0)

    def _q(self, values: QValues, replies: Replies) -> Tensor:
        q_B = pessimistic(values.q_EBK, kappa=self.pessimism)[:, 0]
        return torch.where(replies.truncated_B, self.return_low, q_B)

    def _scaled(self, q: Tensor, v: Tensor) -> Tensor:
        low, high = self.return_low, self.return_high
        return reward_in_space(q, v, space=self.config.reward_space, low=low, high=high) / (
            self.scale
        )


def reply_advantages(
    values: QValues, replies: Replies, scores: Comparison, rule: RewardRule, *, beta: float
) -> Tensor:
    """Advantage of each written token, the price of leaving the reference included.

    scores: policy and reference. With kl_estimator = "k3-loss" the price is not in it. Returns BT.
    Raises GroupError for a lone reply that is compared, CapabilityError as `RewardRule.baseline`.
    """
    config, turn_BT, prompt_B = rule.config, replies.batch.turn_of_token_BT, replies.prompt_B
    logp_BT, reference_BT = scores.logp_BT, scores.logp_other_BT
    penalty_BT, price_BT = torch.zeros_like(logp_BT), torch.zeros_like(logp_BT)
    if config.kl_estimator == "reward" and config.kl_direction == "reverse":
        penalty_BT = kl_penalty(logp_BT, reference_BT, turn_BT, beta=beta)
    elif config.kl_estimator == "reward":
        price_BT = forward_kl_advantage(logp_BT, reference_BT, turn_BT, beta=beta)
    reward_B, every_B = rule.rewards(values, replies), torch.ones_like(prompt_B, dtype=torch.bool)
    if config.scale_rewards == "group":
        reward_B = rewards_over_group_std(reward_B, prompt_B, every_B)
    if config.estimator == "ppo":
        token_reward_BT = reply_token_rewards(reward_B, penalty_BT, turn_BT)
        value_BT = rule.baseline(values, replies)
        return price_BT + ppo_replies(
            token_reward_BT, value_BT, turn_BT, token_lambda=_TOKEN_LAMBDA
        )
    estimate = rloo_replies if config.estimator == "rloo" else grpo_replies
    advantage_B = estimate(reward_B, penalty_BT.sum(dim=1), prompt_B, every_B)
    return price_BT + spread_to_tokens(advantage_B[:, None], turn_BT)


def move_policy(
    policy: Learner,
    replies: Replies,
    advantage_BT: Tensor,
    scores: Comparison,
    config: ImproveConfig,
    *,
    beta: float,
    limits: PassLimits,
) -> Mapping[str, float]:
    """One clipped optimizer step; divided by the replies of the step, not by their tokens.

    The ratio is taken against the trainer's own scores, not the sampler's. Returns metrics.
    """
    has_loss = config.kl_estimator == "k3-loss"
    settings = TrainConfig(
        learning_rate=config.learning_rate,
        epsilon=config.epsilon,
        epsilon_high=config.epsilon,
        beta=beta if has_loss else 0.0,
        kl_estimator="k3",
        entropy_coef=0.0,
        divisor="dialogues",
    )
    data = PolicyStep(
        replace(replies.batch, logp_behaviour_BT=scores.logp_BT),
        advantage_BT,
        scores.logp_other_BT if has_loss else None,
        replies.prompt_B,
        shares_prompts=True,
    )
    moved = update_policy(
        policy, data, settings, temperature=1.0, budget_tokens=1, limits=limits, noise=(0, 1)
    )
    written_BT = replies.batch.written_BT
    gap_BT = kl_k3(replies.batch.logp_behaviour_BT, scores.logp_BT)
    return {**moved, "kl/rollout_vs_train": float(gap_BT[written_BT].mean())}


def compared(policy: Learner, reference: Scorer, replies: Replies) -> Comparison:
    """Policy and reference on the replies.

    Raises TrainingError naming the conversation where one of them is not finite.
    """
    try:
        found = policy.compare(reference, replies.shared.batch)
        return Comparison(*(replies.shared.home(getattr(found, f.name)) for f in fields(found)))
    except LogProbError as error:
        names = [row.scenario_id for row in replies.rows]
        for b, name in enumerate(names):
            try:
                policy.compare(reference, replies.batch.rows([b]))
            except LogProbError:
                raise TrainingError(f"conversation {name}: {error}") from error
        raise


def divergence(scores: Comparison, config: ImproveConfig) -> float:
    """KL of whole replies in the direction that is paid for: mean over replies of Σ_t, nats."""
    kl_BT = scores.kl_BT if config.kl_direction == "reverse" else scores.kl_back_BT
    return float(kl_BT.sum(dim=1).mean())


def flat_share(reward_B: Tensor, replies: Replies) -> float:
    """Share of prompts whose replies all have the same reward: they teach nothing."""
    reward_SG = replies.by_prompt(reward_B)
    return float((reward_SG.amax(dim=1) == reward_SG.amin(dim=1)).float().mean())
