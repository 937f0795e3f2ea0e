"""What every loss asks of its inputs before it computes. No equation lives here."""

import torch
from torch import Tensor

from turnwise.errors import LogProbError


def check_finite(logp_BT: Tensor, written_BT: Tensor, name: str) -> None:
    """Raises LogProbError naming the array, dialogue and position of the first bad value.

    logp_BT: nats; only its values where written_BT is True are looked at.
    """
    bad_BT = written_BT & ~torch.isfinite(logp_BT)
    if bool(bad_BT.any()):
        b, t = (int(i) for i in bad_BT.nonzero()[0])
        raise LogProbError(
            f"{name}, dialogue {b}, position {t}: expected a finite log-probability where the "
            f"policy wrote, found {logp_BT[b, t].item()}; check the model that scored it, "
            "the value is never replaced"
        )


def zero_unwritten(x_BT: Tensor, written_BT: Tensor) -> Tensor:
    """x_BT where written, 0 elsewhere: neither value nor gradient of the rest gets through."""
    # A product with the mask would keep a NaN, and its gradient would be NaN too.
    return torch.where(written_BT, x_BT, torch.zeros_like(x_BT))
