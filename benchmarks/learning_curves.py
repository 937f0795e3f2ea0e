"""Does InfoPO learn sooner than GRPO where most groups have no spread of outcomes?

Two settings of `clarify` medium, each with both methods from one and the same start:

    early   all-or-nothing outcome, weaker warm start: in about 70 % of the first groups every
            sibling fails, so that group-relative training learns nothing from them
    medium  the graded outcome of the demo, where every group has a spread

    python benchmarks/learning_curves.py run --setting early --out docs/results/early.jsonl
    python benchmarks/learning_curves.py table --out docs/results/early.jsonl --figure early.svg

A third method, `shuffled`, is InfoPO with the gains of each step dealt anew to its eligible turns:
it has everything but the information.

`run` appends one line a run and skips those that are there. The placeholder was chosen among two on
seeds 100 and 101; everything else is the demo's, the same for both methods.
"""

import argparse
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from turnwise.cli import jobs
from turnwise.cli.settings import load_config
from turnwise.records import read_metrics, rows_of
from turnwise.tokens import TurnBatch
from turnwise.training import gather
from turnwise.training.evidence import InfoScores

RECIPE = Path(__file__).parent.parent / "recipes" / "clarify_infopo.toml"
CONTROL = "shuffled"  # infopo, each step's gains dealt anew to its eligible turns
METHODS = {
    "grpo": ["method.credit=trajectory", "method.scaling=none", "method.length_penalty=0.0"],
    "infopo": [],
    CONTROL: [],
}
SETTINGS = {
    "early": [
        "task.knobs.outcome_noise=all_or_nothing", "model.hidden_size=128",
        "warm_start.demonstrations=2000", "warm_start.epochs=3",
    ],
    "medium": [],
}  # fmt: skip
KEPT = {
    "success": "outcome/success",
    "zero_variance": "group/zero_variance_frac",
    "share": "info/share",
    "spearman_gain": "truth/spearman_gain/infopo",
    "spearman_oracle": "truth/spearman_oracle/infopo",
}
BLOCK = 5  # steps that a row of the table averages over


def _deal_gains_anew() -> None:
    """From here on a turn's gain in this process is that of any eligible turn of the step."""
    honest = gather.score_information

    def dealt(*given: Any, **named: Any) -> tuple[TurnBatch, InfoScores]:
        batch, scores = honest(*given, **named)
        asked_BK = scores.is_eligible_BK
        noise = torch.Generator().manual_seed(int(batch.token_BT.sum()))
        order = torch.randperm(int(asked_BK.sum()), generator=noise)
        gain_BK = scores.gain_BK.clone()
        gain_BK[asked_BK] = scores.gain_BK[asked_BK][order]
        return batch, replace(scores, gain_BK=gain_BK)

    gather.score_information = dealt  # the library has no setting for what only a control needs


def one_run(setting: str, method: str, seed: int) -> dict[str, object]:
    """Trains once; keeps the curves of training and the held-out success at both ends."""
    if method == CONTROL:
        _deal_gains_anew()
    with tempfile.TemporaryDirectory() as folder:
        quiet = ["num_threads=1", "train.save_steps=100000", "train.save_trajectories_steps=100000"]
        given = [*quiet, "eval.every=0", *SETTINGS[setting], *METHODS[method]]
        config = load_config(RECIPE, [*given, f"seed={seed}", f"output_dir={folder}/run"])
        result = jobs.train(config)
        rows = rows_of(read_metrics(result.run_folder / "metrics.jsonl"), "train")
    start, end = result.summary["start"], result.summary["end"]
    assert isinstance(start, dict) and isinstance(end, dict)
    curves = {
        name: [round(float(str(row[key])), 4) for row in rows if key in row]
        for name, key in KEPT.items()
    }
    ends = {"start": start["success/mean"], "end": end["success/mean"]}
    return {"setting": setting, "method": method, "seed": seed, **ends, **curves}


def run(out: Path, setting: str, seeds: list[int], workers: int) -> None:
    done = {(row["method"], row["seed"]) for row in _rows(out)}
    out.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, max_tasks_per_child=1) as pool:  # a control stays alone
        running = [
            pool.submit(one_run, setting, method, seed)
            for seed in seeds
            for method in METHODS
            if (method, seed) not in done
        ]
        for one in running:
            row = one.result()
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(row["method"], row["seed"], row["start"], row["end"], flush=True)


def _rows(out: Path) -> list[dict[str, object]]:
    if not out.exists():
        return []
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def _curves(out: Path, name: str) -> dict[str, np.ndarray]:
    """method -> seeds × steps, the same seeds for all methods that were run."""
    rows = {(str(row["method"]), int(str(row["seed"]))): row for row in _rows(out)}
    methods = [m for m in METHODS if any(m == method for method, _ in rows)]
    seeds = sorted(set.intersection(*({s for m, s in rows if m == method} for method in methods)))
    return {m: np.array([rows[m, s][name] for s in seeds], dtype=float) for m in methods}


