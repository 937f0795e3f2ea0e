"""Does a policy learn to sell: a tiny model from whole dialogues, a table from either credit."""

import math
import random
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from turnwise.cli import jobs
from turnwise.cli.settings import load_config
from turnwise.records import to_toml
from turnwise.tasks.sell import SellGame
from turnwise.tasks.sell_knobs import PRESETS
from turnwise.tasks.sell_rules import PENDING, View
from turnwise.tasks.sell_sellers import OFFER, Plan

SETTINGS: dict[str, dict[str, object]] = {
    "task": {"name": "sell"},
    "method": {"credit": "trajectory", "estimator": "rloo"},
    "train": {
        "max_steps": 12,
        "num_mini_batches": 2,
        "learning_rate": 3e-3,
    },
    "eval": {"every": 0},
}


def test_twelve_steps_of_rloo_raise_purchases_without_more_violations(tmp_path: Path) -> None:
    path = tmp_path / "sell.toml"
    path.write_text(to_toml({"num_threads": 1, "output_dir": str(tmp_path / "run"), **SETTINGS}))
    summary = jobs.train(load_config(path, [])).summary
    start, end, paired = (summary[name] for name in ("start", "end", "comparison"))
    assert isinstance(start, dict) and isinstance(end, dict) and isinstance(paired, dict)
    # 128 scenarios, an error of .04; over 2,000 the start was .28.
    assert 0.12 < start["score/mean"] < 0.42
    assert end["score/mean"] > 1.5 * start["score/mean"]
    assert paired["score"]["low"] > 0.15
    for name in ("violation/false_claim", "violation/pestering"):
        assert paired[name]["high"] < 0.2


GAME = SellGame(PRESETS["credit-hard"])
PLANS = [
    *(Plan("ask", need) for need in range(len(GAME.needs))),
    *(OFFER, OFFER._replace(is_careless=True), OFFER._replace(is_false=True)),
    *(Plan("explain"), Plan("discount"), Plan("wait"), Plan("chat")),
]
P, G, RATE = 16, 8, 0.1

Choice = tuple[str, list[float], int]  # where, with which chances, what


@dataclass
class Table:
    """A softmax policy: one row of logits for what a seller can tell apart."""

    dice: random.Random
    logits: dict[str, list[float]] = field(default_factory=dict)

    def choice(self, view: View) -> Choice:
        pending = view.reaction if view.reaction in PENDING else ""
        row = repr((view.known, view.trust, pending, view.is_shown, view.is_discounted))
        logits = self.logits.setdefault(row, [0.0] * len(PLANS))
        weights = [math.exp(logit - max(logits)) for logit in logits]
        chances = [weight / sum(weights) for weight in weights]
        return row, chances, self.dice.choices(range(len(PLANS)), chances)[0]

    def learn(self, choices: list[Choice], advantages: list[float]) -> None:
        """One step up the policy gradient, advantages scaled to unit size."""
        scale = statistics.fmean(a * a for a in advantages) ** 0.5 or 1.0
        for (row, chances, chosen), advantage in zip(choices, advantages, strict=True):
            for plan, chance in enumerate(chances):
                self.logits[row][plan] += RATE * advantage / scale * ((plan == chosen) - chance)


def play(table: Table, scenario_seed: int) -> tuple[list[Choice], list[float], float, float]:
    """Choices, exact credits, drawn outcome and noise-free outcome of a dialogue."""
    scenario = GAME.scenario(f"sell-{scenario_seed}", scenario_seed)
    noise = table.dice.randrange(2**40)
    key = (scenario.id, scenario.seed, noise)
    state, choices = GAME.start(scenario), []
    worth = [GAME.value(scenario, state)]
    while not state.view.is_over:
        choices.append(table.choice(state.view))
        text = GAME.text(scenario, state.view, PLANS[choices[-1][2]], (*key, state.view.turn))
        state = GAME.hear(scenario, state, text, key)
        worth.append(GAME.value(scenario, state))
    credit = [after - before for before, after in zip(worth, worth[1:], strict=False)]
    recall = GAME.recall(scenario, state)
    return choices, credit, float(table.dice.random() < recall), recall


def recalls(has_truth: bool, seed: int, steps: int) -> list[float]:
    """Mean noise-free outcome of each step's dialogues, learned from exact or whole-dialogue
    credit."""
    table, curve = Table(random.Random(seed)), []
    for _ in range(steps):
        choices: list[Choice] = []
        advantages: list[float] = []
        played = []
        for _ in range(P):
            group = [play(table, scenario) for scenario in [table.dice.randrange(2**30)] * G]
            mean = statistics.fmean(score for _, _, score, _ in group)
            played += group
            for made, credit, score, _ in group:
                choices += made
                advantages += credit if has_truth else [score - mean] * len(made)
        table.learn(choices, advantages)
        curve.append(statistics.fmean(recall for *_, recall in played))
    return curve


def test_on_credit_hard_the_truth_per_turn_is_worth_several_times_the_dialogues() -> None:
    # Found, seeds 0 and 1: .56 and .49 after 25 steps of the truth, .38 and .29 after 50 of whole
    # dialogues. The best honest seller reaches .61.
    truth = [statistics.fmean(recalls(True, seed, 25)[-5:]) for seed in (0, 1)]
    whole = [statistics.fmean(recalls(False, seed, 50)[-5:]) for seed in (0, 1)]
    assert min(truth) > max(whole) + 0.05
    assert min(whole) > 0.2  # which learns as well
