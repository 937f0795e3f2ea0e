"""The clipped policy-gradient loss of each token."""

from dataclasses import dataclass

import torch
from torch import Tensor

from turnwise.arrays import check_same_shape
from turnwise.errors import ConfigError

# exp(20) is 5e8: far beyond any clip, still finite in every dtype that trains.
MAX_LOG_RATIO = 20.0


@dataclass(frozen=True)
class ClipRange:
    """How far a token's probability ratio may move before its gain is cut."""

    below: float = 0.2  # in [0, 1]
    above: float = 0.2  # at least 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.below <= 1.0 or not self.above >= 0.0:
            raise ConfigError(
                "epsilon: expected a clip range with below in [0, 1] and above at least 0, "
                f"got below {self.below}, above {self.above}"
            )


def clipped_surrogate(
    logp_policy_BT: Tensor,
    logp_behaviour_BT: Tensor,
    advantage_BT: Tensor,
    *,
    clip: ClipRange,
    dual_clip: float | None,
) -> Tensor:
    """Loss of each token, to be minimised: pessimistic in the probability ratio.

        ρ = exp(clamp(logp_policy − logp_behaviour, ±20))
        l = max(−A·ρ, −A·clip(ρ, 1 − below, 1 + above));   where A < 0:  l = min(l, −c·A)

    logp_policy_BT: nats, differentiable. logp_behaviour_BT: nats, of what sampled, at the same
    temperature. advantage_BT: constant. dual_clip: c > 1, or None for no upper limit on the loss
    of a token with negative advantage.
    Returns loss_BT; −A where both log-probabilities agree. Padding is the caller's to mask.
    Raises ConfigError for dual_clip ≤ 1, ShapeError if the arrays differ in shape.
    Source: Schulman et al. 2017, arXiv:1707.06347, eq. 7; dual clip: Ye et al. 2020,
    arXiv:1912.09729, eq. 5. The clamp of the log-ratio is ours, against overflow.
    """
    check_same_shape(
        logp_policy_BT=logp_policy_BT,
        logp_behaviour_BT=logp_behaviour_BT,
        advantage_BT=advantage_BT,
    )
    if dual_clip is not None and not dual_clip > 1.0:
        raise ConfigError(
            f"dual_clip: expected a number above 1 or None, got {dual_clip}; "
            "at 1 or below it would cut the loss of tokens that have not moved"
        )
    ratio_BT = (logp_policy_BT - logp_behaviour_BT).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    cut_BT = ratio_BT.clamp(1.0 - clip.below, 1.0 + clip.above)
    loss_BT = torch.maximum(-advantage_BT * ratio_BT, -advantage_BT * cut_BT)
    if dual_clip is None:
        return loss_BT
    limited_BT = torch.minimum(loss_BT, -dual_clip * advantage_BT)
    return torch.where(advantage_BT < 0, limited_BT, loss_BT)
