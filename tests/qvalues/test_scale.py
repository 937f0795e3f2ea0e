import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from turnwise.errors import ConfigError, FlatRewardError
from turnwise.qvalues import pessimistic, reward_in_space, reward_scale


def test_pessimism_by_hand() -> None:
    # heads 0.2 and 0.6: mean 0.4, std 0.2; agreeing heads lose nothing
    q_EN = tensor([[0.2, 0.5], [0.6, 0.5]])
    assert_close(pessimistic(q_EN, kappa=0.0), tensor([0.4, 0.5]))
    assert_close(pessimistic(q_EN, kappa=1.5), tensor([0.1, 0.5]))
    with pytest.raises(ConfigError, match="pessimism"):
        pessimistic(q_EN, kappa=-1.0)


def test_rewards_are_differences_of_values_or_of_log_odds() -> None:
    q_N, v_N = tensor([0.8, 1.0]), tensor([0.5, 0.5])
    assert_close(reward_in_space(q_N, v_N, space="probability", low=0, high=1), tensor([0.3, 0.5]))
    # ln 4 − ln 1, and the end of the range is taken for 1 − 10⁻⁴: ln 9999
    found_N = reward_in_space(q_N, v_N, space="logit", low=0, high=1)
    assert_close(found_N, tensor([math.log(4), math.log(9999)]), atol=1e-3, rtol=0)
    # Returns from −1 to 3: 2.2 and 1 are the shares 0.8 and 0.5 of it.
    wide_N = reward_in_space(tensor([2.2]), tensor([1.0]), space="logit", low=-1, high=3)
    assert_close(wide_N, tensor([math.log(4)]))


def test_the_scale_is_the_spread_of_the_rewards() -> None:
    excess_N = tensor([0.1, 0.3])  # mean 0.2, each 0.1 away from it
    assert reward_scale(excess_N, excess_N, low=0, high=1) == pytest.approx(0.1)
    assert reward_scale(excess_N, 10 * excess_N, low=0, high=1) == pytest.approx(1.0)


@pytest.mark.parametrize("high", [1.0, 50.0])
def test_a_q_that_tells_no_reply_from_another_is_refused(high: float) -> None:
    barely_N = high * tensor([0.0, 0.0021])  # a spread of 0.00105 of the range
    assert reward_scale(barely_N, barely_N, low=0, high=high) > 0
    for flat_N in (high * tensor([0.0, 0.0019]), torch.full((5,), 0.3)):
        with pytest.raises(FlatRewardError, match="G1 of the gate"):
            reward_scale(flat_N, flat_N, low=0, high=high)
