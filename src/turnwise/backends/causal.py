"""A Hugging Face causal model seen as a decoder and a head: log-probabilities at chosen positions.

The hidden states of a pass are B × T × width; logits exist only for positions that predict a
written token, a chunk of them at a time, so that nothing of size B × T × V is ever made.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from turnwise.backends.logits import check_temperature, logp_and_entropy
from turnwise.errors import ModelError
from turnwise.tokens import TurnBatch

# Float32 logits alive at once: 64 MiB on a CPU, where larger chunks are not faster; 1 GiB on a GPU.
CPU_CHUNK_ELEMENTS = 2**24
GPU_CHUNK_ELEMENTS = 2**28


@dataclass(frozen=True)
class Scores:
    """What a pass says of the written tokens."""

    logp_BT: Tensor  # float32 nats; 0 where the policy did not write
    entropy_BT: Tensor | None  # float32 nats of the distribution each written token was drawn from


class CausalModel:
    """A causal language model whose logits are usually `head(hidden)`."""

    def __init__(
        self, model: PreTrainedModel, *, logits_are_head_of_hidden: bool | None = None
    ) -> None:
        """logits_are_head_of_hidden: known from a model of the same kind; None = a probe tells."""
        head = model.get_output_embeddings()
        if not isinstance(head, nn.Module):
            raise ModelError(
                f"expected a causal language model with an output head, found "
                f"{type(model).__name__}; use a checkpoint of a ...ForCausalLM class"
            )
        self.model = model
        self.decoder: nn.Module = model.get_decoder()
        self.head = head
        # False where the model scales or caps its logits: then only its own forward is right.
        self.logits_are_head_of_hidden = (
            self._probe() if logits_are_head_of_hidden is None else logits_are_head_of_hidden
        )

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def vocab_size(self) -> int:
        return int(self.model.config.get_text_config().vocab_size)

    @property
    def width(self) -> int:
        """Of the hidden states that the head reads."""
        weight = self.head.weight
        assert isinstance(weight, Tensor)
        return int(weight.shape[1])

    @property
    def max_positions(self) -> int | None:
        """Longest sequence the model's positions cover; None where the config does not say."""
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return int(positions) if positions else None

    def twin(self, model: PreTrainedModel) -> "CausalModel":
        """Another model of the same kind, not probed again."""
        return CausalModel(model, logits_are_head_of_hidden=self.logits_are_head_of_hidden)

    def _probe(self) -> bool:
        token_BT = torch.arange(4, device=self.device)[None] % self.vocab_size
        with torch.no_grad():
            own = self.model(input_ids=token_BT, use_cache=False).logits
            ours = self.head(self.hidden(token_BT))
        return own.shape == ours.shape and bool(torch.allclose(own, ours, rtol=1e-4, atol=1e-4))

    def hidden(self, token_BT: Tensor) -> Tensor:
        """Hidden states after the last norm, B × T × width. Padding on the right is never seen."""
        # No mask: with plain causal attention a token sees only what is before it.
        hidden: Tensor = self.decoder(input_ids=token_BT, use_cache=False).last_hidden_state
        return hidden

    def states(self, batch: TurnBatch) -> Tensor:
        """Hidden states before each written token, in reading order, N × width."""
        row_N, column_N = batch.written_BT.to(self.device)[:, 1:].nonzero(as_tuple=True)
        return self.hidden(batch.token_BT.to(self.device))[row_N, column_N]

    def scores(self, batch: TurnBatch, *, temperature: float, with_entropy: bool = False) -> Scores:
        """Log-probability (and entropy) of every written token, on the model's device.

        temperature: > 0; the logits are divided by it.
        Raises ConfigError for a temperature that is not positive.
        """
        check_temperature(temperature)
        token_BT = batch.token_BT.to(self.device)
        row_N, column_N = batch.written_BT.to(self.device)[:, 1:].nonzero(as_tuple=True)
        target_N = token_BT[row_N, column_N + 1]
        if self.logits_are_head_of_hidden:
            hidden_N = self.hidden(token_BT)[row_N, column_N]
            logp_N, entropy_N = self._score_hidden(hidden_N, target_N, temperature, with_entropy)
        else:
            logp_N, entropy_N = self._score_rows(
                token_BT, row_N, column_N, target_N, temperature, with_entropy
            )
        place = (row_N, column_N + 1)
        blank_BT = logp_N.new_zeros(token_BT.shape)
        return Scores(
            logp_BT=blank_BT.index_put(place, logp_N),
            entropy_BT=blank_BT.index_put(place, entropy_N) if with_entropy else None,
        )

    def _score_hidden(
        self, hidden_N: Tensor, target_N: Tensor, temperature: float, with_entropy: bool
    ) -> tuple[Tensor, Tensor]:
        elements = GPU_CHUNK_ELEMENTS if hidden_N.is_cuda else CPU_CHUNK_ELEMENTS
        size = max(1, elements // self.vocab_size)

        def score(hidden: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
            return logp_and_entropy(self.head(hidden), target, temperature, with_entropy)

        parts: list[tuple[Tensor, Tensor]] = []
        for hidden, target in zip(hidden_N.split(size), target_N.split(size), strict=True):
            # One chunk fits by definition; more than one are computed again in the backward pass.
            again = len(hidden_N) > size and torch.is_grad_enabled()
            parts.append(
                checkpoint(score, hidden, target, use_reentrant=False)
                if again
                else score(hidden, target)
            )
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def _score_rows(
        self,
        token_BT: Tensor,
        row_N: Tensor,
        column_N: Tensor,
        target_N: Tensor,
        temperature: float,
        with_entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        parts = []
        for b in range(len(token_BT)):
            of_row = row_N == b
            logits = self.model(
                input_ids=token_BT[b : b + 1], use_cache=False, logits_to_keep=column_N[of_row]
            ).logits[0]
            parts.append(logp_and_entropy(logits, target_N[of_row], temperature, with_entropy))
        # Rows come in ascending order from `nonzero`, so the parts are in the order of row_N.
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
