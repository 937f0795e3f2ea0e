"""A language model that is a table: the whole protocol, exact and instant, for tests.

The logits of the next token are the row of the last one, so every number can be checked by hand;
gradients, clipping, AdamW and files are the real ones of the local backend.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from turnwise.backends.logits import (
    check_finite,
    check_temperature,
    compared,
    divergence_of,
    logp_and_entropy,
)
from turnwise.backends.noise import as_seed, draw, uniforms
from turnwise.backends.optimizer import WeightOptimizer
from turnwise.backends.protocol import (
    AdapterSpec,
    Capabilities,
    Comparison,
    Loss,
    Sample,
    SampleRequest,
    Scorer,
    StepStats,
    Tokenizer,
)
from turnwise.backends.storage import load_learner, save_learner
from turnwise.backends.values import HeadLearner, ValueLearner, constant_head, head_weights
from turnwise.errors import CapabilityError, ConfigError, TokensError
from turnwise.tokens import TurnBatch
from turnwise.tokens.tree import Places

WEIGHTS_FILE = "model.safetensors"


class FakeBackend:
    """Implements `Backend` with bigram tables."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, *, seed: int = 0) -> None:
        """seed: of the base's random table (standard normal logits)."""
        self.tokenizer = tokenizer
        self.capabilities = Capabilities(
            full_weights=True, lora=False, entropy=True, value_head=True, branches=True
        )
        self.passes: Counter[tuple[str, str]] = Counter()  # dialogues by (role, "score" | "train")
        self.ways: Counter[str] = Counter()  # packed rows by the way they were read
        generator = torch.Generator().manual_seed(seed)
        self.table_VV = torch.randn(vocab_size, vocab_size, generator=generator)

    def create(self, role: str, spec: AdapterSpec) -> "FakeLearner":
        """A learner with its own copy of the table (the spec's rank has no meaning here)."""
        return FakeLearner(self, role, spec)

    def create_critic(self, role: str, spec: AdapterSpec, *, start: float = 0.0) -> ValueLearner:
        """A critic on a copy of the table."""
        return ValueLearner(self.create_reader(role, spec, start=(start,)))

    def create_reader(self, role: str, spec: AdapterSpec, *, start: Sequence[float]) -> HeadLearner:
        """A reader of a copy of the table: the state after a token is the token's row."""
        head = constant_head(len(self.table_VV), start, self.table_VV.device)
        body = FakeLearner(self, role, spec, head_weights(head))
        return HeadLearner(body, head, max_rows=64, max_tokens=2**20)

    def reference(self) -> "FakeScorer":
        return FakeScorer(self, "reference", self.table_VV)


class FakeScorer:
    """Implements `BranchScorer`: one look into the table for each written token."""

    def __init__(self, backend: FakeBackend, role: str, table_VV: Tensor) -> None:
        self.role = role
        self._backend, self._table_VV = backend, table_VV

    def logp(self, batch: TurnBatch, *, temperature: float = 1.0) -> Tensor:
        self._count(batch, "score")
        with torch.no_grad():
            logp_BT, _ = table_scores(self._table_VV, batch, temperature)
        check_finite(logp_BT, self.role, batch)
        return logp_BT

    def compare(self, other: Scorer, batch: TurnBatch, *, temperature: float = 1.0) -> Comparison:
        """Raises CapabilityError for a model that is no table."""
        check_temperature(temperature)
        if not isinstance(other, FakeScorer):
            raise CapabilityError(f"expected a table to compare, found {type(other).__name__}")
        self._count(batch, "score")
        other._count(batch, "score")
        row_N, column_N, before_N = batch.predictions()
        last_N, target_N = batch.token_BT[row_N, before_N], batch.token_BT[row_N, column_N]
        blank_BT = torch.zeros(batch.token_BT.shape)
        with torch.no_grad():
            tables = self._table_VV[last_N], other._table_VV[last_N]
            found = compared(*tables, target_N, temperature)
            out = [blank_BT.index_put((row_N, column_N), x_N) for x_N in found]
        for x_BT, role in zip(out, (self.role, other.role) * 2, strict=True):
            check_finite(x_BT, role, batch)
        return Comparison(*out)

    def divergence(
        self, batch: TurnBatch, here: Places, there: Places, *, temperature: float = 1.0
    ) -> Tensor:
        check_temperature(temperature)
        self._count(batch, "score")
        with torch.no_grad():
            p_NV, q_NV = (self._table_VV[batch.token_BT[place]] for place in (here, there))
            out_N = divergence_of(p_NV, q_NV, temperature)
        check_finite(out_N[None], self.role)
        return out_N

    def _count(self, batch: TurnBatch, kind: str) -> None:
        self._backend.passes[self.role, kind] += len(batch.length_B)
        if batch.tree is not None:
            self._backend.ways["table"] += len(batch.length_B)


