"""What does InfoPO cost? Whole training steps of it against those of trajectory-level GRPO.

    python benchmarks/infopo_step.py

Both train on `clarify` medium from the same start with the same settings, one step of each after
the other, and the medians of their wall clock are compared; the time of the counterfactual pass is
shown apart. Dialogues differ once the policies do, so the tokens of a step are shown as well.
"""

import argparse
import asyncio
import statistics
import time
from pathlib import Path

import torch

from turnwise.cli.assemble import Assembly, assemble, learners_of
from turnwise.cli.settings import load_config
from turnwise.training.learners import Learners
from turnwise.training.observer import Silent
from turnwise.training.presets import resolved
from turnwise.training.step import training_step

RECIPE = Path(__file__).parent.parent / "recipes" / "clarify_infopo.toml"
METHODS = {
    "grpo": ["method.credit=trajectory", "method.scaling=none", "method.length_penalty=0.0"],
    "infopo": [],
}


def ready(overrides: list[str]) -> tuple[Assembly, Learners]:
    config = resolved(load_config(RECIPE, ["method.estimator=grpo", *overrides]))
    assembly = assemble(config, Silent())
    return assembly, learners_of(assembly)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=8, help="of each, after one to warm up")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--set", nargs="*", default=[], help="further settings, key=value")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    runs = {name: ready([*keys, *given.set]) for name, keys in METHODS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for step in range(1, given.steps + 2):
        for name, (assembly, learners) in runs.items():
            start_s = time.perf_counter()
            result = asyncio.run(training_step(assembly.stage, learners, assembly.config, step))
            seconds[name].append(time.perf_counter() - start_s)
            rows[name].append(dict(result.metrics))
    for name in runs:
        kept = rows[name][1:]
        parts = sorted({key for row in kept for key in row if key.startswith("time/")})
        shown = ", ".join(
            f"{key.removeprefix('time/')} {statistics.median(row[key] for row in kept):.3f}"
            for key in parts
        )
        tokens = statistics.mean(row["tokens/mean"] for row in kept)
        print(
            f"{name}: {statistics.median(seconds[name][1:]):.3f} s a step ({shown}); "
            f"{tokens:.0f} tokens written a dialogue"
        )
    pairs = zip(seconds["infopo"][1:], seconds["grpo"][1:], strict=True)
    print(f"ratio of neighbouring steps, median: {statistics.median(a / b for a, b in pairs):.2f}")


if __name__ == "__main__":
    main()
