"""What do logged conversations buy? Iterative PPO on `sell` beside other uses of them.

Every method starts from the same warm-started policy pi0 and sees the same number of conversations,
2,000 in each of three rounds:

    iterate         recipes/iterative_ppo.toml: fit Q, gate, improve, confirm, again
    rloo            trajectory-level RLOO on the same number of dialogues, with the simulator
    cloning         filtered behaviour cloning: imitate the conversations that ended in a purchase
    best-of-n       pi0, its best of 8 replies by round 0's Q_A; nothing is trained

and variants of `iterate` (VARIANTS). Policies are compared on held-out scenarios that no method
plays while it learns, with the same users and the same chance.

Variants and best-of-n go on from the first round of `iterate`, which is the same for them; its
folders are kept in --runs.

    python benchmarks/iteration_study.py run --out docs/results/iteration.jsonl --runs runs/study
    python benchmarks/iteration_study.py table --out docs/results/iteration.jsonl

`run` appends one line a policy and skips arms that are there. Settings were chosen on seeds of 100
and above; what each arm was given for it stands in docs/experiments.md.
"""

import argparse
import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t

from turnwise.backends.protocol import Sampler
from turnwise.cli import jobs
from turnwise.cli.assemble import Assembly, assemble, ready
from turnwise.cli.iterating import as_run, workshop
from turnwise.cli.settings import load_settings, with_overrides
from turnwise.errors import GateError
from turnwise.evaluation import Evaluation, evaluate
from turnwise.iteration import IterateConfig, iterate, policy_of
from turnwise.iteration.preview import BestOfNSampler
from turnwise.iteration.q_fit import load_cross_fit
from turnwise.iteration.stages import read_facts
from turnwise.iteration.world import TaskWorld
from turnwise.tokens import ChatFormat
from turnwise.training.learners import pass_limits
from turnwise.training.observer import Silent
from turnwise.training.supervised import imitate, supervised_batch

RECIPE = Path(__file__).parent.parent / "recipes" / "iterative_ppo.toml"
HELD_OUT = 1024  # scenarios of an evaluation
VARIANTS: dict[str, list[str]] = {
    "iterate": [],
    "fixed-reference": ["improve.reference=initial", "gate.mode=warn", "rounds=2"],
    "pooled-fqe": ["q.targets=auto", "q.pool=pooled", "q.fqe_sweeps=2", "rounds=2"],
    "pooled-mc": ["q.pool=pooled"],
    "ungated": ["gate.mode=warn"],  # what the refused rounds would have done
    "grpo": ["improve.estimator=grpo"],
    "ppo": ["improve.estimator=ppo"],
}
CHEAPER = ["gate.judge=none"]  # a question after each of 9,000 replies; the recipe asks it
RLOO = [
    "method.credit=trajectory", "method.scaling=none", "method.length_penalty=0.0",
    "train.num_problems=16", "train.num_generations=8", "train.learning_rate=3e-3",
    "train.num_mini_batches=2", "train.lr_scheduler_type=linear", "eval.every=0",
]  # fmt: skip
CLONING = {"epochs": 2, "learning_rate": 1e-3, "batch_size": 16}
# Settings that were tried, on seeds of 100 and above.
TRIED: dict[str, list[str]] = {
    "rloo-1e-3": ["train.learning_rate=1e-3"],
    "rloo-one-batch": ["train.num_mini_batches=1"],
}
TRIED_CLONING: dict[str, dict[str, float]] = {
    "cloning-3e-3": {"learning_rate": 3e-3},
    "cloning-3e-4": {"learning_rate": 3e-4},
}
Row = dict[str, object]


def settings(seed: int, arm: str, folder: Path) -> IterateConfig:
    """The recipe with a seed and what the arm changes."""
    config = load_settings(IterateConfig, RECIPE, [f"seed={seed}", "num_threads=1", *CHEAPER])
    config = with_overrides(config, VARIANTS.get(arm, []))
    return config.model_copy(update={"output_dir": str(folder)})


