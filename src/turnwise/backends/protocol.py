"""What training needs of a language model, in plain arrays.

`token_BT` in, `logp_BT` out. `logp_BT[b, t]` is the log-probability OF `token_BT[b, t]`, float32
nats, computed only where `turn_of_token_BT` is not -1 and 0 elsewhere (column 0 is always 0).
A loss is a function of `logp_BT`: the local backend differentiates it, a remote engine evaluates
it on its own log-probabilities and sends back -dLoss/dlogp as token weights.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from turnwise.tokens import TurnBatch
from turnwise.tokens.tree import Places

# logp_BT, of a critic value_BT, of a reader output_BTO (differentiable) -> scalar
Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do beyond the protocol's minimum."""

    full_weights: bool = False
    lora: bool = True
    custom_loss: bool = True
    entropy: bool = False
    value_head: bool = False
    branches: bool = False
    publish: bool = True


@dataclass(frozen=True)
class AdapterSpec:
    """How a learner's weights are made and stepped (AdamW)."""

    full_weights: bool = False  # a copy of all weights instead of a LoRA adapter
    rank: int = 16
    alpha: float = 32.0
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    max_grad_norm: float = 1.0
    seed: int = 0  # of the adapter's random A matrices; B starts at zero, so the start is the base


@dataclass(frozen=True)
class SampleRequest:
    """One assistant message to be written."""

    prompt_ids: tuple[int, ...]  # everything before it
    noise_seed: int  # sampling noise is a function of (noise_seed, position) alone
    max_new_tokens: int
    stop_ids: tuple[int, ...]  # end-of-turn tokens; the one that was sampled is kept
    temperature: float = 1.0  # 0 = greedy
    session: str | None = None  # dialogue whose key-value cache may be kept between turns


@dataclass(frozen=True)
class Sample:
    """What the model wrote, its end-of-turn token included."""

    token_ids: tuple[int, ...]
    logp: tuple[float, ...]  # nats, at the sampling temperature (at 1 where greedy)
    stop_reason: str  # "stop" or "length"


@dataclass(frozen=True)
class Comparison:
    """Two models on the same written tokens: float32 nats, 0 where nothing is written."""

    logp_BT: Tensor  # of the one that was asked
    logp_other_BT: Tensor
    kl_BT: Tensor  # KL(asked ‖ other) of the distribution each token was drawn from, exact
    kl_back_BT: Tensor  # KL(other ‖ asked)


@dataclass(frozen=True)
class StepStats:
    """What an optimizer step did."""

    grad_norm: float  # before clipping


class Sampler(Protocol):
    """Ids in, ids and log-probabilities out. Concurrent calls are batched together."""

    async def sample(self, request: SampleRequest) -> Sample: ...

    def release(self, session: str) -> None:
        """The dialogue is over: its cache may go."""


class Scorer(Protocol):
    """Gives tokens their log-probability."""

    def logp(self, batch: TurnBatch, *, temperature: float = 1.0) -> Tensor:
        """logp_BT without gradient; splits the batch by itself."""


class BranchScorer(Scorer, Protocol):
    """A scorer that reads packed rows (`TurnBatch.tree`); capability `branches`."""

    def divergence(
        self, batch: TurnBatch, here: Places, there: Places, *, temperature: float = 1.0
    ) -> Tensor:
        """KL(p ‖ q) of N pairs of next-token distributions, float32 nats, without gradient.

        here, there: row and column of the token after which p and q are read.
        """


class Weights(Protocol):
    """What is moved and kept."""

    def optim_step(self, learning_rate: float) -> StepStats: ...

    def save(self, path: Path) -> None:
        """Weights as safetensors and the optimizer's state into the folder `path`."""

    def load(self, path: Path) -> None:
        """The exact state that `save` wrote: the next step gives the same numbers."""

    def start_from(self, path: Path) -> None:
        """The weights that `save` wrote, under any role, with an optimizer that has not stepped."""


class Learner(Scorer, Weights, Protocol):
    """A scorer whose weights can be moved."""

    def forward_backward(
        self,
        batch: TurnBatch,
        loss: Loss,
        *,
        temperature: float = 1.0,
        entropy_weight_BT: Tensor | None = None,
    ) -> Mapping[str, float]:
        """One pass over one micro-batch; gradients add up until `optim_step`.

        The differentiated total is loss(logp_BT) − Σ entropy_weight_BT · H_BT, H in nats.
        Returns {"loss": total, "entropy": mean H over written tokens if a weight was given}.
        """

    def publish(self) -> Sampler:
        """A sampler of the weights as they are now; later steps do not change it."""

    def compare(self, other: Scorer, batch: TurnBatch, *, temperature: float = 1.0) -> Comparison:
        """This model and another of the same backend, without gradient; splits the batch."""


class Critic(Weights, Protocol):
    """A learner of one number for each written token; capability `value_head`."""

    def values(self, batch: TurnBatch) -> Tensor:
        """value_BT float32 without gradient: read from the state before each written token.

        0 where the policy did not write; splits the batch by itself.
        """

    def forward_backward(self, batch: TurnBatch, loss: Loss) -> Mapping[str, float]:
        """One pass over one micro-batch, `loss` a function of value_BT. Returns {"loss": …}."""


class Reader(Weights, Protocol):
    """A learner of O numbers after each token; capability `value_head`.

    They are one linear float32 map of the token's last normalised hidden state, so they have seen
    the row up to the token and nothing behind it.
    """

    def read(self, batch: TurnBatch) -> Tensor:
        """output_BTO float32 without gradient, 0 on padding; splits the batch by itself."""

    def forward_backward(self, batch: TurnBatch, loss: Loss) -> Mapping[str, float]:
        """One pass over one micro-batch, `loss` a function of output_BTO. Returns {"loss": …}."""


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that turnwise uses."""

    chat_template: str | None
    eos_token_id: int | None

    def encode(self, text: str, *, add_special_tokens: bool = ...) -> list[int]: ...
    def decode(self, token_ids: list[int], *, skip_special_tokens: bool = ...) -> str: ...


class Backend(Protocol):
    """One base model and everything that learns on it."""

    capabilities: Capabilities
    ways: Counter[str]  # rows with branches by the way they were read
    tokenizer: Tokenizer

    def create(self, role: str, spec: AdapterSpec) -> Learner:
        """A new learner ("policy", "prm", "q") that starts equal to the base."""

    def create_critic(self, role: str, spec: AdapterSpec, *, start: float = 0.0) -> Critic:
        """A new learner of values, all `start`; needs the capability `value_head`."""

    def create_reader(self, role: str, spec: AdapterSpec, *, start: Sequence[float]) -> Reader:
        """A new learner of as many numbers as `start` has, which it says everywhere at first;
        needs the capability `value_head`."""

    def reference(self) -> Scorer:
        """The base with every adapter off; training never changes it."""
