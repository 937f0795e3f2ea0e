"""Which head and which targets a Q-function has, and the network that follows from it."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from turnwise.backends.protocol import AdapterSpec, Backend
from turnwise.errors import CapabilityError, ConfigError
from turnwise.iteration.config import QConfig
from turnwise.iteration.episodes import Episode
from turnwise.iteration.q_heads import (
    QNetwork,
    ScalarQ,
    VerdictQ,
    constant_start,
    question_of,
    support_of,
)
from turnwise.training.observer import Observer

MIDDLE_N = torch.tensor([0.5])
HeadName = Literal["scalar", "verdict"]
TargetName = Literal["mc", "fqe"]


def chosen_head(backend: Backend, config: QConfig, observer: Observer) -> HeadName:
    """The head to use.

    Raises CapabilityError for a scalar one where the backend has no value heads, ConfigError for a
    verdict with a loss that is no cross-entropy.
    """
    has_head = backend.capabilities.value_head
    if config.head == "scalar" and not has_head:
        raise CapabilityError(
            'q.head = "scalar" needs a backend with value heads, and this one has none; use '
            '"verdict"'
        )
    if config.head == "scalar" or (config.head == "auto" and has_head):
        return "scalar"
    if config.loss != "bce":
        raise ConfigError(
            f'a verdict is a probability: expected q.loss = "bce", found "{config.loss}"; set it, '
            'or q.head = "scalar"'
        )
    if config.head == "auto":
        observer.message("q.head: the backend has no value heads, a verdict is asked for instead")
    return "verdict"


def chosen_targets(
    episodes: Sequence[Episode], config: QConfig, has_sampler: bool, observer: Observer
) -> TargetName:
    """Monte Carlo where all that is fitted to was written by the policy that Q is wanted of,
    otherwise fitted Q evaluation; Monte Carlo too, with a warning, where nothing can be sampled.

    Raises CapabilityError for fitted Q evaluation without a sampler.
    """
    if config.targets == "fqe" and not has_sampler:
        raise CapabilityError(
            'q.targets = "fqe" needs replies of the policy at logged states, and there is no '
            'sampler of it; use "mc", or give the policy'
        )
    if config.targets != "auto":
        return config.targets
    newest = max(episodes, key=lambda episode: episode.round).collected_by
    versions = {
        version
        for episode in episodes
        for version, trains in zip(episode.version, episode.trains_q, strict=True)
        if trains
    }
    if newest is not None and versions <= {newest}:
        return "mc"
    if has_sampler:
        if newest is None:
            observer.warning(
                "q.targets: whose the conversations are is not known, so returns would be those of "
                "whoever wrote them: Q is fitted to what the policy itself would say next. Imitate "
                "the logging policy first where the two differ much"
            )
        return "fqe"
    observer.warning(
        "q.targets: some conversations are not the policy's own and nothing can be sampled, so Q "
        "is that of whoever wrote them (Monte Carlo); imitate the logging policy first, or give "
        "the policy"
    )
    return "mc"


def q_network(
    backend: Backend,
    config: QConfig,
    head: HeadName,
    role: str,
    *,
    y_N: Tensor = MIDDLE_N,
    seed: int = 0,
) -> QNetwork:
    """A new network that says the mean of targets of everything (a verdict: what the base says).

    y_N: scaled to [0, 1].
    """
    spec = AdapterSpec(
        full_weights=config.full_weights,
        rank=config.lora_rank,
        alpha=config.lora_alpha,
        max_grad_norm=config.max_grad_norm,
        seed=seed,
    )
    if head == "verdict":
        verdict = question_of(config, backend.tokenizer)
        return VerdictQ(backend.create(role, spec), verdict, backend.capabilities.branches)
    reader = backend.create_reader(role, spec, start=constant_start(config, y_N))
    return ScalarQ(reader, config.num_heads, config, support_of(config))
