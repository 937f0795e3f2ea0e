"""Toy A's table: mean share of right answers of every method, five seeds each.

`python -m tests.learning.toy_a_table [METHOD ...]` prints it; without names, all methods. Runs go
two at a time, each on one thread.
"""

import multiprocessing
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product

import torch

from tests.learning.toy_a import METHODS, learning_curve

SEEDS = range(5)
PROCESSES = 2
LAST = 10


@dataclass(frozen=True)
class Learned:
    """Share of right answers of one method, one number for each seed."""

    all_steps: tuple[float, ...]
    last_steps: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.mean(self.all_steps)

    def cells(self) -> str:
        """Two cells of a table: means, and lowest to highest seed."""
        return " | ".join(
            f"{statistics.mean(x):.2f} ({min(x):.2f}–{max(x):.2f})"
            for x in (self.all_steps, self.last_steps)
        )


def run(job: tuple[str, int]) -> tuple[float, float]:
    """Means over all and over the last steps of one run."""
    torch.set_num_threads(1)
    name, seed = job
    curve = list(learning_curve(METHODS[name], seed))
    return statistics.mean(curve), statistics.mean(curve[-LAST:])


def learned(names: Sequence[str], seeds: Iterable[int] = SEEDS) -> Mapping[str, Learned]:
    """Every method on every seed."""
    jobs = list(product(names, seeds))
    # Forked children would inherit torch's thread pool in an undefined state.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        result_of = dict(zip(jobs, pool.map(run, jobs), strict=True))
    return {
        name: Learned(
            tuple(result_of[name, seed][0] for seed in seeds),
            tuple(result_of[name, seed][1] for seed in seeds),
        )
        for name in names
    }


def lines(learned_of: Mapping[str, Learned]) -> Iterator[str]:
    yield f"| advantage | all steps | last {LAST} |"
    yield "|---|---|---|"
    for name, row in learned_of.items():
        yield f"| {name} | {row.cells()} |"


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines(learned(sys.argv[1:] or list(METHODS)))) + "\n")
