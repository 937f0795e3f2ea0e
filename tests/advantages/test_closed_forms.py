"""What each estimator gives in situations small enough to solve: biases, units, silence."""

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.advantages import (
    RewardSource,
    leave_one_out,
    loo_total,
    loo_turn_index,
    masked_rloo,
    redistribute_direct,
    reward_to_go,
    same_for_all_turns,
    scale_by_rms,
    scale_turns_by_rms,
    turn_index_reward_centring,
    whiten_with_shift,
)
from turnwise.credit import shared_outcome, uniform_weights

Estimator = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
CONTINUE_PROBABILITY = 0.3


def turns(num_turns: list[int]) -> Tensor:
    """is_turn_BK for dialogues of so many turns."""
    return torch.arange(max(num_turns)) < tensor(num_turns).unsqueeze(1)


def one_group(size: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(size, dtype=torch.int64), torch.ones(size, dtype=torch.bool)


def published(reward_BK: Tensor, is_turn_BK: Tensor, group_B: Tensor, valid_B: Tensor) -> Tensor:
    """Turns of one token each, so that turns are tokens."""
    return masked_rloo([RewardSource(reward_BK, is_turn_BK)], is_turn_BK, group_B, valid_B)


def test_the_published_baseline_grows_with_the_number_of_turns() -> None:
    is_turn_BK = turns([1, 2, 4, 4])
    group_B, valid_B = one_group(4)
    outcome_B = torch.ones(4, dtype=torch.float64)
    weight_BK = uniform_weights(is_turn_BK, dtype=torch.float64)
    source = RewardSource(shared_outcome(outcome_B, weight_BK), is_turn_BK, coefficient=5.0)
    suffix_BK = masked_rloo([source], is_turn_BK, group_B, valid_B)
    # μ = 1, .5, .25, .25; 5·(1 − K·mean of the others' μ)
    expected_B = tensor([10 / 3, 0.0, -20 / 3, -20 / 3], dtype=torch.float64)
    assert_close(suffix_BK[:, 0], expected_B)
    centred_B = leave_one_out(outcome_B, group_B, valid_B)
    assert not centred_B.any()
    assert not redistribute_direct(centred_B, weight_BK, is_turn_BK).any()


def test_a_published_long_success_ranks_below_a_short_failure() -> None:
    is_turn_BK = turns([1, 1, 2, 2, 4, 4, 1, 4])
    group_B, valid_B = one_group(8)
    outcome_B = tensor([1.0] * 6 + [0.0] * 2, dtype=torch.float64)
    weight_BK = uniform_weights(is_turn_BK, dtype=torch.float64)
    suffix_BK = published(shared_outcome(outcome_B, weight_BK), is_turn_BK, group_B, valid_B)
    expected = [0.6429, 0.6429, 0.1429, 0.1429, -0.8571, -0.8571, -0.5, -2.0]
    assert_close(suffix_BK[:, 0], tensor(expected, dtype=torch.float64), atol=5e-5, rtol=0)
    centred_B = leave_one_out(outcome_B, group_B, valid_B)
    sound_BK = redistribute_direct(centred_B, weight_BK, is_turn_BK)
    assert_close(sound_BK, same_for_all_turns(centred_B, is_turn_BK))
    assert_close(sound_BK[:6, 0], torch.full((6,), 2 / 7, dtype=torch.float64))
    assert_close(sound_BK[[6, 7, 7], [0, 0, 3]], torch.full((3,), -6 / 7, dtype=torch.float64))


def test_unbiased_baselines_need_not_be_silent_without_signal() -> None:
    is_turn_BK = turns([1, 2, 4, 4])
    group_B, valid_B = one_group(4)
    return_BK = reward_to_go(uniform_weights(is_turn_BK), is_turn_BK, discount=1.0)
    total_BK = loo_total(return_BK, is_turn_BK, group_B, valid_B)
    assert_close(total_BK[2], tensor([0.0, -0.25, -0.5, -0.75]))
    assert_close(total_BK[1], tensor([0.0, -0.5, 0.0, 0.0]))
    # Turn 2 of a dialogue of four: .75 − mean(0, .5, .75); turn 3: .5 − mean(0, 0, .5)
    index_BK = loo_turn_index(return_BK, is_turn_BK, group_B, valid_B)
    assert_close(index_BK[2], tensor([0.0, 1 / 3, 1 / 3, 1 / 6]))
    assert_close(index_BK[1], torch.zeros(4))


def test_centring_rewards_by_turn_index_pays_for_stopping() -> None:
    reward_BK = tensor([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5], [0.5, 0.5]])
    is_turn_BK = turns([1, 1, 2, 2])
    group = one_group(4)
    centred_BK = turn_index_reward_centring(reward_BK, is_turn_BK, *group)
    assert_close(centred_BK[:, 0], tensor([0.25, 0.25, -0.25, -0.25]))
    return_BK = reward_to_go(reward_BK, is_turn_BK, discount=1.0)
    for sound in (loo_total, loo_turn_index):
        assert_close(sound(return_BK, is_turn_BK, *group)[:, 0], torch.zeros(4))


def centring(reward_BK: Tensor, is_turn_BK: Tensor, group_B: Tensor, valid_B: Tensor) -> Tensor:
    return turn_index_reward_centring(reward_BK, is_turn_BK, group_B, valid_B)


def on_returns(baseline: Estimator) -> Estimator:
    def estimate(reward_BK: Tensor, is_turn_BK: Tensor, group_B: Tensor, valid_B: Tensor) -> Tensor:
        return_BK = reward_to_go(reward_BK, is_turn_BK, discount=1.0)
        return baseline(return_BK, is_turn_BK, group_B, valid_B)

    return estimate


