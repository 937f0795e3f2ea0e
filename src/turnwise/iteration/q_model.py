"""A Q-function as the rest of the library sees it.

Axes: `E` heads of the ensemble, `B` rows, `K` decision steps, `T` tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from turnwise.conversation import Trajectory


@dataclass(frozen=True)
class QValues:
    """What a Q-function says of rows, in return units, calibrated.

    q: at each decision step's end token, V: before its first token. A turn that does not exist, or
    a reply without its end token, holds the lowest return in q.
    """

    q_EBK: Tensor  # float32
    v_EBK: Tensor
    prefix_EBT: Tensor | None  # Q at every written token; None: the head has no prefix values

    @property
    def q_BK(self) -> Tensor:
        return self.q_EBK.mean(dim=0)

    @property
    def v_BK(self) -> Tensor:
        return self.v_EBK.mean(dim=0)

    @property
    def spread_BK(self) -> Tensor:
        """Standard deviation of q over the heads; 0 for one head."""
        return self.q_EBK.std(dim=0, unbiased=False)


class QModel(Protocol):
    """Says what a reply is worth."""

    def values(self, rows: Sequence[Trajectory]) -> QValues:
        """Without gradient; splits the rows by itself."""
