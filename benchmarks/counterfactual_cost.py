"""What scoring every turn's counterfactual costs, in plain forward passes over the dialogues.

    OMP_NUM_THREADS=2 python benchmarks/counterfactual_cost.py [--rounds 7] [--ways auto mask]

The demo's model (Qwen3-shaped, width 192, two layers, vocabulary 1,024) and random dialogues with
the token counts of `clarify`: 8 to 12 tokens a turn, about 8 of feedback, a placeholder of 4, four
of markup between turns; then one dialogue of 2,240 tokens with 16 long turns. Each turn but the
last has a branch in which the placeholder stands instead of the feedback and the next turn is
scored again. Compared, all by the same backend with the same limits of a pass:

    plain      the dialogues alone, as for the old log-probabilities: the unit
    packed     dialogues and branches as trees, by each way named
    published  two full-prefix passes for each such turn (prefix and feedback, prefix and
               placeholder), all prompts padded to the longest, one turn of all dialogues at a time

A round times every side once, one after the other, by the process's CPU time (neighbours on the
machine count less) with the same malloc settings; printed are medians after a warm-up, in units of
the plain pass, and the peak memory of processes that run one side alone. Building the rows is timed
apart. Aims for 4, 8 and 16 turns: 1.6, 1.9, 2.5.
"""

import argparse
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_TOP_PAD_": "268435456",
}
if __name__ == "__main__" and any(os.environ.get(key) != MALLOC[key] for key in MALLOC):
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **MALLOC})

import torch  # noqa: E402  # the malloc settings must be in the environment before

from turnwise.backends.local import LocalBackend  # noqa: E402
from turnwise.backends.tiny import tiny_model, tiny_tokenizer  # noqa: E402
from turnwise.backends.ways import Asked  # noqa: E402
from turnwise.tokens import Branch, Packed, TurnBatch, pack  # noqa: E402

PLACEHOLDER, BEFORE, AFTER = [9] * 4, 2, 2  # markup tokens before and after a body
SHAPES = {  # dialogues, turns, prompt, tokens of a turn, tokens of a feedback: from, to
    "4 turns": (128, 4, (20, 30), (8, 12), (6, 10)),
    "8 turns": (128, 8, (20, 30), (8, 12), (6, 10)),
    "16 turns": (128, 16, (20, 30), (8, 12), (6, 10)),
    "long": (1, 16, (236, 236), (80, 80), (44, 44)),
}


def dialogues(shape: str, *, padded: bool = False) -> tuple[TurnBatch, list[Branch]]:
    """Random dialogues and a branch for each turn but the last. padded: prompts equally long."""
    count, turns, prompt, written, feedback = SHAPES[shape]
    chance = random.Random(0)

    def text(size: tuple[int, int]) -> list[int]:
        return [chance.randrange(6, 1000) for _ in range(chance.randint(*size))]

    rows: list[list[int]] = []
    turn_of_row: list[list[int]] = []
    branches: list[Branch] = []
    for b in range(count):
        opening = text(prompt)
        row = [5] * (prompt[1] - len(opening)) * padded + opening
        turn_of = [-1] * len(row)
        for k in range(turns):
            said = text(written)
            if k:
                body = text(feedback)
                fork, start = len(row) + BEFORE, len(row) + BEFORE + len(body) + AFTER
                row += [7] * BEFORE + body + [8] * AFTER
                turn_of += [-1] * (start - len(turn_of))
                ids = [*PLACEHOLDER, *[8] * AFTER, *said]
                positions = tuple(range(fork, fork + len(ids)))
                scored = (len(ids) - len(said), len(ids))
                target = (start, start + len(said))
                kind = "counterfactual"
                branches.append(
                    Branch(b, fork, tuple(ids), positions, scored, kind, k - 1, target=target)
                )
            row += said
            turn_of += [k] * len(said)
        rows.append(row)
        turn_of_row.append(turn_of)
    return rows_of(rows, turn_of_row), branches


