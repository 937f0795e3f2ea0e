"""Replies of a policy to prompts: sampled together, one turn each, and what Q says of them.

Axes: `S` prompts, `G` replies of one prompt (siblings stand together), `B` = S·G replies.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from turnwise.backends.protocol import Sample, Sampler, SampleRequest
from turnwise.conversation import Ending, Outcome, Trajectory, Turn
from turnwise.errors import TrainingError
from turnwise.iteration.episodes import Prompt
from turnwise.iteration.q_model import QModel, QValues
from turnwise.rollouts import keyed_seed
from turnwise.tokens import Shared, TurnBatch, share_prefixes, turn_batch


@dataclass(frozen=True)
class Replies:
    """n replies to each prompt, as rows of one turn."""

    rows: list[Trajectory]
    batch: TurnBatch  # behaviour: the sampler's own log-probabilities
    prompt_B: Tensor  # int64: which prompt each reply answers
    truncated_B: Tensor  # bool: cut before its end token

    @cached_property
    def shared(self) -> Shared:
        """The rows with each prompt once."""
        return share_prefixes(self.batch, self.prompt_B.tolist())

    @property
    def truncated_share(self) -> float:
        return float(self.truncated_B.float().mean())

    @property
    def mean_tokens(self) -> float:
        return self.batch.num_written / len(self.rows)

    def by_prompt(self, value_B: Tensor) -> Tensor:
        """B as SG."""
        return value_B.reshape(int(self.prompt_B[-1]) + 1, -1)


def sample_replies(
    sampler: Sampler,
    prompts: Sequence[Prompt],
    num_generations: int,
    *,
    stop_id: int,
    max_tokens: int,
    key: tuple[int | str, ...],
    keeps_caches: bool = False,
) -> Replies:
    """n replies to each prompt at temperature 1, all decoded together.

    key: names the draw; the noise of reply g to the s-th prompt is a function of (key, s, g).
    keeps_caches: the prompts of a conversation are answered one after the other, each reading only
    what is new in it: for many prompts of many conversations.
    """
    requests = [
        SampleRequest(
            prompt_ids=prompt.token_ids,
            noise_seed=keyed_seed(*key, s, g),
            max_new_tokens=max_tokens,
            stop_ids=(stop_id,),
        )
        for s, prompt in enumerate(prompts)
        for g in range(num_generations)
    ]
    prompt_B = torch.arange(len(prompts)).repeat_interleave(num_generations)
    lines = [prompts[s].conversation_id for s in prompt_B.tolist()] if keeps_caches else []
    samples = asyncio.run(_together(sampler, requests, lines))
    names = [(prompts[s].conversation_id, str(s)) for s in prompt_B.tolist()]
    rows = [
        reply_row(request, sample, *name)
        for request, sample, name in zip(requests, samples, names, strict=True)
    ]
    truncated_B = torch.tensor([sample.stop_reason != "stop" for sample in samples])
    return Replies(rows, turn_batch(rows), prompt_B, truncated_B)


async def _together(
    sampler: Sampler, requests: Sequence[SampleRequest], lines: Sequence[str]
) -> list[Sample]:
    """lines: requests of one line keep their order and a cache; none: each is on its own."""
    if not lines:
        return list(await asyncio.gather(*(sampler.sample(request) for request in requests)))
    of_line: dict[str, list[int]] = {}
    for i, name in enumerate(lines):
        of_line.setdefault(name, []).append(i)
    found: dict[int, Sample] = {}

    async def answered(name: str, indices: list[int]) -> None:
        for i in indices:
            found[i] = await sampler.sample(replace(requests[i], session=f"line {name}"))
        sampler.release(f"line {name}")

    await asyncio.gather(*(answered(*one) for one in of_line.items()))
    return [found[i] for i in range(len(requests))]


def reply_row(
    request: SampleRequest, sample: Sample, conversation_id: str = "", group_id: str = ""
) -> Trajectory:
    """Prompt and reply as a row of one turn, without texts."""
    start, is_cut = len(request.prompt_ids), sample.stop_reason != "stop"
    stop = start + len(sample.token_ids)
    return Trajectory(
        scenario_id=conversation_id,
        group_id=group_id,
        seed=request.noise_seed,
        conversation=(),
        token_ids=request.prompt_ids + sample.token_ids,
        turns=(Turn(start, stop, sample.logp, sample.stop_reason),),
        outcome=Outcome(None),
        ending=Ending.TOKEN_LIMIT if is_cut else Ending.TASK_DONE,
    )


def values_of(q: QModel, replies: Replies, name: str) -> QValues:
    """What Q says of the replies (K is 1). name: the Q-function's, for messages.

    Raises TrainingError naming the first conversation whose values are not finite.
    """
    values = q.values(replies.rows)
    finite_B = torch.isfinite(values.q_EBK).all(dim=0) & torch.isfinite(values.v_EBK).all(dim=0)
    if not bool(finite_B.all()):
        b = int((~finite_B[:, 0]).nonzero()[0])
        raise TrainingError(
            f"conversation {replies.rows[b].scenario_id}, reply {b} of its batch: expected finite "
            f"values of {name}, found Q {values.q_BK[b, 0]} and V {values.v_BK[b, 0]}; fit Q again "
            "with a lower learning rate"
        )
    return values


def draw_prompts(
    prompts: Sequence[Prompt], number: int, key: tuple[int, ...], *, distinct: bool = False
) -> list[Prompt]:
    """Prompts drawn by their weights, with replacement; a pure function of the key.

    distinct: without replacement, at most all of them.
    """
    weight_N = np.array([prompt.weight for prompt in prompts], dtype=np.float64)
    drawn = np.random.default_rng(key).choice(
        len(prompts),
        size=min(number, int((weight_N > 0).sum())) if distinct else number,
        replace=not distinct,
        p=weight_N / weight_N.sum(),
    )
    return [prompts[i] for i in drawn]