def _interval(value_N: np.ndarray) -> str:
    drawn = np.random.default_rng(0).integers(len(value_N), size=(4000, len(value_N)))
    low, high = np.quantile(value_N[drawn].mean(axis=1), [0.025, 0.975])
    return f"{value_N.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def table(out: Path, figure: Path | None) -> None:
    """Success in training by blocks of steps, paired differences with a bootstrap over seeds."""
    success, end = _curves(out, "success"), _curves(out, "end")
    alike = np.array([row["zero_variance"] for row in _rows(out) if row["method"] == "grpo"])
    others = [method for method in success if method != "infopo"]
    head = ["steps", "no spread (grpo)", *success, *(f"infopo − {method}" for method in others)]
    print(f"{len(success['grpo'])} seeds\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    steps = success["grpo"].shape[1]
    for a, b in [*((a, a + BLOCK) for a in range(0, steps, BLOCK)), (0, steps)]:
        means = {method: rows[:, a:b].mean(axis=1) for method, rows in success.items()}
        print(f"| {a + 1}–{b} | {alike[:, a:b].mean():.2f} | {_cells(means, others)} |")
    print(f"| held out, end | | {_cells(end, others)} |")
    if figure is not None:
        figure.write_text(_figure(success), encoding="utf-8")


def _cells(mean_N: dict[str, np.ndarray], others: list[str]) -> str:
    shown = [f"{value_N.mean():.3f}" for value_N in mean_N.values()]
    shown += [_interval(mean_N["infopo"] - mean_N[method]) for method in others]
    return " | ".join(shown)


def _figure(success: dict[str, np.ndarray]) -> str:
    """Mean success of three neighbouring steps, with the 95 % interval over seeds, as SVG."""
    width, height, left, top, bottom = 640, 320, 48, 28, 36
    colours = {"grpo": "#b45309", "infopo": "#1d4ed8", CONTROL: "#6b7280"}
    smooth = {
        m: np.apply_along_axis(np.convolve, 1, rows, np.ones(3) / 3, mode="valid")
        for m, rows in success.items()
    }
    steps = next(iter(smooth.values())).shape[1]
    bounds = {m: _bounds(rows) for m, rows in smooth.items()}
    most = max(float(high.max()) for _, high in bounds.values())

    def points(value_S: np.ndarray) -> list[str]:
        x_S = left + np.arange(steps) * (width - left - 8) / (steps - 1)
        y_S = height - bottom - value_S / most * (height - bottom - top)
        return [f"{x:.1f},{y:.1f}" for x, y in zip(x_S, y_S, strict=True)]

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="sans-serif" font-size="12"><title>Success in training by step</title>'
        f'<rect width="{width}" height="{height}" fill="white"/>'
        f'<text x="{width / 2}" y="{height - 4}" text-anchor="middle">training step</text>'
        f'<text x="4" y="14">success, mean of 3 steps, 95 % interval over seeds</text>'
    ]
    for i, share in enumerate((0.0, 0.5, 1.0)):
        y = height - bottom - share * (height - bottom - top)
        step = 2 + round(i * (steps - 1) / 2)
        x = left + i * (width - left - 8) / 2
        parts += [
            f'<line x1="{left}" x2="{width - 8}" y1="{y}" y2="{y}" stroke="#d1d5db"/>',
            f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{share * most:.2f}</text>',
            f'<text x="{x}" y="{height - bottom + 16}" text-anchor="middle">{step}</text>',
        ]
    for i, (method, rows) in enumerate(smooth.items()):
        low, high = bounds[method]
        area = " ".join([*points(low), *reversed(points(high))])
        parts += [
            f'<polygon points="{area}" fill="{colours[method]}" fill-opacity="0.18"/>',
            f'<polyline points="{" ".join(points(rows.mean(axis=0)))}" fill="none" '
            f'stroke="{colours[method]}" stroke-width="2"/>',
            f'<text x="{left + 12}" y="{top + 18 + 16 * i}" fill="{colours[method]}">{method}'
            "</text>",
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bounds(value_NS: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    drawn = np.random.default_rng(0).integers(len(value_NS), size=(4000, len(value_NS)))
    low_S, high_S = np.quantile(value_NS[drawn].mean(axis=1), [0.025, 0.975], axis=0)
    return low_S, high_S


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("do", choices=["run", "table"])
    parser.add_argument("--setting", choices=list(SETTINGS), default="early")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--figure", type=Path, help="where to write the curves as SVG")
    given = parser.parse_args()
    if given.do == "run":
        run(given.out, given.setting, list(range(given.seeds)), given.workers)
    table(given.out, given.figure)


if __name__ == "__main__":
    main()
