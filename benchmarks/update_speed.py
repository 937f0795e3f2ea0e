"""Update tokens/s: forward_backward and optim_step against a bare Hugging Face loop.

    OMP_NUM_THREADS=2 python benchmarks/update_speed.py [--rounds 5] [--hidden 256]

The rows of a training step: 128 dialogues of up to 5 turns, 20 to 180 tokens, a good half of them
written by the policy; a random Qwen3-shaped model of about 3 M parameters. The bare loop does what
a Hugging Face trainer does with the same micro-batches of 32 rows in the same order: full logits,
cross entropy at the written tokens, backward, clipping, AdamW. Counted are the tokens of the rows
without padding. Once with full weights and once with LoRA adapters of rank 16, both sides in this
process, alternately, with the same malloc settings; after a warm-up round the medians and their
ratio are printed. The aim is a ratio of at least 0.8.
"""

import argparse
import os
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable

MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_TOP_PAD_": "268435456",
}
if __name__ == "__main__" and any(os.environ.get(key) != MALLOC[key] for key in MALLOC):
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **MALLOC})

import torch  # noqa: E402  # the malloc settings must be in the environment before
from peft import LoraConfig, get_peft_model  # noqa: E402
from torch import Tensor  # noqa: E402
from transformers import PreTrainedModel, PreTrainedTokenizerBase  # noqa: E402

from turnwise.backends.local import LocalBackend  # noqa: E402
from turnwise.backends.protocol import AdapterSpec  # noqa: E402
from turnwise.backends.tiny import tiny_model, tiny_tokenizer  # noqa: E402
from turnwise.tokens import TurnBatch, microbatches  # noqa: E402

DIALOGUES, ROWS, RANK = 128, 32, 16


def rows_of_a_step() -> TurnBatch:
    chance = random.Random(0)
    turns_B = [chance.randint(1, 5) for _ in range(DIALOGUES)]
    token_BT = torch.randint(
        6, 500, (DIALOGUES, 5 * 36), generator=torch.Generator().manual_seed(0)
    )
    turn_of_token_BT, length_B = torch.full_like(token_BT, -1), []
    for b, turns in enumerate(turns_B):
        end = 12
        for turn in range(turns):
            written = chance.randint(8, 24)
            turn_of_token_BT[b, end : end + written] = turn
            end += written + 10
        length_B.append(end - 10)
    width = max(length_B)
    return TurnBatch(
        token_BT[:, :width],
        turn_of_token_BT[:, :width],
        torch.zeros(DIALOGUES, width),
        torch.tensor(length_B),
    )


Step = Callable[[list[TurnBatch]], None]


def ours(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, full: bool) -> Step:
    backend = LocalBackend(model, tokenizer)
    learner = backend.create("policy", AdapterSpec(full_weights=full, rank=RANK))

    def step(parts: list[TurnBatch]) -> None:
        divisor = sum(part.num_written for part in parts)
        for part in parts:
            learner.forward_backward(part, lambda logp_BT: -logp_BT.sum() / divisor)
        learner.optim_step(1e-4)

    return step


def bare(model: PreTrainedModel, full: bool) -> Step:
    if not full:
        config = LoraConfig(r=RANK, target_modules="all-linear", task_type="CAUSAL_LM")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT asks transformers by an old name
            model = get_peft_model(model, config)
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, weight_decay=0.0)

    def loss_of(part: TurnBatch, divisor: int) -> Tensor:
        seen_BT = torch.arange(part.token_BT.shape[1]) < part.length_B[:, None]
        logits_BTV = model(
            input_ids=part.token_BT, attention_mask=seen_BT.long(), use_cache=False
        ).logits
        label_BT = torch.where(part.written_BT, part.token_BT, -100)[:, 1:]
        return (
            torch.nn.functional.cross_entropy(
                logits_BTV[:, :-1].float().flatten(0, 1), label_BT.flatten(), reduction="sum"
            )
            / divisor
        )

    def step(parts: list[TurnBatch]) -> None:
        divisor = sum(part.num_written for part in parts)
        for part in parts:
            loss_of(part, divisor).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def rate(step: Step, parts: list[TurnBatch]) -> float:
    start = time.perf_counter()
    step(parts)
    return sum(int(part.length_B.sum()) for part in parts) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=256)
    arguments = parser.parse_args()
    tokenizer = tiny_tokenizer([f"{i * 7919 % 5003:04d}" for i in range(2000)], 512)
    batch = rows_of_a_step()
    split = microbatches(batch.length_B, max_rows=ROWS, max_tokens=16384)
    parts = [batch.rows(rows) for rows in split]
    written = batch.num_written
    print(f"{DIALOGUES} rows, {int(batch.length_B.sum()):,} tokens, {written:,} written")
    for name, full in (("full weights", True), ("LoRA", False)):
        sides = (
            ours(
                tiny_model(tokenizer, hidden_size=arguments.hidden, num_layers=4), tokenizer, full
            ),
            bare(tiny_model(tokenizer, hidden_size=arguments.hidden, num_layers=4), full),
        )
        rates = [[rate(side, parts) for side in sides] for _ in range(arguments.rounds + 1)][1:]
        ours_median, bare_median = (statistics.median(side) for side in zip(*rates, strict=True))
        print(name)
        print(f"  turnwise update    {ours_median:>8,.0f} tokens/s")
        print(f"  bare loop          {bare_median:>8,.0f} tokens/s")
        print(f"  ratio of medians   {ours_median / bare_median:>8.2f}")


if __name__ == "__main__":
    main()
