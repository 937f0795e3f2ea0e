"""How near the advantages come to the truth while the PRM grows up, and when it is overtrained."""

import statistics

import pytest

from tests.learning.toy_t_table import (
    REQUIRED,
    REQUIRED_ORDER_ACCURACY,
    STOPS,
    cosines,
    order_accuracies,
)

TOLERANCE = 0.10
MAX_DEVIATION = 0.05  # over seeds


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("stop", STOPS)
def test_cosine_with_the_ideal_advantage(name: str, stop: int) -> None:
    found = cosines(stop, name)
    assert statistics.mean(found) == pytest.approx(REQUIRED[name][STOPS.index(stop)], abs=TOLERANCE)
    assert statistics.stdev(found) <= MAX_DEVIATION


@pytest.mark.parametrize(("stop", "least"), REQUIRED_ORDER_ACCURACY.items())
def test_order_accuracy_on_fresh_dialogues(stop: int, least: float) -> None:
    assert min(order_accuracies(stop)) >= least


def test_blaming_the_worst_turn_is_nearest_to_the_truth_while_the_prm_is_young() -> None:
    norm_forms = [name for name in REQUIRED if name.startswith("Norm")]
    for stop in (10, 25):
        mean_of = {name: statistics.mean(cosines(stop, name)) for name in norm_forms}
        assert max(mean_of, key=mean_of.__getitem__) == "Norm signed, direct"


def test_calibration_mends_what_overtraining_breaks() -> None:
    raw = statistics.mean(cosines(200, "implicit value raw, λ .5"))
    assert statistics.mean(cosines(200, "calibrated, λ .5")) > raw + 0.3
