"""Dialogues as arrays: the only form in which a model sees them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from turnwise.conversation import Trajectory
from turnwise.errors import EmptyStepError, ShapeError, TokensError
from turnwise.tokens.tree import Tree


@dataclass(frozen=True)
class TurnBatch:
    """B dialogues padded on the right to T tokens.

    With a `tree` a row holds dialogues and side texts (branches) in one; `turn_of_token_BT` is then
    not -1 at the tokens to be scored, wherever they stand.
    """

    token_BT: Tensor  # int64
    turn_of_token_BT: Tensor  # int64: 0..K-1 where the policy wrote, -1 elsewhere
    logp_behaviour_BT: Tensor  # float32, nats; 0 where the turn is -1
    length_B: Tensor  # int64: tokens of each dialogue without padding
    tree: Tree | None = None  # of packed rows with branches; None: each row is one dialogue

    def __post_init__(self) -> None:
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        shapes = {n: tuple(a.shape) for n, a in arrays.items() if n not in ("length_B", "tree")}
        if self.tree is not None:
            shapes["tree"] = tuple(self.tree.position_BT.shape)
        if len(set(shapes.values())) > 1 or self.length_B.shape != self.token_BT.shape[:1]:
            raise ShapeError(
                f"all fields of a TurnBatch share axes B, T (length_B: B); got {shapes}, "
                f"length_B {tuple(self.length_B.shape)}"
            )

    @property
    def written_BT(self) -> Tensor:
        return self.turn_of_token_BT >= 0

    @property
    def num_turns(self) -> int:
        """K: the largest turn index + 1 (a skipped index is an empty turn)."""
        return int(self.turn_of_token_BT.max().item()) + 1 if self.turn_of_token_BT.numel() else 0

    @property
    def num_written(self) -> int:
        return int(self.written_BT.sum().item())

    def predictions(self) -> tuple[Tensor, Tensor, Tensor]:
        """Row and column of each scored token, and the column after which it is predicted.

        A text's first token, which nothing predicts, is left out.
        """
        row_N, column_N = self.written_BT.nonzero(as_tuple=True)
        before_N = column_N - 1 if self.tree is None else self.tree.parent_BT[row_N, column_N]
        kept_N = before_N >= 0
        return row_N[kept_N], column_N[kept_N], before_N[kept_N]

    def to(self, device: torch.device) -> "TurnBatch":
        """The same rows on another device."""
        names = [f.name for f in fields(self) if f.name != "tree"]
        arrays = {name: getattr(self, name).to(device) for name in names}
        return TurnBatch(**arrays, tree=None if self.tree is None else self.tree.to(device))

    def rows(self, index: Sequence[int] | Tensor) -> "TurnBatch":
        """The dialogues at `index`, with padding no longer than they need."""
        index_B = torch.as_tensor(index, dtype=torch.int64)
        length_B = self.length_B[index_B]
        width = int(length_B.max().item()) if len(index_B) else 0
        return TurnBatch(
            token_BT=self.token_BT[index_B, :width],
            turn_of_token_BT=self.turn_of_token_BT[index_B, :width],
            logp_behaviour_BT=self.logp_behaviour_BT[index_B, :width],
            length_B=length_B,
            tree=None if self.tree is None else self.tree.rows(index_B, width),
        )


def turn_batch(trajectories: Sequence[Trajectory], pad_id: int = 0) -> TurnBatch:
    """The trajectories as one batch, in their order.

    pad_id: fills the right; its value never matters, since no written token sees it.
    Raises EmptyStepError for no trajectory, TokensError for a turn that starts at position 0 (its
    first token would have no context to be predicted from) or a log-probability that is not finite.
    """
    if not trajectories:
        raise EmptyStepError("expected at least one dialogue to build a batch, got none")
    B, T = len(trajectories), max(len(trajectory.token_ids) for trajectory in trajectories)
    token_BT = torch.full((B, T), pad_id, dtype=torch.int64)
    turn_of_token_BT = torch.full((B, T), -1, dtype=torch.int64)
    logp_BT = torch.zeros(B, T, dtype=torch.float32)
    for b, trajectory in enumerate(trajectories):
        token_BT[b, : len(trajectory.token_ids)] = torch.tensor(trajectory.token_ids)
        for k, turn in enumerate(trajectory.turns):
            if turn.stop > turn.start == 0:
                raise TokensError(
                    f"dialogue {b} ({trajectory.scenario_id}): turn {k} starts at position 0; "
                    "a policy's token needs at least one token before it"
                )
            turn_of_token_BT[b, turn.start : turn.stop] = k
            logp_BT[b, turn.start : turn.stop] = torch.tensor(turn.logp_behaviour)
    if not bool(torch.isfinite(logp_BT).all()):
        b, t = (int(i) for i in (~torch.isfinite(logp_BT)).nonzero()[0])
        raise TokensError(
            f"dialogue {b} ({trajectories[b].scenario_id}), position {t}: expected a finite "
            f"log-probability, found {logp_BT[b, t].item()}; the sampler is at fault"
        )
    length_B = torch.tensor([len(trajectory.token_ids) for trajectory in trajectories])
    return TurnBatch(token_BT, turn_of_token_BT, logp_BT, length_B)


def microbatches(length_B: Tensor, *, max_rows: int, max_tokens: int) -> list[Tensor]:
    """Row indices of passes over rows of similar length.

    max_rows: rows of a pass. max_tokens: rows × longest row of a pass; a single longer row still
    gets a pass of its own. Every row is in exactly one pass; the split never depends on the values.
    """
    order = torch.argsort(length_B, stable=True).tolist()
    passes: list[list[int]] = []
    for row in order:
        # Ascending order: the newest row is the longest of its pass.
        fits = (
            passes
            and len(passes[-1]) < max_rows
            and (len(passes[-1]) + 1) * int(length_B[row]) <= max_tokens
        )
        if fits:
            passes[-1].append(row)
        else:
            passes.append([row])
    return [torch.tensor(rows, dtype=torch.int64) for rows in passes]
