"""A run folder as training would leave it, made up: what a report is tried on.

The numbers follow a plausible story (a policy that learns to ask before it acts, a reward model
that gains trust) and have noise; nothing is trained.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from turnwise.conversation import Ending, Message, Outcome, Trajectory, Turn, Usage
from turnwise.evaluation import paired_difference
from turnwise.records import (
    Record,
    RunFolder,
    append_metrics,
    open_run_folder,
    write_text_atomically,
    write_trajectories,
)

SLOTS = (("day", "friday"), ("size", "4 people"), ("food", "thai"))
NUM_STEPS, NUM_SCENARIOS, NUM_TURNS = 60, 128, 4


def fake_run(
    path: Path,
    *,
    seed: int = 0,
    opening: str = "please book a table",
    is_studied: bool = True,
) -> RunFolder:
    """A finished run of 60 steps with evaluations every 10, dialogues and a comparison.

    is_studied: with information gains, a critic, and credit compared with the truth.
    """
    rng = np.random.default_rng(seed)
    folder = open_run_folder(path)
    folder.write_config({"seed": seed, "task": {"name": "clarify", "preset": "medium"}})
    folder.write_env(seed)
    solved_at = {0: 0.2, 10: 0.27, 20: 0.38, 30: 0.46, 40: 0.5, 50: 0.56, NUM_STEPS: 0.6}
    start: list[Record] = []
    luck_N = rng.random(NUM_SCENARIOS)
    for step in range(NUM_STEPS + 1):
        if step:
            row = train_row(rng, step)
            append_metrics(folder.metrics, row | study_row(step) if is_studied else row)
        if step in solved_at:
            records = [
                dialogue(rng, i, step, luck < solved_at[step], opening)
                for i, luck in enumerate(luck_N)
            ]
            append_metrics(folder.metrics, eval_row(step, records))
            write_evaluation(folder, step, records)
            if step in (0, NUM_STEPS):
                write_trajectories(folder.evaluation_dialogues(step), records)
            start = start or records
    siblings = [dialogue(rng, g // 4, NUM_STEPS, g % 3 == 0, opening, "train") for g in range(16)]
    siblings = [measured_turns(record) for record in siblings] if is_studied else siblings
    write_trajectories(folder.training_dialogues(NUM_STEPS), siblings)
    compare(folder, start, records)
    return folder


def train_row(rng: np.random.Generator, step: int) -> dict[str, float | int | str | None]:
    done = 1 - np.exp(-step / 25)
    noise = rng.normal(0, 1, 12)
    row: dict[str, float | int | str | None] = {
        "kind": "train",
        "step": step,
        "reward/mean": 0.25 + 0.35 * done + 0.03 * noise[0],
        "reward/std": 0.3,
        "turns/mean": 2.1 + 0.9 * done + 0.1 * noise[1],
        "tokens/mean": 12 + 6 * done + 0.4 * noise[2],
        "user/errors": 1 if step == 17 else 0,
        "group/zero_variance_frac": 0.3 - 0.15 * done + 0.02 * noise[3],
        "prm/bce_before": 0.62 - 0.16 * done + 0.01 * noise[4],
        "prm/bce_after": 0.58 - 0.2 * done + 0.01 * noise[5],
        "prm/bce_base_rate": 0.6 + 0.06 * done,
        "prm/order_accuracy": 0.5 + 0.25 * done + 0.03 * noise[6],
        "prm/trust": float(np.clip((0.5 + 0.25 * done - 0.55) / 0.1, 0, 1)),
        "prm/bias": -1.2 + 0.8 * done,
        "kl/reference": 0.05 * done + 0.002 * abs(noise[7]),
        "kl/rollout_vs_train": 1e-4 * abs(noise[8]),
        "entropy": 1.4 - 0.6 * done + 0.02 * noise[9],
        "policy/clip_frac": 0.03 + 0.01 * abs(noise[10]),
        "policy/grad_norm": 0.5 + 0.1 * abs(noise[11]),
        "loss/policy": 0.0,
        "stop/farewell": 0.1,
        "stop/task_done": 0.5 + 0.25 * done,
        "stop/turn_limit": 0.38 - 0.27 * done,
        "stop/token_limit": 0.02 - 0.01 * done,
        "stop/speaker_failed": 0.0,
        "time/rollout": 1.4,
        "time/credit": 0.1,
        "time/update": 0.9,
        "time/prm": 0.5,
        "tokens/s": 9000.0,
        "warnings": f"{30 - step} % of the groups had no variance" if step < 4 else "",
    }
    for k in range(NUM_TURNS):
        row[f"turns/reward/{k}"] = (0.15 - 0.03 * k) * done + 0.02 * rng.normal()
        row[f"turns/advantage_abs/{k}"] = 0.2 + (0.3 - 0.1 * k) * done + 0.02 * rng.normal()
        row[f"prm/turn_drift/{k}"] = (0.02 * k - 0.01) * done + 0.003 * rng.normal()
        row[f"credit/itpo-norm/turn/{k}"] = 0.25 + (0.15 - 0.1 * k) * done + 0.02 * rng.normal()
    return row


def study_row(step: int) -> dict[str, float | int | str | None]:
    """Gains move to the first turns; turn 3 gains nothing at step 5, turn 4 is late to be seen."""
    rng, done = np.random.default_rng([7, step]), 1 - np.exp(-step / 25)
    row: dict[str, float | int | str | None] = {
        "info/share": 0.12 - 0.04 * done + 0.005 * rng.normal(),
        "info/gain_mean": 0.12 + 0.05 * done + 0.01 * rng.normal(),
        "info/gate_mean": 0.35 + 0.02 * rng.normal(),
        "info/groups_scored_frac": 0.9,
        "info/negative_frac": 0.2 - 0.1 * done + 0.02 * rng.normal(),
        "info/copied_share": 0.15 + 0.02 * rng.normal(),
        "critic/loss": 0.1 - 0.05 * done + 0.005 * rng.normal(),
        "critic/explained_variance": 0.5 * done + 0.05 * rng.normal(),
        "prm/stability_turns": 0.85 + 0.02 * rng.normal(),
        "prm/stability_tokens": 0.55 + 0.02 * rng.normal(),
        "prm/best_turn_agreement": 0.3 + 0.4 * done + 0.02 * rng.normal(),
        "prm/worst_turn_agreement": 0.3 + 0.3 * done + 0.02 * rng.normal(),
        "prm/best_turn_chance": 0.31,
        "prm/worst_turn_chance": 0.55,
    }
    for method, reached in {"infopo": 0.5, "itpo-norm": 0.7}.items():
        for truth in ("gain", "oracle"):
            agreement = reached * done + 0.03 * rng.normal()
            row[f"truth/spearman_{truth}/{method}"] = agreement
            row[f"truth/kendall_{truth}/{method}"] = 0.7 * agreement
    for k in range(NUM_TURNS):
        if k < 3 or step > 10:
            gain = (0.2 - 0.07 * k) * done - 0.03 + 0.02 * rng.normal()
            row[f"info/gain/{k}"] = 0.0 if (k, step) == (2, 5) else gain
            row[f"info/gain_count/{k}"] = 60 - 15 * k
    return row


def measured_turns(record: Record) -> Record:
    """The record as a training step with information gains leaves it."""
    num_asked = len(record.trajectory.turns) - 1
    return replace(
        record,
        measures={
            "infopo/gain": (*(0.25 / (k + 1) for k in range(num_asked)), None),
            "infopo/logp_factual": (*(-2.0 for _ in range(num_asked)), None),
            "truth/gain": (*(1.386 for _ in range(num_asked)), 0.0),
        },
        notes={
            "infopo/refusal": (*("" for _ in range(num_asked)), "last turn"),
            "infopo/fill": (*("gap" for _ in range(num_asked)), ""),
        },
        group_measures={"std_outcome": 0.5, "gate": 0.269},
    )


def dialogue(
    rng: np.random.Generator,
    scenario: int,
    step: int,
    is_solved: bool,
    opening: str,
    split: str = "",
) -> Record:
    num_asked = 3 if is_solved else int(rng.integers(0, 3))
    says = [("user", opening)]
    for slot, value in SLOTS[:num_asked]:
        says += [("assistant", f"which {slot} would you like?"), ("user", f"{value} please")]
    booked = ", ".join(value for _, value in SLOTS[:num_asked]) or "monday, 2 people"
    says.append(("assistant", f"booked: {booked}"))
    turns, edge = [], 6
    for role, text in says[1:]:
        if role == "assistant":
            size = len(text.split()) + 1
            logp = tuple((-rng.random(size, dtype=np.float32)).tolist())
            turns.append(Turn(edge, edge + size, logp, "stop"))
            edge += size
        edge += 4
    score = 1.0 if is_solved else round(num_asked / 6, 4)
    trajectory = Trajectory(
        scenario_id=f"clarify-medium-{scenario}",
        group_id=f"step{step}-scenario{scenario}",
        seed=1000 + scenario if split != "train" else int(rng.integers(2**40)),
        conversation=tuple(Message(role, text) for role, text in says),  # type: ignore[arg-type]  # two of the roles
        token_ids=tuple(range(edge)),
        turns=tuple(turns),
        outcome=Outcome(score, {"success": float(is_solved)}),
        ending=Ending.TASK_DONE if num_asked else Ending.TURN_LIMIT,
        policy_version=step,
        usage=Usage(40, edge, 0.1),
    )
    return Record(
        trajectory,
        step,
        "train" if split == "train" else "eval" if step else "start",
        credits(rng, len(turns), num_asked, is_solved),
        tuple(rng.normal(0.3 if is_solved else -0.3, 0.3, len(turns))) if split else (),
    )


def credits(
    rng: np.random.Generator, num_turns: int, num_asked: int, is_solved: bool
) -> dict[str, tuple[float, ...]]:
    oracle = [1 / 6] * num_asked + [0.5 if is_solved else -0.3]
    share = rng.dirichlet([2.0] * num_turns) * (1.0 if is_solved else 0.2)
    return {
        "itpo": tuple(0.05 * c + 0.004 * rng.normal() for c in oracle),
        "itpo-norm": tuple(float(s) for s in share),
        "oracle": tuple(oracle),
    }


def eval_row(step: int, records: list[Record]) -> dict[str, float | int | str | None]:
    row: dict[str, float | int | str | None] = {"kind": "eval", "step": step}
    for name, values in measured(records).items():
        half = 1.96 * float(np.std(values)) / np.sqrt(len(values))
        mean = float(np.mean(values))
        row |= {f"{name}/mean": mean, f"{name}/low": mean - half, f"{name}/high": mean + half}
    for ending in Ending:
        row[f"stop/{ending}"] = float(np.mean([r.trajectory.ending is ending for r in records]))
    return row | {"num_scenarios": len(records), "not_judged": 0}


def measured(records: list[Record]) -> dict[str, list[float]]:
    return {
        "score": [r.trajectory.outcome.score or 0.0 for r in records],
        "success": [r.trajectory.outcome.parts["success"] for r in records],
        "turns": [float(len(r.trajectory.turns)) for r in records],
        "tokens": [float(sum(t.stop - t.start for t in r.trajectory.turns)) for r in records],
    }


def write_evaluation(folder: RunFolder, step: int, records: list[Record]) -> None:
    scenarios = [
        {
            "id": r.trajectory.scenario_id,
            "sample": 0,
            "score": r.trajectory.outcome.score,
            "parts": dict(r.trajectory.outcome.parts),
        }
        for r in records
    ]
    found = {"step": step, "task": "clarify", "scenarios": scenarios}
    write_text_atomically(folder.evaluation(step), json.dumps(found))


def compare(folder: RunFolder, start: list[Record], end: list[Record]) -> None:
    before, after = measured(start), measured(end)
    scenario_N = [record.trajectory.scenario_id for record in start]
    found: dict[str, object] = {"num_scenarios": len(start), "step": NUM_STEPS}
    for name in before:
        gained = paired_difference(before[name], after[name], scenario_N, seed=0)
        found[name] = {"difference": gained.mean, "low": gained.low, "high": gained.high}
    write_text_atomically(folder.comparison, json.dumps(found))
