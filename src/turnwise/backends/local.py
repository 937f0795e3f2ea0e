"""One base model on one device: adapters or copies that learn, the base itself as reference.

Everything runs in evaluation mode (no dropout), so an adapter that is still zero gives the very
log-probabilities of the reference: same kernels, same batches, difference exactly 0.
"""

import itertools
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from turnwise.backends.adapters import AdapterBank
from turnwise.backends.causal import CausalModel, attention_of, checkpointed_layers
from turnwise.backends.logits import check_finite
from turnwise.backends.optimizer import WeightOptimizer
from turnwise.backends.progress_bars import no_progress_bars
from turnwise.backends.protocol import (
    AdapterSpec,
    Capabilities,
    Comparison,
    Loss,
    Scorer,
    StepStats,
    Tokenizer,
)
from turnwise.backends.sampler import BatchedSampler
from turnwise.backends.scoring import Scoring
from turnwise.backends.slots import keeps_plain_cache
from turnwise.backends.storage import load_learner, save_learner
from turnwise.backends.values import HeadLearner, ValueLearner, constant_head, head_weights
from turnwise.backends.ways import Asked, TreeReader
from turnwise.errors import CapabilityError, ConfigError
from turnwise.tokens import TurnBatch
from turnwise.tokens.tree import Places

# Rows of a scoring pass on a CPU: more of them leave its caches and are slower.
CPU_ROWS = 8
# Below this many parameters a published adapter is folded into a private copy of the weights:
# the fastest decoding. Above it, or in half precision, a frozen copy of the adapter is kept.
MERGE_PARAMETERS = 200_000_000


class LocalBackend:
    """Implements `Backend` with torch and PEFT."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Tokenizer | PreTrainedTokenizerBase,
        *,
        device: str | torch.device = "cpu",
        gradient_checkpointing: bool = False,
        max_rows: int = 32,
        max_tokens: int = 16384,
        slots: int = 128,
        branch_way: Asked = "auto",
    ) -> None:
        """The model becomes the backend's own: frozen, moved to `device`, adapters put into it.

        gradient_checkpointing: compute layers again in the backward pass to save memory.
        max_rows, max_tokens: of one scoring pass (rows × longest row). slots: dialogues whose
        caches a sampler keeps. branch_way: how packed rows are read (`backends.ways`).
        Raises ConfigError for a way that is wrong for this model.
        """
        # Transformers types `decode` for batches too; for one list of ids it gives one text.
        self.tokenizer = cast(Tokenizer, tokenizer)
        self.max_rows, self.max_tokens, self.slots = max_rows, max_tokens, slots
        self.gradient_checkpointing = gradient_checkpointing
        nn.Module.to(model, torch.device(device))
        self.bank = AdapterBank(prepared(model, gradient_checkpointing))
        self.base = CausalModel(model)
        self.keeps_cache = keeps_plain_cache(self.base)  # False: the sampler recomputes, slowly
        rows = min(max_rows, CPU_ROWS) if self.base.device.type == "cpu" else max_rows
        self.scoring = Scoring(
            TreeReader(self.base, branch_way), max_rows=rows, max_tokens=max_tokens
        )
        self.passes, self.ways = self.scoring.passes, self.scoring.ways
        self.capabilities = Capabilities(
            full_weights=True,
            lora=True,
            entropy=True,
            value_head=True,
            branches=self.scoring.trees.reads_branches,
        )

    def create(self, role: str, spec: AdapterSpec) -> "LocalLearner":
        """A new learner that starts equal to the base.

        Raises ConfigError if the role is taken by an adapter of this backend.
        """
        kind = FullWeightsLearner if spec.full_weights else AdapterLearner
        return kind(self, role, spec)

    def create_critic(self, role: str, spec: AdapterSpec, *, start: float = 0.0) -> ValueLearner:
        """A new critic whose values are all `start`: a reader of one number.

        Raises ConfigError if the role is taken by an adapter of this backend.
        """
        return ValueLearner(self.create_reader(role, spec, start=(start,)))

    def create_reader(self, role: str, spec: AdapterSpec, *, start: Sequence[float]) -> HeadLearner:
        """A new reader: an adapter or a copy of the model, and a head that says `start`.

        Raises ConfigError if the role is taken by an adapter of this backend.
        """
        kind = FullWeightsLearner if spec.full_weights else AdapterLearner
        head = constant_head(self.base.width, start, self.base.device)
        body = kind(self, role, spec, head_weights(head))
        rows = self.scoring.max_rows
        return HeadLearner(body, head, max_rows=rows, max_tokens=self.max_tokens)

    def reference(self) -> "BaseScorer":
        """The base with every adapter off."""
        return BaseScorer(self, "reference")

    def sampler(
        self, causal: CausalModel, activate: Callable[[], None] | None = None
    ) -> BatchedSampler:
        """A sampler on a model that has the base's architecture."""
        return BatchedSampler(
            causal, slots=self.slots, keeps_cache=self.keeps_cache, activate=activate
        )


