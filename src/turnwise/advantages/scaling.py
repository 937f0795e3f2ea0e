"""The size of advantages, set once over the whole step and before any split."""

import torch
from torch import Tensor

from turnwise.advantages.ranges import check_not_negative, check_share
from turnwise.arrays import check_same_shape
from turnwise.errors import EmptyStepError

RMS_FLOOR = 0.1  # outcome units


def scale_by_rms(a_BT: Tensor, written_BT: Tensor, *, floor: float = RMS_FLOOR) -> Tensor:
    """Advantages over their root mean square. No shift: signs and zeros survive.

        out = a / max(floor, √(mean of a² over written tokens))

    floor: keeps a step whose only signal is the length penalty from training at full strength; 0
    switches it off. Returns BT, 0 where not written and everywhere if all advantages are 0.
    Raises ConfigError if floor is negative; ShapeError if the arrays differ in shape.
    """
    check_not_negative("floor", floor)
    check_same_shape(a_BT=a_BT, written_BT=written_BT)
    kept_BT = torch.where(written_BT, a_BT, 0.0)
    return _over(kept_BT, kept_BT.norm() / written_BT.sum().clamp(min=1).sqrt(), floor)


def scale_turns_by_rms(a_BK: Tensor, length_BK: Tensor, *, floor: float = RMS_FLOOR) -> Tensor:
    """What `scale_by_rms` makes of turn advantages spread to tokens, without visiting the tokens.

        out = a / max(floor, √(Σ c·a² / Σ c))

    length_BK: written tokens c of each turn. Returns BK, 0 where there is no token and everywhere
    if all advantages are 0.
    Raises ConfigError if floor is negative; ShapeError if the arrays differ in shape.
    """
    check_not_negative("floor", floor)
    check_same_shape(a_BK=a_BK, length_BK=length_BK)
    kept_BK = torch.where(length_BK > 0, a_BK, 0.0)
    mean_square = (kept_BK.square() * length_BK).sum() / length_BK.sum().clamp(min=1)
    return _over(kept_BK, mean_square.sqrt(), floor)


def _over(kept: Tensor, rms: Tensor, floor: float) -> Tensor:
    size = rms.clamp(min=floor)
    return kept / torch.where(size > 0, size, 1.0)


def whiten_with_shift(a_BT: Tensor, written_BT: Tensor) -> Tensor:
    """Advantages with mean 0 and variance 1 over written tokens.

        out = (a − mean) / √(var·N/(N − 1) + 1e-8)

    The shift rewards groups without signal as soon as the token-weighted mean is not 0: for
    comparison with the published code only. Returns BT, 0 where not written.
    Raises EmptyStepError for fewer than two written tokens.
    Source: `masked_whiten` as used in the published code of ITPO.
    """
    check_same_shape(a_BT=a_BT, written_BT=written_BT)
    a_N = a_BT[written_BT]
    if len(a_N) < 2:
        raise EmptyStepError(
            f"expected two or more written tokens to standardise over, got {len(a_N)}; were all "
            "dialogues of this step dropped?"
        )
    whitened_BT = (a_BT - a_N.mean()) / (a_N.var() + 1e-8).sqrt()
    return torch.where(written_BT, whitened_BT, 0.0)


def mix_by_trust(trusted_BT: Tensor, fallback_BT: Tensor, *, trust: float) -> Tensor:
    """A = g·A_trusted + (1 − g)·A_fallback. Scale both before, or their sizes decide instead of g.

    Raises ConfigError unless trust is in [0, 1].
    """
    check_share("trust", trust)
    return trust * trusted_BT + (1 - trust) * fallback_BT


def lambda_under_trust(turn_lambda: float, *, trust: float) -> float:
    """λ_eff = 1 − g·(1 − λ): 1 (outcome minus baseline) without trust, λ with full trust.

    Raises ConfigError unless both are in [0, 1].
    """
    check_share("turn_lambda", turn_lambda)
    check_share("trust", trust)
    return 1 - trust * (1 - turn_lambda)
