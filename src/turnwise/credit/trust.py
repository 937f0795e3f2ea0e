"""Does the reward model rank siblings rightly, and how far may it steer?"""

from dataclasses import dataclass

import torch
from torch import Tensor

DECAY = 0.9  # of the running accuracy, per iteration
CHANCE = 0.55  # at or below it nothing is believed
WIDTH = 0.10  # this far above it everything is


def order_accuracy(
    logit_B: Tensor, outcome_B: Tensor, group_of_dialogue_B: Tensor, is_valid_B: Tensor
) -> float | None:
    """How often siblings with different outcomes are ranked rightly, weighted by the difference.

        Σ |Δy|·[sign Δz = sign Δy] / Σ |Δy|      over pairs of valid siblings; a tie in z counts ½

    logit_B: z, best scored before the dialogue's own outcome was learnt. Returns a number in
    [0, 1]; None if no two siblings differ in outcome.
    """
    valid = [x_B.detach()[is_valid_B] for x_B in (group_of_dialogue_B, logit_B, outcome_B)]
    z_PG, y_PG = _by_group(*valid)
    gap_PGG = (y_PG.unsqueeze(2) - y_PG.unsqueeze(1)).nan_to_num(nan=0.0)
    order_PGG = (z_PG.unsqueeze(2) - z_PG.unsqueeze(1)).nan_to_num(nan=0.0).sign()
    weight = float(gap_PGG.abs().sum())
    if weight == 0:
        return None
    return float((gap_PGG.abs() * (1 + order_PGG * gap_PGG.sign()) / 2).sum()) / weight


def _by_group(group_N: Tensor, *columns: Tensor) -> list[Tensor]:
    """Each column as a float64 table: one row a group, NaN where a group is smaller."""
    _, index_N, size_P = torch.unique(group_N, return_inverse=True, return_counts=True)
    order_N = index_N.argsort(stable=True)
    row_N = index_N[order_N]
    column_N = torch.arange(len(row_N), device=row_N.device) - (size_P.cumsum(0) - size_P)[row_N]
    shape = (len(size_P), int(size_P.max()) if len(size_P) else 0)
    empty_PG = torch.full(shape, torch.nan, dtype=torch.float64, device=row_N.device)
    return [empty_PG.index_put((row_N, column_N), x_N[order_N].double()) for x_N in columns]


def sign_accuracy(logit_B: Tensor, outcome_B: Tensor, is_valid_B: Tensor) -> float | None:
    """Share of valid dialogues whose logit has the sign of 2y − 1.

    y = ½ is skipped; a logit of exactly 0 counts ½. Returns None if no dialogue is left.
    """
    target_N = (2 * outcome_B[is_valid_B] - 1).sign()
    right_N = (1 + logit_B.detach()[is_valid_B].sign() * target_N) / 2
    counted_N = target_N != 0
    return float(right_N[counted_N].mean()) if bool(counted_N.any()) else None


@dataclass(frozen=True)
class Trust:
    """What the reward model's rankings were worth so far."""

    accuracy: float | None = None  # running mean of order accuracies; None before the first

    def updated(self, accuracy: float | None) -> "Trust":
        """After one more iteration; None (no siblings differed) changes nothing."""
        if accuracy is None:
            return self
        if self.accuracy is None:
            return Trust(accuracy)
        return Trust(DECAY * self.accuracy + (1 - DECAY) * accuracy)

    @property
    def gate(self) -> float:
        """How far it may steer: g = clip((accuracy − 0.55) / 0.10, 0, 1); 0 before any accuracy."""
        if self.accuracy is None:
            return 0.0
        return min(max((self.accuracy - CHANCE) / WIDTH, 0.0), 1.0)