class FakeLearner(FakeScorer):
    """Implements `Learner`."""

    def __init__(
        self,
        backend: FakeBackend,
        role: str,
        spec: AdapterSpec,
        head: Mapping[str, nn.Parameter] = {},
    ) -> None:
        """head: further weights that learn, of a reader."""
        self._parameter = nn.Parameter(backend.table_VV.clone())
        super().__init__(backend, role, self._parameter)
        self._weights = {"table": self._parameter, **head}
        self._optimizer = WeightOptimizer(self._weights, spec)

    def forward_backward(
        self,
        batch: TurnBatch,
        loss: Loss,
        *,
        temperature: float = 1.0,
        entropy_weight_BT: Tensor | None = None,
    ) -> Mapping[str, float]:
        self._count(batch, "train")
        logp_BT, entropy_BT = table_scores(self._parameter, batch, temperature)
        check_finite(logp_BT.detach(), self.role, batch)
        total, stats = loss(logp_BT), {}
        if entropy_weight_BT is not None:
            total = total - (entropy_weight_BT * entropy_BT).sum()
            stats["entropy"] = float(entropy_BT.detach().sum()) / max(batch.num_written, 1)
        torch.autograd.backward(total)
        return {"loss": float(total.detach()), **stats}

    def states(self, batch: TurnBatch, *, training: bool = False) -> Tensor:
        self._backend.passes[self.role, "train" if training else "score"] += len(batch.length_B)
        return self._parameter[batch.token_BT]

    def optim_step(self, learning_rate: float) -> StepStats:
        return self._optimizer.step(learning_rate)

    def publish(self) -> "FakeSampler":
        return FakeSampler(self._parameter.detach().clone())

    def save(self, path: Path) -> None:
        save_learner(path, self.role, WEIGHTS_FILE, self._weights, self._optimizer)

    def load(self, path: Path) -> None:
        load_learner(path, self.role, WEIGHTS_FILE, self._weights, self._optimizer)

    def start_from(self, path: Path) -> None:
        load_learner(path, self.role, WEIGHTS_FILE, self._weights, self._optimizer, is_fresh=True)


class FakeSampler:
    """Implements `Sampler` with the local sampler's noise: same seed, same dialogue."""

    def __init__(self, table_VV: Tensor) -> None:
        self._table_VV = table_VV
        self.released: list[str] = []  # sessions, in the order they were given back

    async def sample(self, request: SampleRequest) -> Sample:
        if not request.prompt_ids:
            raise TokensError("expected at least one token to continue, got an empty prompt")
        if request.max_new_tokens < 1:
            raise ConfigError(f"expected max_new_tokens of 1 or more, got {request.max_new_tokens}")
        await asyncio.sleep(0)  # let other dialogues speak, as a real sampler does
        ids, logps = [request.prompt_ids[-1]], []
        for step in range(request.max_new_tokens):
            token, logp = self._next(ids[-1], request, len(request.prompt_ids) + step)
            ids.append(token)
            logps.append(logp)
            if token in request.stop_ids:
                return Sample(tuple(ids[1:]), tuple(logps), "stop")
        return Sample(tuple(ids[1:]), tuple(logps), "length")

    def _next(self, last: int, request: SampleRequest, position: int) -> tuple[int, float]:
        seed = np.array([as_seed(request.noise_seed)], dtype=np.uint64)
        uniform_R = torch.from_numpy(uniforms(seed, np.array([position])))
        token_R, logp_R = draw(
            self._table_VV[last][None], uniform_R, torch.tensor([request.temperature])
        )
        return int(token_R), float(logp_R)

    def release(self, session: str) -> None:
        self.released.append(session)


def table_scores(table_VV: Tensor, batch: TurnBatch, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probability and entropy of every written token under the table; 0 elsewhere."""
    check_temperature(temperature)
    row_N, column_N, before_N = batch.predictions()
    logits_NV = table_VV[batch.token_BT[row_N, before_N]]
    target_N = batch.token_BT[row_N, column_N]
    logp_N, entropy_N = logp_and_entropy(logits_NV, target_N, temperature, with_entropy=True)
    place, blank_BT = (row_N, column_N), table_VV.new_zeros(batch.token_BT.shape)
    return blank_BT.index_put(place, logp_N), blank_BT.index_put(place, entropy_N)
