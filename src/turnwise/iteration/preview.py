"""What could be gained without training: the best of n replies by Q, as numbers and as a sampler.

Axes: `S` prompts, `G` replies of one prompt.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb

import numpy as np
import torch
from torch import Tensor

from turnwise.advantages import best_of_n_kl
from turnwise.backends.protocol import Sample, Sampler, SampleRequest
from turnwise.errors import GroupError, LogsError
from turnwise.evaluation import Interval, clustered_bootstrap_mean
from turnwise.iteration.config import PreviewConfig
from turnwise.iteration.episodes import Prompt
from turnwise.iteration.q_model import QModel
from turnwise.iteration.replies import draw_prompts, reply_row, sample_replies, values_of
from turnwise.rollouts import keyed_seed
from turnwise.tokens import ChatFormat


@dataclass(frozen=True)
class Preview:
    """The best of n replies of π_k by Q_A, in return units."""

    num_generations: int  # n
    num_prompts: int
    kl: float  # from π_k at most, nats per reply
    gain_a: float  # by Q_A, which chose: flatters
    gain_b: Interval  # by Q_B, which did not train on these customers
    truncated: float  # share of replies without an end token


def preview(
    sampler: Sampler,
    q_a: QModel,
    q_b: QModel,
    prompts: Sequence[Prompt],
    config: PreviewConfig,
    *,
    chat: ChatFormat,
    max_turn_tokens: int,
    seed: int,
    round: int,
) -> Preview:
    """The gain to be had by serving the best of n replies by Q_A.

    sampler: of π_k. prompts: those of fold A are used. Raises LogsError if there is none.
    """
    fixed = fixed_prompts(prompts, config.num_prompts, seed, round)
    replies = sample_replies(
        sampler,
        fixed,
        config.num_generations,
        stop_id=chat.stop_id,
        max_tokens=max_turn_tokens,
        key=(seed, round, "preview"),
    )
    a_SG, b_SG = (
        replies.by_prompt(values_of(q, replies, name).q_BK[:, 0])
        for q, name in ((q_a, "Q_A"), (q_b, "Q_B"))
    )
    n = config.num_generations
    gain_b_S = best_of_gain(a_SG, b_SG, n)
    return Preview(
        num_generations=n,
        num_prompts=len(fixed),
        kl=best_of_n_kl(n),
        gain_a=float(best_of_gain(a_SG, a_SG, n).mean()),
        gain_b=clustered_bootstrap_mean(
            gain_b_S.tolist(), [prompt.customer for prompt in fixed], seed=seed
        ),
        truncated=replies.truncated_share,
    )


def fixed_prompts(prompts: Sequence[Prompt], number: int, seed: int, round: int) -> list[Prompt]:
    """Distinct prompts of fold A, the same in every call. Raises LogsError if there is none."""
    of_a = [prompt for prompt in prompts if prompt.fold == 0]
    if not of_a:
        raise LogsError(
            f"expected prompts of customers of fold A to watch the gain on, found none among "
            f"{len(prompts)}; import more conversations"
        )
    return draw_prompts(of_a, number, (seed, round, 0), distinct=True)


def best_of_gain(q_SG: Tensor, value_SG: Tensor, n: int) -> Tensor:
    """What the best of n replies is worth above a reply as such, in each context.

        Σ_i C(i − 1, n − 1)/C(G, n)·value_(i) − mean_j value_j,   (i) = i-th in ascending order of q

    The mean over all choices of n of the G replies: no bias, and less noise than one choice.
    q_SG: by which the best is chosen; value_SG: which says what it is worth. Returns S.
    Raises GroupError unless 1 ≤ n ≤ G.
    """
    G = q_SG.shape[1]
    if not 1 <= n <= G:
        raise GroupError(f"expected 1 to {G} replies to choose from, got {n}")
    weight_G = torch.tensor([comb(i, n - 1) / comb(G, n) for i in range(G)], dtype=value_SG.dtype)
    ranked_SG = value_SG.gather(1, q_SG.argsort(dim=1, stable=True))
    return (ranked_SG * weight_G).sum(dim=1) - value_SG.mean(dim=1)


def shortfall(q_SG: Tensor, *, kl: float, gain: float) -> float:
    """δ: what the best of n by Q gains at the same KL, minus what the policy gained; return units.

    q_SG: of π_k's replies. kl: of the policy, nats per reply. Between two n the gain is taken as
    linear in KL; beyond n = G the last one stands, and δ is a lower end then.
    """
    numbers = range(1, q_SG.shape[1] + 1)
    gain_N = [float(best_of_gain(q_SG, q_SG, n).mean()) for n in numbers]
    return float(np.interp(kl, [best_of_n_kl(n) for n in numbers], gain_N)) - gain


@dataclass(frozen=True)
class BestOfNSampler:
    """Implements `Sampler`: n replies, and the best of them by Q is said.

    Its log-probabilities are those of the sampler that wrote the reply, not of the choice.
    """

    sampler: Sampler
    q: QModel
    n: int

    async def sample(self, request: SampleRequest) -> Sample:
        """The best reply by Q, the first of equals."""
        others = [
            replace(request, noise_seed=keyed_seed(request.noise_seed, i), session=None)
            for i in range(1, self.n)
        ]
        requests = [request, *others]  # the first keeps its noise: with n = 1 nothing changes
        samples = await asyncio.gather(*(self.sampler.sample(one) for one in requests))
        rows = [reply_row(one, sample) for one, sample in zip(requests, samples, strict=True)]
        return samples[int(self.q.values(rows).q_BK[:, 0].argmax())]

    def release(self, session: str) -> None:
        """The dialogue is over: its cache may go."""
        self.sampler.release(session)
