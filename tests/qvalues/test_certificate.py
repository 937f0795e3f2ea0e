"""The certificate by hand, and what it refuses."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from turnwise.errors import ConfigError
from turnwise.qvalues import (
    error_half_spread,
    gain_bound,
    improvement_bound,
    is_certified,
    loss_bound,
    policy_distance,
    required_beta,
)


def test_the_methods_example_needs_a_beta_of_three_eighths() -> None:
    # 6·.05² / (4·.01) = .015/.04.
    assert required_beta(0.05, horizon=6, tolerance=0.01) == pytest.approx(0.375)
    assert required_beta(0.0, horizon=6, tolerance=0.01) == 0.0


def test_bounds_by_hand() -> None:
    x, h = tensor([0.2, 0.1, 0.0]), tensor([0.05, 0.05, 0.0])
    # .375·.04 − .05·.2 = .005;  .375·.01 − .005 = −.00125;  nothing moved: 0.
    assert_close(gain_bound(x, h, beta=0.375), tensor([0.005, -0.00125, 0.0]))
    # .05/.375 = .1333.
    assert is_certified(x, h, beta=0.375).tolist() == [True, False, True]
    # −.0025/1.5.
    assert_close(loss_bound(h, beta=0.375), tensor([-0.0016667, -0.0016667, 0.0]))


def test_the_bound_on_the_loss_is_the_lowest_bound_on_the_gain() -> None:
    x, h = torch.linspace(0, 2, 2001, dtype=torch.float64), tensor(0.3, dtype=torch.float64)
    assert_close(gain_bound(x, h, beta=0.4).min(), loss_bound(h, beta=0.4), atol=1e-6, rtol=0)


def test_a_policys_distance_and_an_errors_spread_by_hand() -> None:
    # Two replies that π gives alike; π' gives .8 and .2: |1.6 − 1|, |.4 − 1| → .6 = |.3| + |−.3|.
    log_ratio = tensor([[math.log(1.6), math.log(0.4)], [0.0, 0.0]])
    assert_close(policy_distance(log_ratio), tensor([0.6, 0.0]))
    # A common error costs nothing.
    assert_close(error_half_spread(tensor([[0.1, 0.3], [5.0, 5.0]])), tensor([0.1, 0.0]))


def test_the_bound_of_theorem_two_by_hand() -> None:
    # 1·(.5·.2 − .01 − .1) + .9·(.5·.4 − 0 − .05) = −.01 + .135.
    found = improvement_bound(
        tensor([1.0, 0.9]), tensor([0.2, 0.4]), tensor([0.01, 0.0]), tensor([0.1, 0.05]), beta=0.5
    )
    assert_close(found, tensor(0.125))


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan])
def test_without_a_penalty_nothing_is_certified(beta: float) -> None:
    x = torch.zeros(1)
    refusals: list[Callable[[], object]] = [
        lambda: gain_bound(x, x, beta=beta),
        lambda: is_certified(x, x, beta=beta),
        lambda: loss_bound(x, beta=beta),
        lambda: improvement_bound(x, x, x, x, beta=beta),
    ]
    for refused in refusals:
        with pytest.raises(ConfigError, match="expected beta > 0"):
            refused()


@pytest.mark.parametrize(("horizon", "tolerance"), [(0, 0.01), (6, 0.0)])
def test_a_tolerance_of_nothing_is_refused(horizon: float, tolerance: float) -> None:
    with pytest.raises(ConfigError):
        required_beta(0.05, horizon=horizon, tolerance=tolerance)
