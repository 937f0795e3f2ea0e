"""Implicit rewards, turn logits and turn weights."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.arrays import turn_sum
from turnwise.credit import (
    implicit_token_rewards,
    implicit_turn_rewards,
    max_return_normalised,
    mix_with_uniform,
    robust_batch_scale,
    shared_outcome,
    signed_turn_weights,
    turn_logits_mean_times_global_length,
    turn_logits_sum,
    turn_logits_sum_over_length_power,
    turn_weights,
)
from turnwise.errors import ConfigError, LogProbError, ShapeError

SEEDS = st.integers(0, 2**31)
TURN_BT = tensor([[-1, 0, 0, -1, 1], [-1, -1, 0, -1, -1]])


def logits(seed: int) -> tuple[Tensor, Tensor]:
    """Turn logits with NaN where there is no turn; the last dialogue has none at all."""
    random = torch.Generator().manual_seed(seed)
    is_turn_BK = torch.arange(4) < tensor([[4], [1], [3], [0]])
    logit_BK = torch.randn(4, 4, dtype=torch.float64, generator=random)
    return torch.where(is_turn_BK, logit_BK, math.nan), is_turn_BK


def test_implicit_rewards_by_hand() -> None:
    # β ½: ½·(−1 + 2), ½·(−2 + 1), ½·(−.5 + .5); ½·(−1 + 4). Turn sums 0 and 0; 1.5.
    prm_BT = tensor([[math.nan, -1.0, -2.0, 7.0, -0.5], [0.0, 0.0, -1.0, 0.0, math.inf]])
    reference_BT = tensor([[0.0, -2.0, -1.0, math.nan, -0.5], [0.0, 0.0, -4.0, 0.0, 0.0]])
    token_BT = implicit_token_rewards(prm_BT, reference_BT, TURN_BT, beta=0.5)
    assert_close(token_BT, tensor([[0.0, 0.5, -0.5, 0.0, 0.0], [0.0, 0.0, 1.5, 0.0, 0.0]]))
    turn_BK = implicit_turn_rewards(prm_BT, reference_BT, TURN_BT, beta=0.5)
    assert_close(turn_BK, tensor([[0.0, 0.0], [1.5, 0.0]]))
    wide_BK = implicit_turn_rewards(prm_BT, reference_BT, TURN_BT, beta=0.5, num_turns=3)
    assert_close(wide_BK, torch.nn.functional.pad(turn_BK, (0, 1)))


def test_a_zero_adapter_earns_exactly_nothing_and_weighs_turns_alike() -> None:
    logp_BT = tensor([[0.0, -1.3, -0.7, -2.0, -9.1], [0.0, 0.0, -0.1, 0.0, 0.0]])
    turn_BK = implicit_turn_rewards(logp_BT, logp_BT.clone(), TURN_BT, beta=0.05)
    assert not turn_BK.any()
    is_turn_BK = tensor([[True, True], [True, False]])
    scale = robust_batch_scale(turn_BK, is_turn_BK, tensor([True, True]))
    weight_BK = turn_weights(turn_BK, is_turn_BK, scale=scale, temperature=1.0)
    assert_close(weight_BK, tensor([[0.5, 0.5], [1.0, 0.0]]))


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, left=st.integers(0, 3), right=st.integers(0, 3), is_double=st.booleans())
def test_padding_on_any_side_changes_nothing(
    seed: int, left: int, right: int, is_double: bool
) -> None:
    random = torch.Generator().manual_seed(seed)
    dtype = torch.float64 if is_double else torch.float32
    prm_BT, reference_BT = (-torch.rand(2, 5, dtype=dtype, generator=random) for _ in range(2))
    pad = torch.nn.functional.pad
    there_BK = implicit_turn_rewards(prm_BT, reference_BT, TURN_BT, beta=0.1)
    padded_BK = implicit_turn_rewards(
        pad(prm_BT, (left, right), value=math.nan),
        pad(reference_BT, (left, right), value=-math.inf),
        pad(TURN_BT, (left, right), value=-1),
        beta=0.1,
    )
    assert torch.equal(padded_BK, there_BK) and there_BK.dtype == dtype
    token_BT = implicit_token_rewards(prm_BT, reference_BT, TURN_BT, beta=0.1)
    assert_close(turn_sum(token_BT, TURN_BT), there_BK)


def test_rewards_pass_gradients_to_written_tokens_only() -> None:
    prm_BT = torch.zeros(2, 5, requires_grad=True)
    reward_BK = implicit_turn_rewards(prm_BT, torch.zeros(2, 5), TURN_BT, beta=0.25)
    reward_BK.sum().backward()
    assert prm_BT.grad is not None
    assert_close(prm_BT.grad, 0.25 * (TURN_BT >= 0))


@pytest.mark.parametrize("value", [math.nan, -math.inf, math.inf])
def test_a_log_probability_that_is_not_finite_is_named(value: float) -> None:
    prm_BT = torch.zeros(2, 5)
    prm_BT[1, 2] = value
    for rewards in (implicit_token_rewards, implicit_turn_rewards):
        with pytest.raises(LogProbError, match="dialogue 1, position 2"):
            rewards(prm_BT, torch.zeros(2, 5), TURN_BT, beta=0.1)


def test_a_sum_that_overflows_is_no_fault_of_a_token() -> None:
    reward_BK = implicit_turn_rewards(
        torch.full((2, 5), 3e38), torch.zeros(2, 5), TURN_BT, beta=1.0
    )
    assert reward_BK[0, 0] == math.inf


def test_wrong_settings_and_shapes_are_refused() -> None:
    zero_BT = torch.zeros(2, 5)
    for beta in (0.0, -1.0, math.nan):
        with pytest.raises(ConfigError, match="beta"):
            implicit_turn_rewards(zero_BT, zero_BT, TURN_BT, beta=beta)
    with pytest.raises(ShapeError, match="logp_reference_BT"):
        implicit_token_rewards(zero_BT, zero_BT[:, 1:], TURN_BT, beta=0.1)
    for temperature in (0.0, -1.0):
        with pytest.raises(ConfigError, match="temperature"):
            turn_weights(zero_BT, zero_BT == 0, scale=1.0, temperature=temperature)
    for power in (-0.1, 1.1):
        with pytest.raises(ConfigError, match="power"):
            turn_logits_sum_over_length_power(zero_BT, TURN_BT, power=power)
    with pytest.raises(ConfigError, match="trust"):
        mix_with_uniform(zero_BT, zero_BT == 0, trust=1.1)


# Dialogue 1: turns of 2 and 4 tokens with .2 and .1 each; dialogue 2: one turn of 3.
REWARD_BK = tensor([[0.4, 0.4], [0.9, 0.0]])
LENGTH_BK = tensor([[2, 4], [3, 0]])


def test_the_three_kinds_of_logits_by_hand() -> None:
    # c̄ = 3: .6 and .3; α ½: .4/√2 and .4/2; all over η .4
    cases = [
        (turn_logits_sum(REWARD_BK), [0.5, 0.5]),
        (turn_logits_mean_times_global_length(REWARD_BK, LENGTH_BK), [0.67918, 0.32082]),
        (
            turn_logits_sum_over_length_power(REWARD_BK, LENGTH_BK, power=0.5),
            [0.55159, 0.44841],
        ),
    ]
    for logit_BK, expected in cases:
        weight_BK = turn_weights(logit_BK, LENGTH_BK > 0, scale=1.0, temperature=0.4)
        assert_close(weight_BK[0], tensor(expected), atol=5e-6, rtol=0)
        assert weight_BK[1].tolist() == [1.0, 0.0]


def test_the_length_power_goes_from_sum_to_mean() -> None:
    sum_BK = turn_logits_sum_over_length_power(REWARD_BK, LENGTH_BK, power=0.0)
    assert_close(sum_BK, turn_logits_sum(REWARD_BK))
    mean_BK = turn_logits_sum_over_length_power(REWARD_BK, LENGTH_BK, power=1.0)
    assert_close(mean_BK, tensor([[0.2, 0.1], [0.3, 0.0]]))
    assert_close(turn_logits_mean_times_global_length(REWARD_BK, LENGTH_BK), 3 * mean_BK)


def test_the_robust_scale_by_hand() -> None:
    # d = ±1, ±2, 0: √(10/3); the single turn takes no part. Then an outlier of 100.
    logit_BK = tensor([[1.0, -1.0, 0.0], [2.0, 0.0, -2.0], [5.0, 0.0, 0.0], [100.0, -100.0, 0.0]])
    is_turn_BK = torch.arange(3) < tensor([[2], [3], [1], [2]])
    all_B, quiet_B = torch.ones(4).bool(), tensor([True, True, True, False])
    quiet = robust_batch_scale(logit_BK, is_turn_BK, quiet_B)
    assert_close(quiet, tensor(1.82574), atol=5e-6, rtol=0)
    clipped = robust_batch_scale(logit_BK, is_turn_BK, all_B)
    assert_close(clipped, tensor(6.48582), atol=5e-6, rtol=0)


def test_a_scale_without_evidence_is_one() -> None:
    logit_BK = tensor([[3.0, 0.0], [5.0, 7.0]])
    is_turn_BK = tensor([[True, False], [True, True]])
    assert float(robust_batch_scale(logit_BK, is_turn_BK, tensor([True, False]))) == 1.0


def test_a_small_scale_is_lifted_and_a_median_of_zero_clips_nothing() -> None:
    args = torch.ones(1, 5).bool(), tensor([True])
    assert float(robust_batch_scale(1e-4 * torch.arange(5.0)[None], *args)) == pytest.approx(0.05)
    # Deviations 0, 0, 0, −10, 10: Σd² = 200 over 4
    alone_BK = tensor([[0.0, 0.0, 0.0, -10.0, 10.0]])
    assert float(robust_batch_scale(alone_BK, *args)) == pytest.approx(math.sqrt(50))


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, shift=st.floats(-9, 9), scale=st.floats(0.5, 9), order=st.permutations(range(4)))
def test_the_scale_ignores_a_dialogues_level_and_follows_the_unit(
    seed: int, shift: float, scale: float, order: list[int]
) -> None:
    logit_BK, is_turn_BK = logits(seed)
    valid_B = tensor([True, True, True, False])
    there = robust_batch_scale(10 * logit_BK, is_turn_BK, valid_B)
    moved_BK = scale * (10 * logit_BK + tensor([[shift], [-shift], [0.0], [1.0]]))
    again = robust_batch_scale(moved_BK[order], is_turn_BK[order], valid_B[order])
    assert_close(again, scale * there)


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, shift=st.floats(-50, 50), outcome=st.floats(0, 1), trust=st.floats(0, 1))
def test_weights_divide_the_outcome_among_real_turns(
    seed: int, shift: float, outcome: float, trust: float
) -> None:
    logit_BK, is_turn_BK = logits(seed)
    weight_BK = turn_weights(logit_BK, is_turn_BK, scale=0.5, temperature=0.4)
    again_BK = turn_weights(logit_BK + shift, is_turn_BK, scale=0.5, temperature=0.4)
    assert_close(again_BK, weight_BK)
    outcome_B = torch.full((4,), outcome, dtype=torch.float64)
    mixed_BK = mix_with_uniform(weight_BK, is_turn_BK, trust=trust)
    for any_BK in (weight_BK, mixed_BK):
        assert not any_BK[~is_turn_BK].any()
        reward_B = shared_outcome(outcome_B, any_BK).sum(dim=1)
        assert_close(reward_B, outcome_B * is_turn_BK.any(dim=1))
    assert weight_BK[1, 0] == 1.0


def test_without_trust_weights_are_uniform() -> None:
    weight_BK = tensor([[0.9, 0.1, 0.0], [1.0, 0.0, 0.0]])
    is_turn_BK = tensor([[True, True, False], [True, False, False]])
    mixed_BK = mix_with_uniform(weight_BK, is_turn_BK, trust=0.0)
    assert_close(mixed_BK, tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]))
    assert_close(mix_with_uniform(weight_BK, is_turn_BK, trust=1.0), weight_BK)
    half_BK = mix_with_uniform(weight_BK, is_turn_BK, trust=0.5)
    assert_close(half_BK[0], tensor([0.7, 0.3, 0.0]))


def test_signed_weights_blame_the_worst_turn_of_a_bad_dialogue() -> None:
    logit_BK = tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
    is_turn_BK = torch.ones(3, 2, dtype=torch.bool)
    weight_BK = signed_turn_weights(
        logit_BK, is_turn_BK, tensor([0.5, -0.5, 0.0]), scale=2.0, temperature=0.5
    )
    high = 1 / (1 + math.exp(-2.0))  # u/(s·η) = 2
    assert_close(weight_BK, tensor([[high, 1 - high], [1 - high, high], [high, 1 - high]]))


def test_a_dialogue_without_a_turn_gives_no_nan_gradient() -> None:
    logit_BK = torch.zeros(2, 2, requires_grad=True)
    is_turn_BK = tensor([[True, True], [False, False]])
    weight_BK = turn_weights(logit_BK, is_turn_BK, scale=1.0, temperature=1.0)
    (weight_BK[:, 0].sum()).backward()
    assert logit_BK.grad is not None
    assert_close(logit_BK.grad, tensor([[0.25, -0.25], [0.0, 0.0]]))


def test_the_largest_return_of_a_shard_by_hand() -> None:
    # Suffix sums (.1, −.2), (.5); shards apart: over .2 and .5; together: over .5
    reward_BT = tensor([[9.0, 0.3, -0.2], [9.0, 9.0, 0.5]])
    turn_BT = tensor([[-1, 0, 1], [-1, -1, 0]])
    apart_BT = max_return_normalised(reward_BT, turn_BT, tensor([7, -7]))
    assert_close(apart_BT, tensor([[0.0, 1.5, -1.0], [0.0, 0.0, 1.0]]), atol=1e-4, rtol=0)
    together_BT = max_return_normalised(reward_BT, turn_BT, tensor([1, 1]))
    assert_close(together_BT, tensor([[0.0, 0.6, -0.4], [0.0, 0.0, 1.0]]), atol=1e-4, rtol=0)
    scaled_BT = max_return_normalised(100 * reward_BT, turn_BT, tensor([1, 1]))
    assert_close(scaled_BT, together_BT, atol=1e-4, rtol=0)
    assert not max_return_normalised(0 * reward_BT, turn_BT, tensor([1, 1])).any()