def mean_gradient(estimator: Estimator, stop: list[float], go: list[float], size: int) -> float:
    """Expected score-function gradient by the logit of continuing, over p(1 − p).

    All 2^G groups at once, each a group of its own, weighted by its probability.
    """
    p = CONTINUE_PROBABILITY
    continues_NG = tensor(list(product([0, 1], repeat=size)), dtype=torch.float64)
    probability_N = (continues_NG * p + (1 - continues_NG) * (1 - p)).prod(dim=1)
    continues_B = continues_NG.flatten() > 0
    rows = tensor([stop, go], dtype=torch.float64)
    reward_BK = rows[continues_B.long()]
    is_turn_BK = torch.stack([torch.ones_like(continues_B), continues_B], dim=1)
    group_B = torch.arange(2**size).repeat_interleave(size)
    valid_B = torch.ones_like(continues_B)
    advantage_NG = estimator(reward_BK, is_turn_BK, group_B, valid_B)[:, 0].reshape(-1, size)
    gradient_N = (advantage_NG * (continues_NG - p)).mean(dim=1)
    return float((probability_N * gradient_N).sum() / (p * (1 - p)))


@pytest.mark.parametrize(
    ("estimator", "stop", "go", "size", "expected"),
    [
        (centring, [1.0, 0.0], [0.5, 0.5], 4, -0.375),
        (centring, [1.0, 0.0], [0.5, 0.5], 8, -0.4375),
        (published, [1.0, 0.0], [0.5, 0.5], 4, -0.85),
        (published, [1.0, 0.0], [0.5, 0.5], 8, -0.85),
        (on_returns(loo_total), [1.0, 0.0], [0.5, 0.5], 4, 0.0),
        (on_returns(loo_turn_index), [1.0, 0.0], [0.5, 0.5], 8, 0.0),
        (on_returns(loo_total), [0.2, 0.0], [0.5, 0.4], 4, 0.7),
        (on_returns(loo_turn_index), [0.2, 0.0], [0.5, 0.4], 4, 0.7),
        (centring, [0.2, 0.0], [0.5, 0.4], 4, 0.225),
        (published, [0.2, 0.0], [0.5, 0.4], 4, 0.425),
    ],
)
def test_the_mean_gradient_over_all_groups(
    estimator: Estimator, stop: list[float], go: list[float], size: int, expected: float
) -> None:
    # The truth is what continuing brings more than stopping: 0 in the first pair, .7 in the second.
    assert mean_gradient(estimator, stop, go, size) == pytest.approx(expected, abs=1e-12)


NOISE_BK = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("factor", [5.0, 15.0, 100.0])
def test_one_source_of_rewards_has_no_size(factor: float) -> None:
    is_turn_BK = turns([4, 2, 3, 1, 4, 4])
    group_B, valid_B = tensor([0, 0, 1, 1, 2, 2]), torch.ones(6, dtype=torch.bool)

    def sound(reward_BK: Tensor) -> Tensor:
        return_BK = reward_to_go(reward_BK, is_turn_BK, discount=1.0)
        advantage_BK = loo_turn_index(return_BK, is_turn_BK, group_B, valid_B)
        return scale_by_rms(advantage_BK, is_turn_BK, floor=0.0)

    def public(reward_BK: Tensor) -> Tensor:
        return whiten_with_shift(published(reward_BK, is_turn_BK, group_B, valid_B), is_turn_BK)

    for pipeline in (sound, public):
        assert_close(pipeline(factor * NOISE_BK), pipeline(NOISE_BK), atol=1e-6, rtol=0)


def test_a_shift_of_the_mean_rewards_a_group_without_signal() -> None:
    # 10, 10, 10 and 30 tokens; the token-weighted mean of (0, 0, 1, −1) is −1/3.
    length_B = tensor([10, 10, 10, 30])
    written_BT = torch.arange(30) < length_B.unsqueeze(1)
    outcome_B = tensor([1.0, 1.0, 1.0, 0.0])
    centred_B = leave_one_out(outcome_B, tensor([4, 4, 9, 9]), torch.ones(4, dtype=torch.bool))
    a_BT = same_for_all_turns(centred_B, written_BT)
    shifted_B = whiten_with_shift(a_BT, written_BT)[:, 0]
    assert_close(shifted_B, tensor([0.4435, 0.4435, 1.7739, -0.8869]), atol=5e-5, rtol=0)
    scaled_B = scale_by_rms(a_BT, written_BT)[:, 0]
    assert_close(scaled_B, tensor([0.0, 0.0, 1.2247, -1.2247]), atol=5e-5, rtol=0)


@pytest.mark.parametrize(("floor", "expected"), [(0.1, 0.3), (0.0, 1.0)])
def test_the_floor_keeps_a_lone_length_penalty_small(floor: float, expected: float) -> None:
    penalty_B = tensor([-0.04, -0.01], dtype=torch.float64)
    centred_B = leave_one_out(penalty_B, *one_group(2))
    written_BT = torch.ones(2, 10, dtype=torch.bool)
    scaled_BT = scale_by_rms(same_for_all_turns(centred_B, written_BT), written_BT, floor=floor)
    assert_close(scaled_BT[:, 0], expected * tensor([-1.0, 1.0], dtype=torch.float64))
    scaled_BK = scale_turns_by_rms(centred_B.unsqueeze(1), tensor([[10], [10]]), floor=floor)
    assert_close(scaled_BK, scaled_BT[:, :1])