def measured(assembly: Assembly, sampler: Sampler, seed: int) -> Row:
    """Purchases and violations on held-out scenarios, by scenario."""
    played: Evaluation = asyncio.run(
        evaluate(assembly.exam, sampler, num_scenarios=HELD_OUT, seed=seed)
    )
    outcomes = [trajectory.outcome for trajectory in played.trajectories]
    names = sorted({name for outcome in outcomes for name in outcome.parts})
    return {
        "purchase": float(np.mean([outcome.score for outcome in outcomes])),
        "turns": float(np.mean([len(t.turns) for t in played.trajectories])),
        **{name: float(np.mean([o.parts.get(name, 0.0) for o in outcomes])) for name in names},
    }


def folder_of(runs: Path, arm: str, seed: int) -> Path:
    """Where an iteration of the study lives."""
    return runs / f"{arm}_{seed}"


def of_iteration(runs: Path, arm: str, seed: int) -> Iterator[Row]:
    """The policy that stood after each round, and the start."""
    folder = folder_of(runs, arm, seed)
    config = settings(seed, arm, folder)
    if arm != "iterate" and not folder.exists():
        shared = "round_*" if arm == "ungated" else "round_000"  # the rest is the same until then
        for done in folder_of(runs, "iterate", seed).glob(shared):
            shutil.copytree(done, folder / done.name)
    refused = ""
    try:
        iterate(workshop(config, folder, Silent()))
    except GateError as error:
        refused = str(error)
    assembly = assemble(as_run(config), Silent())
    for number in range(config.rounds + 1):
        weights, facts = _standing(folder, number)
        learner = policy_of(assembly.backend, config, f"round_{number}", weights)
        yield {"round": number, **facts, **measured(assembly, learner.publish(), seed)}
    if refused:
        yield {"round": config.rounds, "refused": refused}


def _standing(folder: Path, number: int) -> tuple[Path | None, Row]:
    """Weights of the policy that stood after `number` rounds, and what that round saw."""
    weights, facts = None, Row()
    for done in range(number):
        path = folder / f"round_{done:03d}"
        if not (path / "round" / "round.json").is_file():
            break
        standing = read_facts(path / "round" / "round.json")
        weights = folder / str(standing["policy"]) if standing["policy"] else None
        tries = [read_facts(one / "improvement.json") for one in sorted(path.glob("improve_*"))]
        rulings = [read_facts(one / "confirm.json") for one in sorted(path.glob("confirm_*"))]
        gate = read_facts(path / "gate" / "gate.json")
        facts = {
            "rulings": [one["verdict"] for one in rulings],
            "kl": [one["kl"] for one in tries],
            "gain_a": [one["gain_a"] for one in tries],
            "gain_b": [one["gain_b"] for one in tries],
            "confirmed": [one["difference"]["mean"] for one in rulings],  # type: ignore[index]  # JSON
            "stops": [one["reason"] for one in tries],
            "is_open": gate["is_open"],
        }
    return weights, facts


def of_rloo(runs: Path, arm: str, seed: int) -> Iterator[Row]:
    """Trajectory-level RLOO on as many dialogues, played with the simulator."""
    with tempfile.TemporaryDirectory() as place:
        config = settings(seed, "rloo", Path(place) / "run")
        dialogues = config.rounds * config.collect.conversations
        steps = round(dialogues / 128)
        run = with_overrides(
            as_run(config), [*RLOO, f"train.max_steps={steps}", *TRIED.get(arm, [])]
        )
        jobs.train(run.model_copy(update={"output_dir": config.output_dir}))
        assembly, learners = ready(config.output_dir, None, None)
        yield {"round": config.rounds, **measured(assembly, learners.sampler, seed)}


