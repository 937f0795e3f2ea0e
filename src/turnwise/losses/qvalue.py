"""How a Q-function's outputs should move: three losses, where they act, and their sum over heads.

Targets are returns scaled to [0, 1] by `scaled_return`, so that one learning rate serves every
range; nothing is ever clipped into it. All losses are unreduced. Axes: `E` heads of the ensemble,
`N` token positions or decision steps, `Z` bins.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from turnwise.arrays import check_same_shape, place_at_turn_ends, spread_to_tokens, turn_length
from turnwise.errors import ConfigError, EmptyStepError, OutcomeError, ShapeError

MIN_MARGIN_SIGMAS = 3.0  # room beside the range; with less the histogram's mean is pulled inwards


def scaled_return(return_: Tensor, is_valid: Tensor, *, low: float, high: float) -> Tensor:
    """A return's place in the declared range.

        y = (G − low) / (high − low)

    return_: any shape, looked at only where is_valid. Returns the same shape, in [0, 1]; 0 where
    not valid. `unscaled_value` is the way back.
    Raises OutcomeError naming index, value and range for a return outside it, or NaN, where valid;
    ConfigError unless low < high.
    """
    check_same_shape(return_=return_, is_valid=is_valid)
    width = _width(low, high)
    bad = is_valid & ~((return_ >= low) & (return_ <= high))
    if bool(bad.any()):
        index = tuple(bad.nonzero()[0].tolist())
        raise OutcomeError(
            f"return at {index}: expected a number in return_range [{low}, {high}], found "
            f"{return_[index].item()}; set return_low and return_high (it is never clipped)"
        )
    return torch.where(is_valid, (return_ - low) / width, torch.zeros_like(return_))


def unscaled_value(y: Tensor, *, low: float, high: float) -> Tensor:
    """Q = low + y·(high − low): a scaled value in return units. ConfigError unless low < high."""
    return low + y * _width(low, high)


def value_bce(logit: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of a value's logit with a soft label, nats.

        l = −y·log σ(q) − (1 − y)·log(1 − σ(q))

    target: in [0, 1], from `scaled_return`. Its minimiser is the mean of y; σ(q) is the value.
    Raises ShapeError if the shapes differ.
    """
    check_same_shape(logit=logit, target=target)
    return binary_cross_entropy_with_logits(logit, target, reduction="none")


def value_mse(value: Tensor, target: Tensor) -> Tensor:
    """l = (q − y)². Its minimiser is the mean of y. Raises ShapeError if the shapes differ."""
    check_same_shape(value=value, target=target)
    return (value - target).square()


@dataclass(frozen=True)
class HistogramSupport:
    """The bins of a histogram over returns, and the width of the bell that a target becomes."""

    edge_Z: Tensor  # Z + 1 edges, rising, equally far apart
    sigma: float  # in the unit of the edges

    @property
    def centre_Z(self) -> Tensor:
        return (self.edge_Z[:-1] + self.edge_Z[1:]) / 2


def histogram_support(
    *,
    low: float = 0.0,
    high: float = 1.0,
    num_bins: int = 51,
    bin_sigmas: float = 0.75,
    margin: float = 0.1,
    dtype: torch.dtype = torch.float32,
) -> HistogramSupport:
    """Equal bins over the range of targets, widened on both sides.

    margin: on each side, as a share of the range. bin_sigmas: σ in bins.
    Raises ConfigError for less than 3σ of margin: a bell cut at an edge has another mean than its
    target (51 bins on [0, 1] make .033 of a true .02); unless low < high.
    """
    room = margin * _width(low, high)
    sigma = bin_sigmas * (high - low + 2 * room) / num_bins
    if room < MIN_MARGIN_SIGMAS * sigma:
        raise ConfigError(
            f"hl-gauss: expected a margin of at least {MIN_MARGIN_SIGMAS} σ = "
            f"{MIN_MARGIN_SIGMAS * sigma:.4g} beside the range, found {room:.4g}; "
            "raise num_bins or lower bin_sigmas"
        )
    return HistogramSupport(torch.linspace(low - room, high + room, num_bins + 1).to(dtype), sigma)


