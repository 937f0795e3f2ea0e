"""A fitted Q-function at work: scores of any rows, calibrated and in return units.

Axes: `E` heads, `B` rows, `K` decision steps, `T` tokens, `N` steps with a target.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from turnwise.conversation import Trajectory
from turnwise.iteration.q_heads import QNetwork, Scores, marked
from turnwise.iteration.q_model import QValues
from turnwise.losses import unscaled_value
from turnwise.qvalues.calibration import IDENTITY, LinearMap, LossName, fit_linear_map
from turnwise.tokens import microbatches

_ROWS, _TOKENS = 64, 2**18  # of one reading; the backend splits it further
_MIN_STEPS = 20  # with fewer, or with targets that are all equal, a map would be noise


@dataclass(frozen=True)
class FittedQ:
    """Implements `QModel`."""

    network: QNetwork
    low: float  # the return range
    high: float
    q_map: LinearMap = IDENTITY
    v_map: LinearMap = IDENTITY

    def values(self, rows: Sequence[Trajectory]) -> QValues:
        """Raises TrainingError where the weights have diverged."""
        scores = read_scores(self.network, rows, with_prefixes=True)
        q_EBK, v_EBK = self.returns(scores)
        if scores.prefix_EBT is None:
            return QValues(q_EBK, v_EBK, None)
        prefix_EBT = self._returns(scores.prefix_EBT, self.q_map).nan_to_num(0.0)
        return QValues(q_EBK, v_EBK, prefix_EBT)

    def returns(self, scores: Scores) -> tuple[Tensor, Tensor]:
        """Q and V of scores, the lowest return where there is none to read."""
        found = self._returns(scores.q_EBK, self.q_map), self._returns(scores.v_EBK, self.v_map)
        q_EBK, v_EBK = (torch.where(x.isnan(), self.low, x) for x in found)
        return q_EBK, v_EBK

    def _returns(self, score: Tensor, map: LinearMap) -> Tensor:
        mapped = map.a * score + map.b
        y = mapped.sigmoid() if self.network.loss == "log" else mapped
        return unscaled_value(y, low=self.low, high=self.high)


def read_scores(
    network: QNetwork, rows: Sequence[Trajectory], *, with_prefixes: bool = False
) -> Scores:
    """Scores of any number of rows, some at a time; NaN where there is nothing to read."""
    B, K = len(rows), max((len(row.turns) for row in rows), default=0)
    length_B = torch.tensor([len(row.token_ids) for row in rows], dtype=torch.int64)
    T = int(length_B.max()) if with_prefixes and rows else 0
    E = network.num_heads
    q_EBK, v_EBK = (torch.full((E, B, K), torch.nan) for _ in range(2))
    prefix_EBT = torch.full((E, B, T), torch.nan)
    has_prefixes = with_prefixes
    for index in _portions(rows, length_B):
        found = network.scores(marked([rows[b] for b in index.tolist()]))
        q_EBK[:, index, : found.q_EBK.shape[2]] = found.q_EBK
        v_EBK[:, index, : found.v_EBK.shape[2]] = found.v_EBK
        if found.prefix_EBT is None:
            has_prefixes = False
        elif with_prefixes:
            prefix_EBT[:, index, : found.prefix_EBT.shape[2]] = found.prefix_EBT
    return Scores(q_EBK, v_EBK, prefix_EBT if has_prefixes else None)


def _portions(rows: Sequence[Trajectory], length_B: Tensor) -> list[Tensor]:
    """Rows that are read together: of similar length, or where conversations have several rows,
    whole conversations."""
    of_name: dict[str, list[int]] = {}
    for b, row in enumerate(rows):
        of_name.setdefault(row.scenario_id, []).append(b)
    if len(of_name) == len(rows):
        return microbatches(length_B, max_rows=_ROWS, max_tokens=_TOKENS)
    groups = list(of_name.values())
    longest_G = torch.tensor([int(length_B[group].max()) for group in groups])
    split = microbatches(longest_G, max_rows=_ROWS, max_tokens=_TOKENS)
    return [torch.tensor([b for g in part.tolist() for b in groups[g]]) for part in split]


def calibrated(q: FittedQ, scores: Scores, y_BK: Tensor, is_known_BK: Tensor) -> FittedQ:
    """The same Q with increasing maps that bring Q and V closest to targets it was not fitted to.

    y_BK: scaled to [0, 1]. One map serves all heads, so that their spread is kept.
    """
    maps = [
        fitted_map(score_EBK, y_BK, is_known_BK, q.network.loss)
        for score_EBK in (scores.q_EBK, scores.v_EBK)
    ]
    return FittedQ(q.network, q.low, q.high, *maps)


def fitted_map(score_EBK: Tensor, y_BK: Tensor, is_known_BK: Tensor, loss: LossName) -> LinearMap:
    """The map of scores that exist and whose target is known; the identity where there are too few
    of them, or all targets are equal."""
    known_BK = is_known_BK & ~score_EBK[0].isnan()
    y_N = y_BK[known_BK].double()
    if len(y_N) < _MIN_STEPS or bool((y_N == y_N[0]).all()):
        return IDENTITY
    score_EN = score_EBK[:, known_BK].double()
    target_EN = y_N.expand_as(score_EN)
    return fit_linear_map(score_EN.numpy().ravel(), target_EN.numpy().ravel(), loss=loss)
