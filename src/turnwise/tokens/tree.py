"""Which token of a packed row continues which: dialogues and side texts as trees in one row."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from turnwise.conversation.trajectory import Span
from turnwise.errors import ShapeError

Places = tuple[Tensor, Tensor]  # row_N and column_N, int64


@dataclass(frozen=True)
class Branch:
    """A text that goes on from a boundary of a dialogue, beside what was said there."""

    dialogue: int  # row of its trunk
    fork: int  # >= 1: it sees the trunk's columns before this one; nested: its parent's fork
    token_ids: tuple[int, ...]  # at least one
    position_ids: tuple[int, ...]  # where the model is told they stand
    scored: Span  # of these tokens, stop exclusive; may be empty
    kind: str  # "counterfactual", "verdict", "candidate", ...
    turn: int  # >= 0: the turn it is about
    parent: int | None = None  # earlier branch of the same list at whose end this one begins
    target: Span | None = None  # trunk columns that hold the scored tokens as they were played


@dataclass(frozen=True)
class Tree:
    """The order of speech within packed rows.

    A token sees exactly the tokens on its own path from the root:

        query q sees key k  ⇔  k ≤ q < end[k]

    which is causality, ancestors only, several dialogues in a row, nested branches, shared
    openings and padding in one rule. Source: InfoPO method page, 4.1 to 4.3.
    """

    position_BT: Tensor  # int64: where the model is told the token stands; 0 on padding
    end_BT: Tensor  # int64: one past the last descendant of the token's segment; own index + 1
    parent_BT: Tensor  # int64: column of the token before it on its path; -1 at a root, padding

    def __post_init__(self) -> None:
        shapes = {f.name: tuple(getattr(self, f.name).shape) for f in fields(self)}
        if len(set(shapes.values())) > 1:
            raise ShapeError(f"all fields of a Tree share axes B, T; got {shapes}")

    def rows(self, index_B: Tensor, width: int) -> "Tree":
        """The rows at `index_B`, cut to `width` columns."""
        return Tree(
            position_BT=self.position_BT[index_B, :width],
            end_BT=self.end_BT[index_B, :width],
            parent_BT=self.parent_BT[index_B, :width],
        )

    def to(self, device: torch.device) -> "Tree":
        """The same on another device."""
        return Tree(*(getattr(self, f.name).to(device) for f in fields(self)))
