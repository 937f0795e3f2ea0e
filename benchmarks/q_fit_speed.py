"""What one row for a whole conversation saves in fitting Q, against one row for each turn.

    OMP_NUM_THREADS=1 python benchmarks/q_fit_speed.py [--rounds 5]

The demo's model (Qwen3-shaped, width 192, two layers, vocabulary 1,024) with the scalar head of the
default settings (LoRA, 3 heads, bce), and random conversations with the token counts of the small
tasks: a prompt of 25, 10 tokens a reply, 12 of what is said between two replies. Timed is one
optimizer step on 32 conversations: forward, backward and AdamW, in micro-batches of the same
limits. A round times both sides once, by the process's CPU time (neighbours on the machine count
less); printed are medians after a warm-up. Both sides have the same targets and, by a test, the
same values.
"""

import argparse
import random
import statistics
import time
from collections.abc import Sequence

import torch

from turnwise.backends.local import LocalBackend
from turnwise.backends.tiny import tiny_model, tiny_tokenizer
from turnwise.conversation import Ending, Outcome, Trajectory, Turn
from turnwise.iteration.config import QConfig
from turnwise.iteration.q_choices import q_network
from turnwise.iteration.q_heads import Lesson, QNetwork, marked
from turnwise.tokens import microbatches
from turnwise.training.prm import PassLimits

CONVERSATIONS, PROMPT, REPLY, BETWEEN = 32, 25, 10, 12
LIMITS = PassLimits()


def row(name: str, token_ids: tuple[int, ...], starts: Sequence[int]) -> Trajectory:
    turns = tuple(Turn(start, start + REPLY, (0.0,) * REPLY, "stop") for start in starts)
    return Trajectory(name, name, 0, (), token_ids, turns, Outcome(None), Ending.TASK_DONE)


def conversations(turns: int) -> tuple[list[Trajectory], list[Trajectory]]:
    """Whole conversations, and the same cut at each turn."""
    draw, whole, cut = random.Random(turns), list[Trajectory](), list[Trajectory]()
    starts = [PROMPT + k * (REPLY + BETWEEN) for k in range(turns)]
    for number in range(CONVERSATIONS):
        token_ids = tuple(draw.randrange(6, 200) for _ in range(starts[-1] + REPLY))
        whole.append(row(str(number), token_ids, starts))
        cut += [row(f"{number}/{start}", token_ids[: start + REPLY], [start]) for start in starts]
    return whole, cut


def lesson_of(rows: Sequence[Trajectory], num_heads: int) -> Lesson:
    at = marked(rows)
    target_BK = torch.full(at.v_at_BK.shape, 0.5)
    return Lesson(at, target_BK, at.v_at_BK >= 0, torch.ones(len(rows), num_heads))


def step_s(network: QNetwork, lesson: Lesson) -> float:
    start_s = time.process_time()
    split = microbatches(
        network.cost(lesson), max_rows=LIMITS.max_rows, max_tokens=LIMITS.max_tokens
    )
    for part in split:
        network.backward(lesson.part(part), lesson.num_steps)
    network.learner.optim_step(1e-4)
    return time.process_time() - start_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    tokenizer = tiny_tokenizer(["which day ?", "friday ."] * 3, 1024)
    network = q_network(LocalBackend(tiny_model(tokenizer), tokenizer), QConfig(), "scalar", "q")
    print("turns  whole, ms  by turn, ms  ratio")
    for turns in (4, 8):
        lessons = [lesson_of(rows, network.num_heads) for rows in conversations(turns)]
        times = [[step_s(network, lesson) for lesson in lessons] for _ in range(rounds + 1)][1:]
        whole_s, cut_s = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{turns:5}  {1e3 * whole_s:9.0f}  {1e3 * cut_s:11.0f}  {cut_s / whole_s:5.2f}")


if __name__ == "__main__":
    main()