def of_cloning(runs: Path, arm: str, seed: int) -> Iterator[Row]:
    """Three rounds of imitating the conversations of the newest policy that ended in a purchase."""
    config = settings(seed, "cloning", Path("unused"))
    assembly = assemble(as_run(config), Silent())
    world = TaskWorld(assembly.stage, config.collect, 1, seed)
    learner = policy_of(assembly.backend, config, "policy", None)
    chat: ChatFormat = assembly.stage.chat
    for number in range(config.rounds):
        logs = world.collect(number, learner.publish(), f"bc{number}")
        best = [one.conversation for one in logs if one.outcome and one.outcome.value >= 1]
        batch = supervised_batch(best, chat, max_tokens=config.rollout.max_conversation_tokens)
        imitate(
            learner, batch, seed=seed, limits=pass_limits(as_run(config)), observer=Silent(),
            **{**CLONING, **TRIED_CLONING.get(arm, {})},  # type: ignore[arg-type]  # numbers of two kinds
        )  # fmt: skip
        yield {
            "round": number + 1,
            "kept": len(best),
            **measured(assembly, learner.publish(), seed),
        }


def of_best_of_n(runs: Path, arm: str, seed: int) -> Iterator[Row]:
    """pi0 with the best of 2 and of 8 replies under round 0's Q_A."""
    config = settings(seed, arm, Path("unused"))
    assembly = assemble(as_run(config), Silent())
    fitted = folder_of(runs, "iterate", seed) / "round_000" / "fit"
    fit = load_cross_fit(assembly.backend, assembly.stage.chat, config.q, fitted)
    pi0 = policy_of(assembly.backend, config, "pi0", None).publish()
    for n in (2, 8):
        yield {"round": 1, "n": n, **measured(assembly, BestOfNSampler(pi0, fit.a, n), seed)}


def one_run(runs: Path, arm: str, seed: int) -> list[Row]:
    """All policies of one arm and seed."""
    torch.set_num_threads(1)
    found = {"rloo": of_rloo, "cloning": of_cloning, "best-of-n": of_best_of_n}
    kind = next((name for name in found if arm.startswith(name)), "")
    rows = found.get(kind, of_iteration)(runs, arm, seed)
    return [{"arm": arm, "seed": seed, **row} for row in rows]


def run(out: Path, runs: Path, arms: list[str], seeds: list[int], workers: int) -> None:
    """Appends the rows of every arm and seed that is not there."""
    there = {(row["arm"], row["seed"]) for row in _rows(out)}
    wanted = [(runs, a, seed) for a in arms for seed in seeds if (a, seed) not in there]
    with ProcessPoolExecutor(workers) as pool:
        for rows in pool.map(one_run, *zip(*wanted, strict=True)) if wanted else ():
            with out.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
            print(json.dumps(rows[-1]), flush=True)


def _rows(out: Path) -> list[Row]:
    return [json.loads(line) for line in out.read_text().splitlines()] if out.is_file() else []


def table(out: Path) -> None:
    """Each arm by round: mean over seeds with a 95 % t interval, and violations."""
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in _rows(out):
        if "purchase" in row:
            label = f"{row['round']}" + (f" (n = {row['n']})" if "n" in row else "")
            cells.setdefault((str(row["arm"]), label), []).append(row)
    start = {row["seed"]: _float(row, "purchase") for row in cells[("iterate", "0")]}
    print("| arm | round | seeds | purchase | gain over pi0 | false claims | pestering |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for (arm, label), rows in cells.items():
        gains = [_float(r, "purchase") - start[r["seed"]] for r in rows if r["seed"] in start]
        rates = interval([_float(row, "purchase") for row in rows])
        broken = [
            f"{np.mean([_float(row, f'violation/{name}') for row in rows]):.3f}"
            for name in ("false_claim", "pestering")
        ]
        print(
            "| " + " | ".join([arm, label, str(len(rows)), rates, interval(gains), *broken]) + " |"
        )


def _float(row: Row, name: str) -> float:
    return float(str(row.get(name, 0.0)))


def interval(values: list[float]) -> str:
    """Mean with a 95 % t interval over seeds."""
    if len(values) < 2:
        return f"{np.mean(values):.3f}" if values else "-"
    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{np.mean(values):.3f} ({np.mean(values) - half:.3f} to {np.mean(values) + half:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", default=["iterate", "rloo", "cloning", "best-of-n"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--runs", type=Path, default=Path("runs/study"))
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    if given.what == "run":
        given.out.parent.mkdir(parents=True, exist_ok=True)
        run(given.out, given.runs, given.arms, given.seeds, given.workers)
    else:
        table(given.out)


if __name__ == "__main__":
    main()
