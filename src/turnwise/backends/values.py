"""Readers: a linear head on a model's states; and critics, which are readers of one number.

The head is one float32 linear map of the state of each token. It starts as constants: its weights
are 0, its biases what the caller says. Here: the head and the learners around it; whose states they
are, each backend knows.

Axes: `O` outputs of the head; `W` width of a state.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from turnwise.backends.protocol import Loss, Reader, Weights
from turnwise.errors import ShapeError, TrainingError
from turnwise.tokens import TurnBatch, microbatches


class Body(Weights, Protocol):
    """A learner whose states can be read and learnt through; the head is among its weights."""

    role: str

    def states(self, batch: TurnBatch, *, training: bool = False) -> Tensor:
        """state_BTW of one pass: after each token. With training the rows are plain."""


class HeadLearner:
    """Implements `Reader` on any body."""

    def __init__(self, body: Body, head: nn.Linear, *, max_rows: int, max_tokens: int) -> None:
        """max_rows, max_tokens: of one scoring pass (rows × longest row)."""
        self._body, self._head = body, head
        self._max_rows, self._max_tokens = max_rows, max_tokens
        self.optim_step, self.save = body.optim_step, body.save
        self.load, self.start_from = body.load, body.start_from

    def read(self, batch: TurnBatch) -> Tensor:
        """output_BTO float32 without gradient, on the batch's device; 0 on padding.

        Raises TrainingError naming the first output that is not finite.
        """
        out_BTO = torch.zeros(*batch.token_BT.shape, self._head.out_features)
        split = microbatches(
            batch.length_B.cpu(), max_rows=self._max_rows, max_tokens=self._max_tokens
        )
        with torch.inference_mode():
            for rows in split:
                part_BTO = self._outputs(batch.rows(rows), training=False)
                out_BTO[rows, : part_BTO.shape[1]] = part_BTO.cpu()
        self._check_finite(out_BTO)
        return out_BTO.to(batch.token_BT.device)

    def forward_backward(self, batch: TurnBatch, loss: Loss) -> Mapping[str, float]:
        """One pass over one micro-batch; gradients add up until `optim_step`.

        Raises TrainingError, before any gradient, for an output that is not finite.
        """
        output_BTO = self._outputs(batch, training=True)
        self._check_finite(output_BTO.detach())
        total = loss(output_BTO)
        torch.autograd.backward(total)
        return {"loss": float(total.detach())}

    def _outputs(self, batch: TurnBatch, *, training: bool) -> Tensor:
        """output_BTO of one pass, on the batch's device.

        Raises ShapeError for packed rows that are to be learnt from.
        """
        if training:
            _check_plain(batch)
        state_BTW = self._body.states(batch, training=training)
        output_BTO: Tensor = self._head(state_BTW.float()).to(batch.token_BT.device)
        column_T = torch.arange(batch.token_BT.shape[1], device=output_BTO.device)
        is_padding_BT = column_T >= batch.length_B.to(output_BTO.device)[:, None]
        return output_BTO.masked_fill(is_padding_BT[:, :, None], 0.0)

    def _check_finite(self, output_BTO: Tensor) -> None:
        if not bool(torch.isfinite(output_BTO).all()):
            b, t, o = (int(i) for i in (~torch.isfinite(output_BTO)).nonzero()[0])
            raise TrainingError(
                f"{self._body.role}: expected finite values, found {output_BTO[b, t, o].item()} at "
                f"dialogue {b}, position {t}; the weights have diverged: lower the learning rate"
            )


class ValueLearner:
    """Implements `Critic` on a reader of one number: V of a token is read after the one before it,
    so that it never sees the token itself."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.optim_step, self.save = reader.optim_step, reader.save
        self.load, self.start_from = reader.load, reader.start_from

    def values(self, batch: TurnBatch) -> Tensor:
        """value_BT float32 without gradient, on the batch's device; 0 where nothing is written."""
        _check_plain(batch)
        return _before_written(self._reader.read(batch), batch)

    def forward_backward(self, batch: TurnBatch, loss: Loss) -> Mapping[str, float]:
        """One pass over one micro-batch; gradients add up until `optim_step`."""
        return self._reader.forward_backward(
            batch, lambda output_BTO: loss(_before_written(output_BTO, batch))
        )


def _before_written(output_BTO: Tensor, batch: TurnBatch) -> Tensor:
    shifted_BT = nn.functional.pad(output_BTO[:, :-1, 0], (1, 0))
    return torch.where(batch.written_BT, shifted_BT, torch.zeros_like(shifted_BT))


def _check_plain(batch: TurnBatch) -> None:
    if batch.tree is not None:
        raise ShapeError(
            "expected rows of one dialogue each for a head's values, found packed rows; give the "
            "dialogues as `turn_batch` builds them"
        )


def constant_head(width: int, start: Sequence[float], device: torch.device) -> nn.Linear:
    """A float32 head that says `start` of every state until it has learnt."""
    # Not initialised at random first: that would move the global generator.
    head: nn.Linear = nn.utils.skip_init(
        nn.Linear, width, len(start), device=device, dtype=torch.float32
    )
    nn.init.zeros_(head.weight)
    with torch.no_grad():
        head.bias.copy_(torch.tensor(start))
    return head


def head_weights(head: nn.Linear) -> dict[str, nn.Parameter]:
    """The head's weights by their names in a learner's files."""
    return dict(head.named_parameters(prefix="value_head"))