def histogram_target(target: Tensor, support: HistogramSupport) -> Tensor:
    """Probability of each bin under a bell around the target.

        p_j ∝ Φ((e_{j+1} − y)/σ) − Φ((e_j − y)/σ)

    Returns the target's shape with `Z` behind, summing to one.
    Raises OutcomeError naming index and value for a target outside the support, or NaN.
    Source: HL-Gauss, Imani and White 2018, arXiv:1806.04613; Farebrother et al. 2024,
    arXiv:2403.03950.
    """
    edge_Z = support.edge_Z.to(target)
    bad = ~((target >= edge_Z[0]) & (target <= edge_Z[-1]))
    if bool(bad.any()):
        index = tuple(bad.nonzero()[0].tolist())
        raise OutcomeError(
            f"target at {index}: expected a number within the histogram's support "
            f"[{edge_Z[0].item():.4g}, {edge_Z[-1].item():.4g}], found {target[index].item()}; "
            "set return_low and return_high (it is never clipped)"
        )
    mass: Tensor = torch.special.ndtr((edge_Z - target.unsqueeze(-1)) / support.sigma).diff(dim=-1)
    return mass / mass.sum(dim=-1, keepdim=True)


def histogram_cross_entropy(logit: Tensor, target: Tensor, support: HistogramSupport) -> Tensor:
    """l = −Σ_j p_j·log softmax(logit)_j with the bell p of `histogram_target`, nats.

    logit: the target's shape with `Z` behind. Raises ShapeError for other shapes, OutcomeError for
    a target outside the support.
    """
    p = histogram_target(target, support)
    check_same_shape(logit=logit, target_with_bins=p)
    return -(p * logit.log_softmax(dim=-1)).sum(dim=-1)


def histogram_mean(logit: Tensor, support: HistogramSupport) -> Tensor:
    """Q = Σ_j softmax(logit)_j·c_j, in the unit of the targets. logit: `Z` last."""
    return (logit.softmax(dim=-1) * support.centre_Z.to(logit)).sum(dim=-1)


def reply_token_weights(
    turn_of_token_BT: Tensor,
    is_trained_BK: Tensor,
    *,
    end_weight: float,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Weight of each written token in its decision step's loss.

        end token: w;   each of the other n − 1 tokens: (1 − w)/(n − 1);   n = 1: 1

    is_trained_BK: steps that have a target; leave out a reply that lacks its end token.
    Returns weight_BT; the weights of a trained step sum to one, all others are 0.
    Raises ConfigError unless end_weight is in [0, 1].
    """
    if not 0 <= end_weight <= 1:
        raise ConfigError(f"expected end_weight in [0, 1], got {end_weight}")
    trained_BK = is_trained_BK.to(dtype)
    length_BK = turn_length(turn_of_token_BT, is_trained_BK.shape[1])
    other_BK = (1 - end_weight) / (length_BK - 1).clamp(min=1) * trained_BK
    end_BK = torch.where(length_BK == 1, 1.0, end_weight) * trained_BK
    is_end_BT = place_at_turn_ends(torch.ones_like(trained_BK), turn_of_token_BT) > 0
    return torch.where(
        is_end_BT,
        spread_to_tokens(end_BK, turn_of_token_BT),
        spread_to_tokens(other_BK, turn_of_token_BT),
    )


def ensemble_loss(
    loss_BNE: Tensor, weight_BN: Tensor, head_weight_BE: Tensor, *, divisor: float
) -> Tensor:
    """This micro-batch's share of the step's loss: the mean over heads of the weighted losses.

        (1/D)·Σ_bn w_bn·(1/E)·Σ_e c_be·l_bne

    loss_BNE: its values where the weight is 0 do not matter (NaN included). head_weight_BE: c, how
    often each head sees the row, Poisson(1) of its customer; ones for a single head. divisor: D,
    decision steps of the whole optimizer step. Returns a scalar; the shares of micro-batches add.
    Raises EmptyStepError for D ≤ 0; ShapeError if the arrays do not share their axes.
    """
    B, N, E = loss_BNE.shape
    if weight_BN.shape != (B, N) or head_weight_BE.shape != (B, E):
        raise ShapeError(
            f"expected weights of shapes {(B, N)} and {(B, E)} for a loss of {(B, N, E)}, got "
            f"{tuple(weight_BN.shape)} and {tuple(head_weight_BE.shape)}"
        )
    if not divisor > 0:
        raise EmptyStepError(f"expected a decision step with a target, found {divisor}; skip it")
    weight_BNE = weight_BN.unsqueeze(2) * head_weight_BE.unsqueeze(1)
    kept_BNE = torch.where(weight_BNE != 0, loss_BNE, torch.zeros_like(loss_BNE))
    return (weight_BNE * kept_BNE).sum() / (E * divisor)


def _width(low: float, high: float) -> float:
    if not low < high:
        raise ConfigError(f"return_range: expected low < high, got [{low}, {high}]")
    return high - low
