"""Which credits are added up, with which weights, and what each of them needs."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import settings as options
from hypothesis import strategies as st

from turnwise.training.config import (
    CreditName,
    InfoConfig,
    MethodConfig,
    RunConfig,
    Schedule,
)
from turnwise.training.terms import (
    asked_credits,
    credit_names,
    credit_weights,
    keeps_lone_outcomes,
    label,
    needs_critic,
    needs_prm,
    only,
    turn_lambda,
)

CREDIT_NAMES = get_args(CreditName)
INFO = InfoConfig()


def method(**keys: object) -> MethodConfig:
    return MethodConfig.model_validate(keys)


def test_infopo_alone_stands_on_the_outcome() -> None:
    alone = method(credit="infopo")
    assert credit_names(alone) == ("trajectory", "infopo")
    assert credit_weights(alone, INFO, 1) == {"trajectory": 1.0, "infopo": 0.5}
    assert label(alone) == "infopo"
    assert credit_names(method(credit={"infopo": 1.0})) == ("infopo",)


@pytest.mark.parametrize("name", sorted(set(CREDIT_NAMES) - {"infopo"}))
def test_one_credit_has_weight_one(name: CreditName) -> None:
    assert credit_weights(method(credit=name), INFO, 7) == {name: 1.0}
    assert (credit_names(method(credit=name)), label(method(credit=name))) == ((name,), name)


def test_a_sum_is_the_same_however_it_was_written() -> None:
    one = method(credit={"infopo": 0.3, "itpo-norm": 1.0, "trajectory": 0.5})
    other = method(credit={"trajectory": 0.5, "itpo-norm": 1.0, "infopo": 0.3})
    expected = {"trajectory": 0.5, "itpo-norm": 1.0, "infopo": 0.3}
    for summed in (one, other):
        assert list(credit_weights(summed, INFO, 1).items()) == list(expected.items())
        assert label(summed) == "trajectory+itpo-norm+infopo"


def test_in_a_sum_the_weight_of_infopo_is_the_sums_and_does_not_decay() -> None:
    summed = method(credit={"trajectory": 1.0, "infopo": 0.3})
    assert credit_weights(summed, InfoConfig(beta=0.9, decay=1.0), 5)["infopo"] == 0.3


def test_the_first_step_is_epoch_zero() -> None:
    alone, decaying = method(credit="infopo"), InfoConfig(decay=0.1)
    assert credit_weights(alone, decaying, 1)["infopo"] == 0.5
    # .5·exp(−.3) and .5·exp(−.6)
    assert credit_weights(alone, decaying, 4)["infopo"] == pytest.approx(0.3704, abs=1e-4)
    twice = InfoConfig(decay=0.1, decay_twice=True)
    assert credit_weights(alone, twice, 4)["infopo"] == pytest.approx(0.2744, abs=1e-4)


def scheduled(start: float, end: float, steps: int, step: int) -> float:
    moving = method(credit={"trajectory": Schedule(start=start, end=end, steps=steps)})
    return credit_weights(moving, INFO, step)["trajectory"]


def test_a_schedule_is_a_straight_line_and_then_stays() -> None:
    found = [scheduled(0.5, 0.1, 5, step) for step in range(1, 8)]
    assert found == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1])
    assert [scheduled(0.5, 0.1, 1, step) for step in (1, 2)] == [0.5, 0.1]


@given(
    start=st.floats(0, 10), end=st.floats(0, 10), steps=st.integers(1, 50), step=st.integers(1, 99)
)
@options(deadline=None, max_examples=60)
def test_a_schedule_never_leaves_its_ends(start: float, end: float, steps: int, step: int) -> None:
    low, high = sorted((start, end))
    assert low - 1e-12 <= scheduled(start, end, steps, step) <= high + 1e-12
    assert scheduled(start, end, steps, 99) == end
    assert scheduled(start, end, steps, 1) == start


def test_for_a_weight_of_zero_nobody_is_asked() -> None:
    falling = Schedule(start=0.5, end=0.0, steps=3)
    summed = method(credit={"trajectory": 1.0, "infopo": falling, "judge": 0.0})
    assert asked_credits(summed, INFO, 2) == {"trajectory", "infopo"}
    assert asked_credits(summed, INFO, 3) == {"trajectory"}
    assert asked_credits(method(credit="infopo"), InfoConfig(beta=0.0), 1) == {"trajectory"}


@pytest.mark.parametrize("name", CREDIT_NAMES)
def test_each_credit_of_a_sum_has_its_own_baseline(name: CreditName) -> None:
    summed = method(credit={"itpo": 1.0, "itpo-norm": 1.0})
    expected = {
        "itpo": "loo_turn_index",
        "prime": "loo_total",
        "value": "loo_turn_index",
        "lookahead": "own_turn",
        "oracle": "own_turn",
    }
    assert only(summed, name).baseline == expected.get(name, "redistribute")
    assert only(summed, name).credit == name
    assert only(method(credit=name, baseline="loo_total"), name).baseline == "loo_total"


def test_lambda_is_what_is_usual_for_the_estimator() -> None:
    assert turn_lambda(method(estimator="ppo")) == 0.95
    assert turn_lambda(method(estimator="implicit-value")) == 0.5
    assert turn_lambda(method(estimator="ppo", turn_lambda=0.0)) == 0.0


def run(**keys: object) -> RunConfig:
    return RunConfig.model_validate({"method": keys})


def test_models_are_made_for_the_methods_that_read_them() -> None:
    with_prm = {name for name in CREDIT_NAMES if needs_prm(run(credit=name))}
    assert with_prm == {"itpo", "itpo-norm", "prime"}
    assert needs_prm(run(credit="trajectory", estimator="implicit-value"))
    assert needs_prm(run(credit={"trajectory": 1.0, "itpo": 0.0}))  # it learns all the same
    assert {name for name in CREDIT_NAMES if needs_critic(run(credit=name))} == {"value"}
    assert needs_critic(run(credit="infopo", estimator="ppo"))
    assert needs_critic(run(credit={"trajectory": 1.0, "value": 0.5}))


def test_lone_outcomes_count_only_where_the_public_code_counts_them() -> None:
    raw = InfoConfig(group_of_one="raw")
    assert keeps_lone_outcomes(method(credit="infopo", estimator="grpo"), raw)
    assert keeps_lone_outcomes(method(credit={"infopo": 1.0}, estimator="grpo"), raw)
    assert not keeps_lone_outcomes(method(credit="infopo", estimator="grpo"), INFO)
    assert not keeps_lone_outcomes(method(credit="infopo", estimator="rloo"), raw)
    assert not keeps_lone_outcomes(method(credit="trajectory", estimator="grpo"), raw)