class LocalScorer(ABC):
    """A model of the backend under a role: implements `BranchScorer`."""

    def __init__(self, backend: LocalBackend, role: str) -> None:
        self.role = role
        self._backend = backend

    @abstractmethod
    def _reader(self) -> CausalModel:
        """The model that is to be asked, ready to speak."""

    def logp(self, batch: TurnBatch, *, temperature: float = 1.0) -> Tensor:
        return self._backend.scoring.logp(self._reader(), self.role, batch, temperature)

    def compare(self, other: Scorer, batch: TurnBatch, *, temperature: float = 1.0) -> Comparison:
        """Raises CapabilityError for a model of another backend."""
        if not isinstance(other, LocalScorer):
            raise CapabilityError(
                f"expected a local model to compare, found {type(other).__name__}"
            )
        pair = (self._reader, other._reader), (self.role, other.role)
        return self._backend.scoring.compare(*pair, batch, temperature)

    def divergence(
        self, batch: TurnBatch, here: Places, there: Places, *, temperature: float = 1.0
    ) -> Tensor:
        return self._backend.scoring.divergence(
            self._reader(), self.role, batch, (here, there), temperature
        )


class BaseScorer(LocalScorer):
    """The reference: the base with every adapter off."""

    def _reader(self) -> CausalModel:
        self._backend.bank.use(None)
        return self._backend.base


class LocalLearner(LocalScorer):
    """What learners share: a causal model, named weights and their optimizer."""

    weights_file = "model.safetensors"

    def __init__(
        self,
        backend: LocalBackend,
        role: str,
        spec: AdapterSpec,
        causal: CausalModel,
        parameters: Mapping[str, nn.Parameter],
    ) -> None:
        super().__init__(backend, role)
        self.spec, self._causal = spec, causal
        self._parameters = dict(parameters)
        self._optimizer = WeightOptimizer(self._parameters, spec)
        self._published: CausalModel | None = None  # the copy of a sampler, while it is up to date

    @abstractmethod
    def _activate(self, *, training: bool = False) -> None:
        """Make the causal model speak with this learner's weights."""

    def _reader(self) -> CausalModel:
        """Whoever speaks with these weights at least cost: a published copy adds up no adapter."""
        if self._published is not None:
            return self._published
        self._activate()
        return self._causal

    def forward_backward(
        self,
        batch: TurnBatch,
        loss: Loss,
        *,
        temperature: float = 1.0,
        entropy_weight_BT: Tensor | None = None,
    ) -> Mapping[str, float]:
        """One pass over one micro-batch; gradients add up until `optim_step`.

        Raises LogProbError, before any gradient, if a log-probability is not finite.
        """
        self._activate(training=True)
        reading, model = (
            self._backend.scoring.reading(self.role, batch, is_training=True),
            self._causal.model,
        )
        with (
            attention_of(model, reading.attention),
            checkpointed_layers(model, self._backend.gradient_checkpointing),
        ):
            scores = self._causal.scores(
                reading.batch,
                temperature=temperature,
                with_entropy=entropy_weight_BT is not None,
                read=reading.read,
            )
            device = batch.token_BT.device
            logp_BT = reading.home(scores.logp_BT).to(device)
            check_finite(logp_BT.detach(), self.role, batch)
            total = loss(logp_BT)
            stats: dict[str, float] = {}
            if entropy_weight_BT is not None and scores.entropy_BT is not None:
                entropy_BT = reading.home(scores.entropy_BT).to(device)
                total = total - (entropy_weight_BT * entropy_BT).sum()
                mean = entropy_BT.detach().sum() / max(batch.num_written, 1)
                stats["entropy"] = float(mean)
            torch.autograd.backward(total)
        return {"loss": float(total.detach()), **stats}

    def states(self, batch: TurnBatch, *, training: bool = False) -> Tensor:
        """state_BTW of one pass: after each token. For a head of its own."""
        self._activate(training=training)
        if batch.tree is not None:
            return self._backend.scoring.states(self._causal, self.role, batch)
        self._backend.passes[self.role, "train" if training else "score"] += len(batch.length_B)
        checkpointing = training and self._backend.gradient_checkpointing
        with checkpointed_layers(self._causal.model, checkpointing):
            return self._causal.hidden(batch.token_BT)

    def optim_step(self, learning_rate: float) -> StepStats:
        """Clip by the spec's norm, step AdamW, drop the gradients.

        Raises EmptyStepError without a gradient, TrainingError for one that is not finite.
        """
        self._published = None
        return self._optimizer.step(learning_rate)

    def publish(self) -> BatchedSampler:
        """A sampler on a copy of the whole model with these weights in it."""
        self._published = self._causal.twin(self._plain_copy())
        return self._backend.sampler(self._published)

    @abstractmethod
    def _plain_copy(self) -> PreTrainedModel:
        """A model of its own with these weights in it, no adapter left."""

    def export(self, path: Path) -> None:
        """These weights as a standalone Hugging Face model directory, tokenizer included.

        An adapter is merged; `load_backend` reads the directory.
        """
        with no_progress_bars():
            self._plain_copy().save_pretrained(path)
        tokenizer: object = self._backend.tokenizer
        if isinstance(tokenizer, PreTrainedTokenizerBase):
            tokenizer.save_pretrained(path)

    def save(self, path: Path) -> None:
        """Weights, optimizer state and a manifest with checksums into the folder `path`."""
        path.mkdir(parents=True, exist_ok=True)
        self._save_config(path)
        save_learner(path, self.role, self.weights_file, self._parameters, self._optimizer)

    @abstractmethod
    def _save_config(self, path: Path) -> None:
        """What other libraries need to read the weights."""

    def load(self, path: Path) -> None:
        """The exact state that `save` wrote.

        Raises CheckpointError for a missing or cut file, or weights of another shape; the learner
        keeps what it had then.
        """
        load_learner(path, self.role, self.weights_file, self._parameters, self._optimizer)
        self._published = None

    def start_from(self, path: Path) -> None:
        """The weights that `save` wrote; the optimizer has not stepped. Raises as `load`."""
        own = self._parameters, self._optimizer
        load_learner(path, self.role, self.weights_file, *own, is_fresh=True)
        self._published = None


