"""Does turn credit pay where one noisy outcome covers many decisions?

Trains on `clarify` credit-hard with every credit method at equal numbers of dialogues, several
seeds each, and prints how much of the gap between trajectory credit and the oracle each closes:

    python benchmarks/credit_study.py run --seeds 5 --out docs/results/credit_study.jsonl
    python benchmarks/credit_study.py table --out docs/results/credit_study.jsonl

`run` appends one line a run and skips those that are there, so it can be stopped at any time. Two
numbers are kept of each run: noise-free recall averaged over all training steps (how soon it
learns) and on held-out scenarios at the end (how far it gets). The learning rates were chosen on
other seeds (100 and up), for trajectory credit; every method has the same.
"""

import argparse
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

RECIPE = Path(__file__).parent.parent / "recipes" / "clarify_credit_hard.toml"

_OFF = ["prm.trust=false", "method.trust_mix=false"]
_NO_REPLAY = ["prm.replay=0"]
_INFO = ["method.credit=infopo", "method.estimator=grpo"]
_CRITIC = ["critic.learning_rate=1e-3"]
METHODS: dict[str, list[str]] = {
    "oracle": ["method.credit=oracle"],
    "trajectory": ["method.credit=trajectory"],
    "uniform": ["method.credit=uniform"],
    "prime, paper": ["method.credit=prime", "method.preset=paper"],
    "prime": ["method.credit=prime"],
    "itpo, paper": ["method.credit=itpo", "method.preset=paper"],
    "itpo, public code": ["method.credit=itpo", "method.preset=public-code"],
    "itpo": ["method.credit=itpo"],
    "itpo, no trust": ["method.credit=itpo", *_OFF],
    "itpo, no replay": ["method.credit=itpo", *_NO_REPLAY],
    "itpo, own turn": ["method.credit=itpo", "method.baseline=own_turn"],
    "itpo-norm, paper": ["method.credit=itpo-norm", "method.preset=paper"],
    "itpo-norm, public code": ["method.credit=itpo-norm", "method.preset=public-code"],
    "itpo-norm": ["method.credit=itpo-norm"],
    "itpo-norm, no trust": ["method.credit=itpo-norm", "method.blame=same", *_OFF],
    "itpo-norm, no replay": ["method.credit=itpo-norm", *_NO_REPLAY],
    "itpo-norm, same blame": ["method.credit=itpo-norm", "method.blame=same"],
    "implicit-value": ["method.credit=trajectory", "method.estimator=implicit-value"],
    "implicit-value, no trust": [
        "method.credit=trajectory", "method.estimator=implicit-value", *_OFF,
    ],
    "implicit-value, no replay": [
        "method.credit=trajectory", "method.estimator=implicit-value", *_NO_REPLAY,
    ],
    "grpo": [
        "method.credit=trajectory", "method.estimator=grpo", "method.scaling=none",
        "method.length_penalty=0.0",
    ],
    "infopo": _INFO,
    "infopo, paper": [*_INFO, "method.preset=paper"],
    "infopo, public code": [*_INFO, "method.preset=public-code"],
    "ppo": ["method.credit=trajectory", "method.estimator=ppo", *_CRITIC],
    "value": ["method.credit=value", "critic.learning_rate=3e-3"],
    "lookahead": ["method.credit=lookahead"],
    "judge, exact": ["method.credit=judge"],
    "itpo-norm + infopo": ["method.credit={itpo-norm=1.0,infopo=0.3}"],
}  # fmt: skip


