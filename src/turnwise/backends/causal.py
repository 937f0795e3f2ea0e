"""A Hugging Face causal model seen as a decoder and a head: log-probabilities at chosen positions.

The hidden states of a pass are B × T × width; logits exist only for positions that predict a
written token, a chunk of them at a time, so that nothing of size B × T × V is ever made.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils.generic import ModelOutput

from turnwise.backends.logits import check_temperature, logp_and_entropy
from turnwise.errors import ModelError
from turnwise.tokens import TurnBatch

# Float32 logits alive at once: 64 MiB on a CPU, where larger chunks are not faster; 1 GiB on a GPU.
CPU_CHUNK_ELEMENTS = 2**24
GPU_CHUNK_ELEMENTS = 2**28

# What architectures raise that take no mask, positions or cache of ours.
REFUSALS = (AttributeError, TypeError, NotImplementedError, KeyError, ValueError, RuntimeError)


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

    def hidden(self, token_BT: Tensor, **context: object) -> Tensor:
        """Hidden states after the last norm, B × T × width. Padding on the right is never seen.

        context: further arguments of the decoder: positions, a mask, a cache.
        """
        # Without a mask a token sees, by plain causal attention, only what is before it.
        given: dict[str, object] = {"use_cache": False, **context}
        hidden: Tensor = self.decoder(input_ids=token_BT.to(self.device), **given).last_hidden_state
        return hidden

    def logits(self, hidden_NW: Tensor) -> Tensor:
        """The model's own logits of hidden states, N × V: scaled and capped as it does."""
        if self.logits_are_head_of_hidden:
            logits_NV: Tensor = self.head(hidden_NW)
            return logits_NV

        def ours(module: nn.Module, args: object, output: ModelOutput) -> ModelOutput:
            output["last_hidden_state"] = hidden_NW[None]
            return output

        # Everything the model does after its decoder, on states that the decoder did not compute.
        # (A block mask for one token would be compiled first.)
        flexible = self.model.config._attn_implementation == "flex_attention"
        one = torch.zeros(1, 1, dtype=torch.int64, device=self.device)
        hook = self.decoder.register_forward_hook(ours)
        try:
            with attention_of(self.model, "eager" if flexible else None):
                own: Tensor = self.model(input_ids=one, use_cache=False).logits[0]
        finally:
            hook.remove()
        return own

    def scores(
        self,
        batch: TurnBatch,
        *,
        temperature: float,
        with_entropy: bool = False,
        read: "Read | None" = None,
    ) -> Scores:
        """Log-probability (and entropy) of every written token, on the model's device.

        temperature: > 0; the logits are divided by it. read: gives the hidden states of rows that
        are not plain texts.
        Raises ConfigError for a temperature that is not positive.
        """
        check_temperature(temperature)
        row_N, column_N, before_N = (index.to(self.device) for index in batch.predictions())
        target_N = batch.token_BT.to(self.device)[row_N, column_N]
        hidden_BTW = read(self, batch) if read else self.hidden(batch.token_BT)
        logp_N, entropy_N = self._score_hidden(
            hidden_BTW[row_N, before_N], target_N, temperature, with_entropy
        )
        place = (row_N, column_N)
        blank_BT = logp_N.new_zeros(batch.token_BT.shape)
        return Scores(
            logp_BT=blank_BT.index_put(place, logp_N),
            entropy_BT=blank_BT.index_put(place, entropy_N) if with_entropy else None,
        )

    def chunk_size(self, hidden_NW: Tensor) -> int:
        """How many rows of logits may be alive at once."""
        elements = GPU_CHUNK_ELEMENTS if hidden_NW.is_cuda else CPU_CHUNK_ELEMENTS
        return max(1, elements // self.vocab_size)

    def _score_hidden(
        self, hidden_N: Tensor, target_N: Tensor, temperature: float, with_entropy: bool
    ) -> tuple[Tensor, Tensor]:
        size = self.chunk_size(hidden_N)

        def score(hidden: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
            return logp_and_entropy(self.logits(hidden), target, temperature, with_entropy)

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


# Hidden states B × T × width of a batch, in its own columns.
Read = Callable[[CausalModel, TurnBatch], Tensor]


@contextmanager
def attention_of(model: PreTrainedModel, implementation: str | None) -> Iterator[None]:
    """Within it the model attends by another implementation."""
    own = model.config._attn_implementation
    if implementation is None or implementation == own:
        yield
        return
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(own)


class checkpointed_layers:
    """Within it, the model's layers are computed again in the backward pass.

    Transformers checkpoints only layers in training mode; the flag is set on the layer alone, not
    on what it contains, so that no dropout wakes up.
    """

    def __init__(self, model: PreTrainedModel, is_on: bool) -> None:
        self._layers = [
            module
            for module in model.modules()
            if is_on and isinstance(module, GradientCheckpointingLayer)
        ]

    def __enter__(self) -> None:
        for layer in self._layers:
            layer.training = True

    def __exit__(self, *raised: object) -> None:
        for layer in self._layers:
            layer.training = False
