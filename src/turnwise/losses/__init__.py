"""Losses of tokens and dialogues, unreduced, and the divisor that turns them into one number.

Here: the clipped surrogate, KL estimators, the losses of values, of a Q-function and of the
implicit reward model, the weights of tokens in a step. Not here: rewards of turns (credit) and what
they are compared with (advantages). Every function is pure; arrays in, arrays out.
"""

from turnwise.losses.implicit_prm import (
    base_rate_bce,
    bias_gradient,
    implicit_prm_bce,
    implicit_prm_logits,
    initial_bias,
    prm_token_weights,
)
from turnwise.losses.kl import kl_k1, kl_k2, kl_k3, kl_turn_reward
from turnwise.losses.objective import (
    Divisor,
    entropy_weights,
    kl_objective,
    loss_divisor,
    loss_weights,
    policy_objective,
)
from turnwise.losses.qvalue import (
    HistogramSupport,
    ensemble_loss,
    histogram_cross_entropy,
    histogram_mean,
    histogram_support,
    histogram_target,
    reply_token_weights,
    scaled_return,
    unscaled_value,
    value_bce,
    value_mse,
)
from turnwise.losses.surrogate import ClipRange, clipped_surrogate
from turnwise.losses.value import (
    clipped_value_loss,
    verdict_cross_entropy,
    verdict_loss,
    verdict_value,
)

__all__ = [
    "ClipRange",
    "Divisor",
    "HistogramSupport",
    "base_rate_bce",
    "bias_gradient",
    "clipped_surrogate",
    "clipped_value_loss",
    "ensemble_loss",
    "entropy_weights",
    "histogram_cross_entropy",
    "histogram_mean",
    "histogram_support",
    "histogram_target",
    "implicit_prm_bce",
    "implicit_prm_logits",
    "initial_bias",
    "kl_k1",
    "kl_k2",
    "kl_k3",
    "kl_objective",
    "kl_turn_reward",
    "loss_divisor",
    "loss_weights",
    "policy_objective",
    "prm_token_weights",
    "reply_token_weights",
    "scaled_return",
    "unscaled_value",
    "value_bce",
    "value_mse",
    "verdict_cross_entropy",
    "verdict_loss",
    "verdict_value",
]
