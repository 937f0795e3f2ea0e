"""ITPO's credit and advantages for 1,024 dialogues of 4,096 tokens: segment sums against loops.

    OMP_NUM_THREADS=1 python benchmarks/credit_speed.py

Both sides go from log-probabilities to token advantages: implicit token rewards, turn rewards,
returns, leave-one-out at each turn index, scaling by the rms over tokens, spreading to tokens. The
loop side visits every turn of every row in Python, with a mask for each, as the published trainers
do. The results are compared before the clock starts, and freed memory stays with the process on
both sides: otherwise the clock measures the kernel handing out pages. Prints both medians and their
ratio, which should be 5 or more; exits with 1 if it is not.
"""

import ctypes
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from turnwise.advantages import loo_turn_index, reward_to_go, scale_turns_by_rms
from turnwise.arrays import spread_to_tokens, turn_length
from turnwise.credit import implicit_turn_rewards

NUM_DIALOGUES, NUM_TOKENS, NUM_SIBLINGS, NUM_TURNS = 1024, 4096, 8, 8
BETA, REPEATS, REQUIRED = 0.05, 7, 5.0

Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # prm, reference, turn_of_token, group


def batch(seed: int = 0) -> Batch:
    """Dialogues of 4 to 8 turns; the policy wrote half of their tokens."""
    noise = torch.Generator().manual_seed(seed)
    shape = (NUM_DIALOGUES, NUM_TOKENS)
    block = NUM_TOKENS // NUM_TURNS
    position_T = torch.arange(NUM_TOKENS)
    written_T = position_T % block < block // 2
    num_turns_B = torch.randint(4, NUM_TURNS + 1, (NUM_DIALOGUES,), generator=noise)
    turn_BT = (position_T // block).expand(shape)
    is_written_BT = written_T & (turn_BT < num_turns_B.unsqueeze(1))
    turn_of_token_BT = torch.where(is_written_BT, turn_BT, -1)
    logp_BT, reference_BT = (-torch.rand(shape, generator=noise) for _ in range(2))
    group_B = torch.arange(NUM_DIALOGUES) // NUM_SIBLINGS
    return logp_BT, reference_BT, turn_of_token_BT, group_B


def by_segments(prm_BT: Tensor, reference_BT: Tensor, turn_BT: Tensor, group_B: Tensor) -> Tensor:
    length_BK = turn_length(turn_BT, NUM_TURNS)
    is_turn_BK = length_BK > 0
    reward_BK = implicit_turn_rewards(prm_BT, reference_BT, turn_BT, beta=BETA, num_turns=NUM_TURNS)
    return_BK = reward_to_go(reward_BK, is_turn_BK, discount=1.0)
    is_valid_B = is_turn_BK.any(dim=1)
    advantage_BK = loo_turn_index(return_BK, is_turn_BK, group_B, is_valid_B)
    return spread_to_tokens(scale_turns_by_rms(advantage_BK, length_BK), turn_BT)


def by_loops(prm_BT: Tensor, reference_BT: Tensor, turn_BT: Tensor, group_B: Tensor) -> Tensor:
    reward_BT = BETA * (prm_BT - reference_BT)
    returns: list[list[float]] = []
    for b in range(NUM_DIALOGUES):
        num_turns = int(turn_BT[b].max()) + 1
        rewards = [float(reward_BT[b][turn_BT[b] == k].sum()) for k in range(num_turns)]
        returns.append([sum(rewards[k:]) for k in range(num_turns)])
    siblings: dict[int, list[int]] = {}
    for b, group in enumerate(group_B.tolist()):
        siblings.setdefault(group, []).append(b)
    out_BT = torch.zeros_like(reward_BT)
    for b, group in enumerate(group_B.tolist()):
        others = [returns[j] for j in siblings[group] if j != b]
        for k, own in enumerate(returns[b]):
            baseline = sum(other[k] for other in others if k < len(other)) / len(others)
            out_BT[b][turn_BT[b] == k] = own - baseline
    rms = out_BT[turn_BT >= 0].square().mean().sqrt()
    return out_BT / max(0.1, float(rms))


def seconds(compute: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    compute()
    return time.perf_counter() - start


def keep_freed_memory() -> None:
    """Tells glibc's allocator to return nothing to the system; elsewhere does nothing."""
    if sys.platform == "linux":
        allocator = ctypes.CDLL(None)
        trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX of malloc.h
        allocator.mallopt(trim_threshold, 2**31 - 1)
        allocator.mallopt(mmap_max, 0)


def main() -> int:
    keep_freed_memory()
    data = batch()
    torch.testing.assert_close(by_segments(*data), by_loops(*data), atol=1e-4, rtol=1e-4)
    # Alternating, so that a busy machine slows both sides alike.
    pairs = [
        (seconds(lambda: by_segments(*data)), seconds(lambda: by_loops(*data)))
        for _ in range(REPEATS)
    ]
    segments_s, loops_s = (median(times) for times in zip(*pairs, strict=True))
    print(f"{NUM_DIALOGUES} dialogues x {NUM_TOKENS} tokens, 4 to {NUM_TURNS} turns, CPU float32")
    print(f"segment sums  {1e3 * segments_s:8.1f} ms")
    print(f"double loop   {1e3 * loops_s:8.1f} ms")
    print(f"ratio         {loops_s / segments_s:8.1f}   (required: {REQUIRED})")
    return 0 if loops_s >= REQUIRED * segments_s else 1


if __name__ == "__main__":
    sys.exit(main())