class AdapterLearner(LocalLearner):
    """A LoRA adapter on the shared base."""

    weights_file = "adapter_model.safetensors"

    def __init__(
        self,
        backend: LocalBackend,
        role: str,
        spec: AdapterSpec,
        head: Mapping[str, nn.Parameter] = {},
    ) -> None:
        """head: further weights that learn, of a reader."""
        if backend.bank.parameters(role):
            raise ConfigError(f"this backend has an adapter {role!r} already; use another role")
        self._config: LoraConfig = backend.bank.add(role, spec)
        parameters = {**backend.bank.parameters(role), **head}
        super().__init__(backend, role, spec, backend.base, parameters)
        self._snapshots = itertools.count()

    def _activate(self, *, training: bool = False) -> None:
        self._backend.bank.use(self.role, training=training)

    def publish(self) -> BatchedSampler:
        """A sampler of the weights as they are now; later steps do not change it."""
        model = self._causal.model
        if model.dtype == torch.float32 and model.num_parameters() <= MERGE_PARAMETERS:
            return super().publish()
        bank, snapshot = self._backend.bank, f"{self.role}@{next(self._snapshots)}"
        bank.copy_adapter(self.role, snapshot, self.spec)
        sampler = self._backend.sampler(self._causal, activate=lambda: bank.use(snapshot))
        weakref.finalize(sampler, bank.remove, snapshot)
        return sampler

    def _plain_copy(self) -> PreTrainedModel:
        return self._backend.bank.plain_copy(merged=self.role)

    def _save_config(self, path: Path) -> None:
        self._config.save_pretrained(str(path))


class FullWeightsLearner(LocalLearner):
    """A private copy of all weights; the frozen base stays the reference."""

    def __init__(
        self,
        backend: LocalBackend,
        role: str,
        spec: AdapterSpec,
        head: Mapping[str, nn.Parameter] = {},
    ) -> None:
        """head: further weights that learn, of a reader."""
        model = prepared(backend.bank.plain_copy(), backend.gradient_checkpointing)
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        twin = backend.base.twin(model)
        super().__init__(backend, role, spec, twin, {**dict(model.named_parameters()), **head})

    def _activate(self, *, training: bool = False) -> None:
        """Nothing to do: nobody else speaks with this model."""

    def _plain_copy(self) -> PreTrainedModel:
        return AdapterBank(self._causal.model).plain_copy()

    def _save_config(self, path: Path) -> None:
        self._causal.model.config.save_pretrained(str(path))


def prepared(model: PreTrainedModel, gradient_checkpointing: bool) -> PreTrainedModel:
    """The model frozen and in evaluation mode."""
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if gradient_checkpointing:
        # Renamed in the middle of transformers 5.
        enable = getattr(
            model, "activation_checkpointing_enable", model.gradient_checkpointing_enable
        )
        enable({"use_reentrant": False})
    return model
