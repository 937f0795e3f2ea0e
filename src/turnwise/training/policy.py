"""One policy update: optimizer steps on mini-batches of whole groups."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from turnwise.backends.protocol import Learner, Loss
from turnwise.losses import (
    ClipRange,
    entropy_weights,
    kl_k1,
    kl_k2,
    kl_k3,
    kl_objective,
    loss_divisor,
    loss_weights,
    policy_objective,
)
from turnwise.tokens import TurnBatch, microbatches, share_prefixes
from turnwise.training.config import TrainConfig
from turnwise.training.prm import PassLimits

_KL = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}


@dataclass(frozen=True)
class PolicyStep:
    """What the policy learns from: B dialogues with a number on every written token."""

    batch: TurnBatch
    advantage_BT: Tensor
    logp_reference_BT: Tensor | None  # at the policy's temperature; None: no KL, in loss or metrics
    group_B: Tensor
    shares_prompts: bool = False  # siblings are read as one tree: cheap where prompts are long


def update_policy(
    learner: Learner,
    data: PolicyStep,
    config: TrainConfig,
    *,
    temperature: float,
    budget_tokens: int,
    limits: PassLimits,
    noise: tuple[int, int],
) -> Mapping[str, float]:
    """Moves the policy by `config.num_mini_batches` optimizer steps.

    Each mini-batch has its own divisor, fixed before it is split into passes; dialogues whose
    advantage is 0 everywhere stay in it. noise: (seed, step), orders the groups.
    Returns means over the optimizer steps, weighted by tokens where they are per token.
    """
    sums, rate = _Sums(), scheduled_learning_rate(config, noise[1])
    for rows in _mini_batches(data.group_B, config.num_mini_batches, noise):
        part = data.batch.rows(rows)
        divisor = loss_divisor(
            part.written_BT.sum(dim=1), kind=config.divisor, max_dialogue_tokens=budget_tokens
        )
        loss_sum = 0.0
        for piece in microbatches(
            part.length_B, max_rows=limits.max_rows, max_tokens=limits.max_tokens
        ):
            picked = rows[piece]
            batch = data.batch.rows(picked)
            weight_BT = loss_weights(batch.written_BT, kind=config.divisor, divisor=divisor)
            entropy_BT = entropy_weights(weight_BT, entropy_coef=config.entropy_coef)
            read, loss = batch, _loss(data, picked, batch, weight_BT, config, sums)
            if data.shares_prompts:
                read, loss = _shared(batch, data.group_B[picked], loss)
            out = learner.forward_backward(
                read,
                loss,
                temperature=temperature,
                entropy_weight_BT=entropy_BT if config.entropy_coef > 0 else None,
            )
            loss_sum += out["loss"]
            if "entropy" in out:
                sums.entropy += out["entropy"] * batch.num_written
        stats = learner.optim_step(rate)
        sums.loss.append(loss_sum)
        sums.grad_norm.append(stats.grad_norm)
    metrics = sums.metrics()
    if data.logp_reference_BT is not None:
        metrics["kl/reference"] = sums.kl_reference / max(sums.tokens, 1)
    if config.entropy_coef > 0:
        metrics["entropy"] = sums.entropy / max(sums.tokens, 1)
    return metrics


def scheduled_learning_rate(config: TrainConfig, step: int) -> float:
    """The policy's learning rate in step 1, 2, …: constant, or η·(1 − (step − 1)/max_steps)."""
    if config.lr_scheduler_type == "constant":
        return config.learning_rate
    return config.learning_rate * (1 - (step - 1) / config.max_steps)


def _shared(batch: TurnBatch, group_B: Tensor, loss: Loss) -> tuple[TurnBatch, Loss]:
    """The rows as trees of siblings, and the loss of what a model says of them."""
    shared = share_prefixes(batch, group_B.tolist())
    return shared.batch, lambda logp_RS: loss(shared.home(logp_RS))


class _Sums:
    """Totals over the passes of one update."""

    def __init__(self) -> None:
        self.loss: list[float] = []
        self.grad_norm: list[float] = []
        self.tokens = 0
        self.clipped = self.kl_behaviour = self.kl_reference = self.entropy = 0.0

    def metrics(self) -> dict[str, float]:
        tokens = max(self.tokens, 1)
        return {
            "loss/policy": float(np.mean(self.loss)),
            "policy/grad_norm": float(np.mean(self.grad_norm)),
            "policy/clip_frac": self.clipped / tokens,
            "kl/rollout_vs_train": self.kl_behaviour / tokens,
        }


def _mini_batches(group_B: Tensor, number: int, noise: tuple[int, int]) -> Iterator[Tensor]:
    """Rows of each optimizer step: whole groups, in a seeded order."""
    num_groups = int(group_B.max()) + 1
    order = np.random.default_rng([*noise, 3]).permutation(num_groups)
    for groups in np.array_split(order, min(number, num_groups)):
        yield torch.isin(group_B, torch.from_numpy(groups)).nonzero()[:, 0]


def _loss(
    data: PolicyStep,
    rows: Tensor,
    batch: TurnBatch,
    weight_BT: Tensor,
    config: TrainConfig,
    sums: _Sums,
) -> Loss:
    """The loss of one pass as a function of the policy's log-probabilities."""
    width = batch.token_BT.shape[1]
    clip = ClipRange(config.epsilon, config.epsilon_high)

    def loss(logp_BT: Tensor) -> Tensor:
        to = logp_BT.device
        behaviour_BT, weight = batch.logp_behaviour_BT.to(to), weight_BT.to(to)
        total = policy_objective(
            logp_BT,
            behaviour_BT,
            data.advantage_BT[rows, :width].to(to),
            weight,
            clip=clip,
            dual_clip=config.dual_clip,
        )
        _count(sums, logp_BT.detach(), behaviour_BT, batch.written_BT.to(to), clip)
        if data.logp_reference_BT is not None:
            reference_BT = data.logp_reference_BT[rows, :width].to(to)
            kl_BT = kl_k3(logp_BT.detach(), reference_BT)
            sums.kl_reference += float(kl_BT[batch.written_BT.to(to)].sum())
            if config.beta > 0:
                total = total + kl_objective(
                    logp_BT,
                    reference_BT,
                    weight,
                    kl_coef=config.beta,
                    estimator=_KL[config.kl_estimator],
                )
        return total

    return loss


def _count(
    sums: _Sums, logp_BT: Tensor, behaviour_BT: Tensor, written_BT: Tensor, clip: ClipRange
) -> None:
    log_ratio = (logp_BT - behaviour_BT)[written_BT]
    ratio = log_ratio.exp()
    sums.tokens += int(written_BT.sum())
    sums.kl_behaviour += float((ratio - 1 - log_ratio).sum())
    sums.clipped += float(((ratio < 1 - clip.below) | (ratio > 1 + clip.above)).sum())
