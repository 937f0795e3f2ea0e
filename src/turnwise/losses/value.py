"""How a critic's values should move, and the values of a critic that answers a question."""

import torch
from torch import Tensor

from turnwise.arrays import check_same_shape
from turnwise.errors import ConfigError


def clipped_value_loss(
    value_BT: Tensor, target_BT: Tensor, value_before_BT: Tensor, *, clip: float
) -> Tensor:
    """Half the square error of each value, pessimistic beyond `clip` from where it was.

        l = ½·max((V − target)², (clip(V, V_before ± c) − target)²)

    value_BT: return units, differentiable. target_BT: A + V_before, constant. value_before_BT: the
    values at the start of the step, constant. clip: c > 0, in the same units.
    Returns loss_BT, unreduced; padding is the caller's to mask. A value that has moved more than c
    towards its target gets no gradient.
    Raises ConfigError for c ≤ 0, ShapeError if the arrays differ in shape.
    Source: the value loss of PPO's published code (OpenAI baselines, ppo2).
    """
    check_same_shape(value_BT=value_BT, target_BT=target_BT, value_before_BT=value_before_BT)
    if not clip > 0:
        raise ConfigError(f"value_clip: expected a number above 0, got {clip}")
    cut_BT = value_before_BT + (value_BT - value_before_BT).clamp(-clip, clip)
    return 0.5 * torch.maximum((value_BT - target_BT).square(), (cut_BT - target_BT).square())


def verdict_value(logp_yes: Tensor, logp_no: Tensor) -> Tensor:
    """Chance of yes if the answer is one of two: p(yes) / (p(yes) + p(no)), in [0, 1].

    logp_yes, logp_no: nats, of one shape. It stays exact where both are hardly likely.
    Raises ShapeError if the shapes differ.
    """
    check_same_shape(logp_yes=logp_yes, logp_no=logp_no)
    return torch.sigmoid(logp_yes - logp_no)


def verdict_loss(logp_yes: Tensor, logp_no: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of a verdict's value with a target in [0, 1], nats, unreduced.

        l = −target·log V − (1 − target)·log(1 − V)

    Its gradient in logp_yes is V − target, so the words' share of all answers is left alone.
    Raises ShapeError if the shapes differ.
    """
    check_same_shape(logp_yes=logp_yes, logp_no=logp_no, target=target)
    return torch.nn.functional.binary_cross_entropy_with_logits(
        logp_yes - logp_no, target, reduction="none"
    )


def verdict_cross_entropy(logp_yes: Tensor, logp_no: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of a verdict among all tokens with a target in [0, 1], nats, unreduced.

        l = −target·log p(yes) − (1 − target)·log p(no)

    Two weighted target tokens: every engine that trains on those can train on it. Unlike
    `verdict_loss` it also draws the chance of all other words to the two.
    Raises ShapeError if the shapes differ.
    """
    check_same_shape(logp_yes=logp_yes, logp_no=logp_no, target=target)
    return -target * logp_yes - (1 - target) * logp_no
