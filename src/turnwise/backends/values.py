"""Critics: a scalar head on a model's states, V of every written token, read before it.

The head is one float32 linear map of the state of the token BEFORE the written one, so that V_t
never sees token t. It starts as a constant: 0, or where the caller says. Here: the head and the
critic around it; whose states they are, each backend knows.

Axes: `N` written tokens, in reading order; `W` width of a state.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from turnwise.backends.protocol import Loss, Weights
from turnwise.errors import ShapeError, TrainingError
from turnwise.tokens import TurnBatch, microbatches


class Body(Weights, Protocol):
    """A learner whose states can be read and learnt through; the head is among its weights."""

    role: str

    def states(self, batch: TurnBatch, *, training: bool = False) -> Tensor:
        """state_NW of one pass: of the token before each written one."""


class ValueLearner:
    """Implements `Critic` on any body."""

    def __init__(self, body: Body, head: nn.Linear, *, max_rows: int, max_tokens: int) -> None:
        """max_rows, max_tokens: of one scoring pass (rows × longest row)."""
        self._body, self._head = body, head
        self._max_rows, self._max_tokens = max_rows, max_tokens
        self.optim_step, self.save, self.load = body.optim_step, body.save, body.load

    def values(self, batch: TurnBatch) -> Tensor:
        """value_BT float32 without gradient, on the batch's device; 0 where nothing is written.

        Raises TrainingError naming the first value that is not finite.
        """
        out_BT = torch.zeros(batch.token_BT.shape, dtype=torch.float32)
        split = microbatches(
            batch.length_B.cpu(), max_rows=self._max_rows, max_tokens=self._max_tokens
        )
        with torch.inference_mode():
            for rows in split:
                part_BT = self._read(batch.rows(rows), training=False)
                out_BT[rows, : part_BT.shape[1]] = part_BT.cpu()
        self._check_finite(out_BT)
        return out_BT.to(batch.token_BT.device)

    def forward_backward(self, batch: TurnBatch, loss: Loss) -> Mapping[str, float]:
        """One pass over one micro-batch; gradients add up until `optim_step`.

        Raises TrainingError, before any gradient, for a value that is not finite.
        """
        value_BT = self._read(batch, training=True)
        self._check_finite(value_BT.detach())
        total = loss(value_BT)
        torch.autograd.backward(total)
        return {"loss": float(total.detach())}

    def _read(self, batch: TurnBatch, *, training: bool) -> Tensor:
        """value_BT of one pass, on the batch's device.

        Raises ShapeError for packed rows: their states are not read here.
        """
        if batch.tree is not None:
            raise ShapeError(
                "expected rows of one dialogue each for a critic, found packed rows; give the "
                "dialogues as `turn_batch` builds them"
            )
        state_NW = self._body.states(batch, training=training)
        value_N = self._head(state_NW.float())[:, 0].to(batch.token_BT.device)
        blank_BT = torch.zeros(batch.token_BT.shape, device=value_N.device)
        return blank_BT.masked_scatter(batch.written_BT, value_N)

    def _check_finite(self, value_BT: Tensor) -> None:
        if not bool(torch.isfinite(value_BT).all()):
            b, t = (int(i) for i in (~torch.isfinite(value_BT)).nonzero()[0])
            raise TrainingError(
                f"{self._body.role}: expected finite values, found {value_BT[b, t].item()} at "
                f"dialogue {b}, position {t}; the weights have diverged: lower the learning rate"
            )


def constant_head(width: int, start: float, device: torch.device) -> nn.Linear:
    """A float32 head that says `start` of every state until it has learnt."""
    # Not initialised at random first: that would move the global generator.
    head: nn.Linear = nn.utils.skip_init(nn.Linear, width, 1, device=device, dtype=torch.float32)
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.bias, start)
    return head


def head_weights(head: nn.Linear) -> dict[str, nn.Parameter]:
    """The head's weights by their names in a learner's files."""
    return dict(head.named_parameters(prefix="value_head"))