def one_run(method: str, seed: int, extra: tuple[str, ...]) -> dict[str, object]:
    """Trains once and returns what the study keeps of the run."""
    from turnwise.cli import jobs
    from turnwise.cli.settings import load_config
    from turnwise.records import read_metrics, rows_of

    with tempfile.TemporaryDirectory() as folder:
        quiet = ["num_threads=1", "train.save_steps=100000", "train.save_trajectories_steps=100000"]
        given = [*quiet, *METHODS[method], *extra, f"seed={seed}", f"output_dir={folder}/run"]
        config = load_config(RECIPE, given)
        result = jobs.train(config)
        rows = rows_of(read_metrics(result.run_folder / "metrics.jsonl"), "train")
    curve = [float(str(row["outcome/recall"])) for row in rows]
    end = result.summary["end"]
    assert isinstance(end, dict)
    return {
        "method": method,
        "seed": seed,
        "extra": list(extra),
        "mean": float(np.mean(curve)),
        "end": end["recall/mean"],
        "curve": [round(value, 4) for value in curve],
    }


def run(out: Path, methods: list[str], seeds: list[int], workers: int, extra: list[str]) -> None:
    done = {(row["method"], row["seed"], tuple(row["extra"])) for row in _rows(out)}
    wanted = [(m, s, tuple(extra)) for s in seeds for m in methods]
    out.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(one_run, *key) for key in wanted if key not in done]
        for job in jobs:
            row = job.result()
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(row["method"], row["seed"], f"{row['mean']:.3f} {row['end']:.3f}", flush=True)


def _rows(out: Path) -> list[dict[str, object]]:
    if not out.exists():
        return []
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def table(out: Path) -> None:
    """Means over seeds, and the share of the oracle gap closed with a 95 % bootstrap interval."""
    values: dict[str, dict[int, tuple[float, float]]] = {}
    speed: dict[str, list[float]] = {}
    for row in _rows(out):
        method, seed = str(row["method"]), int(str(row["seed"]))
        curve = np.array(row["curve"], dtype=float)
        values.setdefault(method, {})[seed] = (float(str(row["mean"])), float(str(row["end"])))
        speed.setdefault(method, []).append(_steps_to(curve, 0.6))
    print(
        "| credit | all steps (min–max) | held out, end | steps to recall .6 | share of the oracle "
        "gap | seeds |"
    )
    print("|---|---|---|---|---|---|")
    for method in [m for m in METHODS if m in values]:
        mean, end = np.array(list(values[method].values())).T
        reached = float(np.median(speed[method]))
        print(
            f"| {method} | {mean.mean():.3f} ({mean.min():.3f}–{mean.max():.3f}) "
            f"| {end.mean():.3f} "
            f"| {reached if np.isfinite(reached) else 'not reached'} | {_gap(values, method)} "
            f"| {len(mean)} |"
        )


def _steps_to(curve: np.ndarray, recall: float) -> float:
    """The first step at which the mean of three steps is `recall` or more; infinity if none is."""
    smooth = np.convolve(curve, np.ones(3) / 3, mode="valid")
    return float(np.argmax(smooth >= recall) + 3) if (smooth >= recall).any() else float("inf")


def _gap(values: dict[str, dict[int, tuple[float, float]]], method: str) -> str:
    """(method − trajectory) / (oracle − trajectory) of the mean over all steps, seeds paired."""
    paired = [set(values.get(m, {})) for m in (method, "trajectory", "oracle")]
    seeds = sorted(set.intersection(*paired))
    if len(seeds) < 2:
        return "–"
    rows = np.array([[values[m][s][0] for s in seeds] for m in (method, "trajectory", "oracle")])
    drawn = np.random.default_rng(0).integers(len(seeds), size=(4000, len(seeds)))
    own, base, best = rows[:, drawn].mean(axis=2)
    low, high = np.quantile((own - base) / (best - base), [0.025, 0.975])
    own, base, best = rows.mean(axis=1)
    return f"{(own - base) / (best - base):.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("do", choices=["run", "table"])
    parser.add_argument("--out", type=Path, default=Path("docs/results/credit_study.jsonl"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], help="further overrides, key=value")
    given = parser.parse_args()
    if given.do == "run":
        seeds = list(range(given.first_seed, given.first_seed + given.seeds))
        run(given.out, given.methods, seeds, given.workers, given.set)
    table(given.out)


if __name__ == "__main__":
    main()
