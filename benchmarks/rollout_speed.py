"""Rollout tokens/s: our sampler against `transformers.generate` called once per turn.

    OMP_NUM_THREADS=2 python benchmarks/rollout_speed.py [--rounds 5] [--hidden 256]

128 dialogues of up to 5 turns with a random Qwen3-shaped model of about 3 M parameters. A message
ends at one of 32 stop tokens (1 in 16 by chance) or after 32 tokens; a user answers at once with 8
tokens; 1 dialogue in 8 ends after each turn. `generate` gets all live dialogues as one batch, left
padded, with its default cache. Counted are the tokens written up to the stop token. Both sides run
in this process, alternately, with the same malloc settings; after a warm-up round the medians and
their ratio are printed. Then the same with messages that all have 16 tokens, where `generate`
wastes nothing on finished rows. The aim is a ratio of at least 2.
"""

import argparse
import asyncio
import copy
import os
import random
import statistics
import sys
import time

MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_TOP_PAD_": "268435456",
}
if __name__ == "__main__" and any(os.environ.get(key) != MALLOC[key] for key in MALLOC):
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **MALLOC})

import torch  # noqa: E402  # the malloc settings must be in the environment before
from transformers import PreTrainedModel  # noqa: E402

from turnwise.backends.local import LocalBackend  # noqa: E402
from turnwise.backends.protocol import (  # noqa: E402
    AdapterSpec,
    Learner,
    Sampler,
    SampleRequest,
)
from turnwise.backends.tiny import tiny_model, tiny_tokenizer  # noqa: E402

DIALOGUES, TURNS, REPLY, OPENING = 128, 5, 8, 12
# Name, stop tokens and most tokens of a message.
VARIED = ("messages of 1 to 32 tokens", tuple(range(100, 132)), 32)
EQUAL = ("all messages of 16 tokens", (511,), 16)


def opening(seed: int) -> list[int]:
    return [random.Random(seed).randrange(6, 500) for _ in range(OPENING)]


def reply(seed: int, turn: int) -> list[int] | None:
    """The user's answer; None ends the dialogue. The same on both sides."""
    chance = random.Random(seed * 100 + turn)
    if turn + 1 >= TURNS or chance.random() < 1 / 8:
        return None
    return [chance.randrange(6, 500) for _ in range(REPLY)]


async def play(sampler: Sampler, seed: int, stop_ids: tuple[int, ...], most: int) -> int:
    ids, written, session = opening(seed), 0, f"dialogue-{seed}"
    for turn in range(TURNS):
        sample = await sampler.sample(SampleRequest(tuple(ids), seed, most, stop_ids, 1.0, session))
        written += len(sample.token_ids)
        answer = reply(seed, turn)
        if answer is None:
            break
        ids += [*sample.token_ids, *answer]
    sampler.release(session)
    return written


async def play_all(sampler: Sampler, stop_ids: tuple[int, ...], most: int) -> int:
    plays = (play(sampler, seed, stop_ids, most) for seed in range(DIALOGUES))
    return sum(await asyncio.gather(*plays))


def ours(policy: Learner, stop_ids: tuple[int, ...], most: int) -> float:
    start = time.perf_counter()
    sampler = policy.publish()  # part of every step, so part of the time
    written = asyncio.run(play_all(sampler, stop_ids, most))
    return written / (time.perf_counter() - start)


@torch.inference_mode()
def theirs(model: PreTrainedModel, stop_ids: tuple[int, ...], most: int) -> float:
    live = {seed: opening(seed) for seed in range(DIALOGUES)}
    written, start = 0, time.perf_counter()
    for turn in range(TURNS):
        width = max(len(ids) for ids in live.values())
        token_BT = torch.tensor([[0] * (width - len(ids)) + ids for ids in live.values()])
        seen_BT = torch.tensor([[0] * (width - len(i)) + [1] * len(i) for i in live.values()])
        out = model.generate(
            input_ids=token_BT,
            attention_mask=seen_BT,
            max_new_tokens=most,
            do_sample=True,
            top_k=0,
            eos_token_id=list(stop_ids),
            pad_token_id=0,
        )[:, width:].tolist()
        for seed, ids in zip(list(live), out, strict=True):
            stop = next((i + 1 for i, token in enumerate(ids) if token in stop_ids), len(ids))
            written += stop
            answer = reply(seed, turn)
            if answer is None:
                del live[seed]
            else:
                live[seed] += ids[:stop] + answer
        if not live:
            break
    return written / (time.perf_counter() - start)


def nearly_uniform(model: PreTrainedModel) -> PreTrainedModel:
    """The model with small logits: every token about equally likely, so lengths are geometric."""
    with torch.no_grad():
        model.get_decoder().norm.weight.mul_(0.02)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=256)
    arguments = parser.parse_args()
    words = [f"{i * 7919 % 5003:04d}" for i in range(2000)]
    tokenizer = tiny_tokenizer(words, 512)
    model = nearly_uniform(tiny_model(tokenizer, hidden_size=arguments.hidden, num_layers=4))
    backend = LocalBackend(copy.deepcopy(model), tokenizer)
    policy = backend.create("policy", AdapterSpec(rank=8))
    torch.manual_seed(0)
    print(f"{model.num_parameters():,} parameters, {DIALOGUES} dialogues of up to {TURNS} turns")
    for name, stop_ids, most in (VARIED, EQUAL):
        rates = [
            (ours(policy, stop_ids, most), theirs(model, stop_ids, most))
            for _ in range(arguments.rounds + 1)
        ][1:]
        ours_median, theirs_median = (statistics.median(rate) for rate in zip(*rates, strict=True))
        print(name)
        print(f"  turnwise sampler        {ours_median:>8,.0f} tokens/s")
        print(f"  generate once per turn  {theirs_median:>8,.0f} tokens/s")
        print(f"  ratio of medians        {ours_median / theirs_median:>8.2f}")


if __name__ == "__main__":
    main()
