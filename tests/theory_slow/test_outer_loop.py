"""What fresh and pooled logs, targets and KL budgets do to five rounds with samples.

Shapes, no golden numbers: standard errors are about .03, and another sensible estimator moves a
cell by .1.
"""

from functools import cache

import numpy as np

from tests.theory.mdp import reply_policy, token_policy, toy
from tests.theory_slow.sampled import Estimator, fqe, monte_carlo, outer_loop, weighted

COLUMNS: dict[str, tuple[Estimator, bool]] = {
    "fresh MC": (monte_carlo, False),
    "pooled MC": (monte_carlo, True),
    "pooled FQE": (fqe, True),
    "pooled, weights": (weighted, True),
    "fresh FQE": (fqe, False),
}
CELLS = [(count, budget) for count in (200, 1000) for budget in (0.1, 0.5, 2.0)]
Table = dict[tuple[str, int, float], tuple[float, float]]


@cache
def table() -> Table:
    """Share of J* − J(π_0) closed and share of rounds in which J fell, of each cell."""
    found: Table = {}
    for name, (estimator, is_pooled) in COLUMNS.items():
        for count, budget in CELLS:
            closed, fell = [], []
            for i in range(20):
                mdp = toy(i // 2, 0.95)
                j = outer_loop(
                    mdp,
                    reply_policy(token_policy(100 + i)),
                    estimator,
                    is_pooled=is_pooled,
                    conversations=count,
                    budget=budget,
                    rounds=5,
                    seed=i,
                )
                closed.append((j[-1] - j[0]) / (mdp.j(mdp.best()[1]) - j[0]))
                fell.append(np.mean(np.diff(j) < -0.005))
            found[name, count, budget] = float(np.mean(closed)), float(np.mean(fell))
    return found


def test_fqe_on_all_logs_closes_more_than_monte_carlo_on_the_newest() -> None:
    better = [table()["pooled FQE", *cell][0] - table()["fresh MC", *cell][0] for cell in CELLS]
    assert np.mean(better) > 0.03


def test_importance_weights_do_worst_at_a_large_kl() -> None:
    for count in (200, 1000):
        closed = {name: table()[name, count, 2.0][0] for name in COLUMNS}
        assert min(closed, key=lambda name: closed[name]) == "pooled, weights"


def test_a_large_kl_regresses_more_often_whatever_the_targets() -> None:
    for name in COLUMNS:
        fell = {b: table()[name, 200, b][1] + table()[name, 1000, b][1] for b in (0.1, 2.0)}
        assert fell[2.0] > fell[0.1]


def test_on_fresh_logs_half_a_nat_closes_more_than_two() -> None:
    for count in (200, 1000):
        assert table()["fresh MC", count, 0.5][0] > table()["fresh MC", count, 2.0][0]


def test_at_a_tenth_of_a_nat_hardly_a_round_regresses() -> None:
    for name in COLUMNS.keys() - {"pooled, weights"}:
        for count in (200, 1000):
            assert table()[name, count, 0.1][1] <= 0.03