def rows_of(rows: list[list[int]], turn_of_row: list[list[int]]) -> TurnBatch:
    width = max(map(len, rows))
    token_BT = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    turn_BT = torch.tensor([turn + [-1] * (width - len(turn)) for turn in turn_of_row])
    length_B = torch.tensor([len(row) for row in rows])
    return TurnBatch(token_BT, turn_BT, torch.zeros(token_BT.shape), length_B)


def published(shape: str) -> list[TurnBatch]:
    """The batches of the published way, two for each turn but the last."""
    trunks, branches = dialogues(shape, padded=True)
    batches = []
    for k in range(SHAPES[shape][1] - 1):
        sides: tuple[list[list[int]], list[list[int]]] = ([], [])
        scored: tuple[list[list[int]], list[list[int]]] = ([], [])
        for branch in (branch for branch in branches if branch.turn == k):
            row: list[int] = trunks.token_BT[branch.dialogue].tolist()
            assert branch.target is not None
            real = row[: branch.target[1]]
            other = [*row[: branch.fork], *branch.token_ids]
            for side, turn_of, ids in zip(sides, scored, (real, other), strict=True):
                length = branch.scored[1] - branch.scored[0]
                side.append(ids)
                turn_of.append([-1] * (len(ids) - length) + [0] * length)
        batches += [rows_of(*both) for both in zip(sides, scored, strict=True)]
    return batches


Side = Callable[[], object]


def backend_for(way: Asked) -> LocalBackend:
    tokenizer = tiny_tokenizer([f"{i * 7919 % 5003:04d}" for i in range(3000)], 1024)
    return LocalBackend(tiny_model(tokenizer), tokenizer, branch_way=way)


def packed_rows(shape: str) -> Packed:
    trunks, branches = dialogues(shape)
    return pack(trunks, branches, max_tokens=1)


def side(shape: str, name: str) -> tuple[Side, LocalBackend]:
    backend = backend_for(cast(Asked, "auto" if name in ("plain", "published") else name))
    scorer = backend.reference()
    if name == "plain":
        trunks = dialogues(shape)[0]
        return (lambda: scorer.logp(trunks)), backend
    if name == "published":
        batches = published(shape)
        return (lambda: [scorer.logp(batch) for batch in batches]), backend
    packed = packed_rows(shape)
    return (lambda: packed.factual(scorer.logp(packed.batch))), backend


def seconds(run: Side) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def peak_mb(shape: str, name: str) -> float:
    """Of a process that runs this side alone, once."""
    command = [sys.executable, __file__, "--alone", shape, name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--ways", nargs="*", default=["auto", "mask", "crop", "separate"])
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES))
    parser.add_argument("--alone", nargs=2)
    arguments = parser.parse_args()
    if arguments.alone:
        side(*arguments.alone)[0]()
        # Not ru_maxrss, which begins at what the parent had when it started this process.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        print(int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024)
        return
    names = ["plain", *arguments.ways, "published"]
    for shape in arguments.shapes:
        trunks, _ = dialogues(shape)
        tokens, branched = int(trunks.length_B.sum()), packed_rows(shape).batch.length_B.sum()
        build_s = seconds(partial(packed_rows, shape))
        print(
            f"{shape}: {len(trunks.length_B)} dialogues, {tokens:,} tokens, "
            f"{int(branched) / tokens:.2f} times as many with branches; rows in {build_s:.3f} s"
        )
        sides = {name: side(shape, name) for name in names}
        rounds = [
            {name: seconds(run) for name, (run, _) in sides.items()}
            for _ in range(arguments.rounds + 1)
        ][1:]
        for name, (_, backend) in sides.items():
            ratio = statistics.median(times[name] / times["plain"] for times in rounds)
            middle = statistics.median(times[name] for times in rounds)
            way = " ".join(backend.ways)
            print(
                f"  {name:<10}{way:<10}{ratio:>7.2f} plain passes {middle:>8.3f} s"
                f"{peak_mb(shape, name):>8,.0f} MB peak"
            )


if __name__ == "__main__":
    main()
