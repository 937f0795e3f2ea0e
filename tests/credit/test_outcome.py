"""Credits that look at the outcome alone."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor
from torch.testing import assert_close

from turnwise.credit import (
    check_outcomes,
    dirichlet_weights,
    outcome_on_last_turn,
    shared_outcome,
    uniform_weights,
)
from turnwise.credit.keyed_noise import hashed, keyed_uniform
from turnwise.errors import ConfigError, OutcomeError

IS_TURN_BK = tensor([[True, False, True], [True, False, False], [False, False, False]])


def test_the_outcome_stands_on_the_last_real_turn() -> None:
    reward_BK = outcome_on_last_turn(tensor([0.25, math.nan, 1.0]), IS_TURN_BK)
    assert reward_BK.tolist() == [[0.0, 0.0, 0.25], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_an_outcome_that_was_not_judged_gives_no_reward() -> None:
    reward_BK = shared_outcome(tensor([0.5, math.nan]), tensor([[0.25, 0.75], [1.0, 0.0]]))
    assert reward_BK.tolist() == [[0.125, 0.375], [0.0, 0.0]]


def test_uniform_weights_by_hand() -> None:
    expected_BK = tensor([[0.5, 0.0, 0.5], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert_close(uniform_weights(IS_TURN_BK), expected_BK)
    assert uniform_weights(IS_TURN_BK, dtype=torch.float64).dtype == torch.float64


@pytest.mark.parametrize("outcome", [-0.01, 1.01, math.inf, -math.inf])
def test_an_outcome_outside_its_range_is_named_and_never_clamped(outcome: float) -> None:
    check_outcomes(tensor([0.0, 1.0, math.nan]))
    with pytest.raises(OutcomeError, match=r"dialogue 1: expected an outcome in \[0, 1\]"):
        check_outcomes(tensor([0.5, outcome]))


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(-(2**40), 2**40),
    step=st.integers(0, 10**6),
    keys=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3, unique=True),
    alpha=st.sampled_from([1e-3, 0.3, 1.0, 50.0]),
    order=st.permutations(range(3)),
)
def test_random_weights_belong_to_the_dialogue_and_not_to_its_place(
    seed: int, step: int, keys: list[int], alpha: float, order: list[int]
) -> None:
    def weights(rows: list[int], columns: list[int]) -> torch.Tensor:
        is_turn_BK = torch.nn.functional.pad(IS_TURN_BK, (0, 1))[rows][:, columns]
        return dirichlet_weights(
            is_turn_BK, alpha=alpha, seed=seed, step=step, dialogue_key_B=tensor(keys)[rows]
        )

    weight_BK = weights([0, 1, 2], [0, 1, 2])
    assert_close(weight_BK.sum(dim=1), tensor([1.0, 1.0, 0.0]))
    assert weight_BK[1, 0] == 1.0 and not weight_BK[~IS_TURN_BK].any()
    assert torch.equal(weights(order, [0, 1, 2]), weight_BK[order])
    alone_BK = torch.cat([weights([b], [0, 1, 2]) for b in range(3)])
    assert torch.equal(alone_BK, weight_BK)
    # An empty turn in front moves the columns and nothing else.
    assert torch.equal(weights([0, 1, 2], [3, 0, 1, 2])[:, 1:], weight_BK)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_random_weights_have_the_moments_of_a_dirichlet(alpha: float) -> None:
    # Mean 1/K; variance (K − 1)/(K²·(Kα + 1)). 20,000 rows: a false alarm needs 5 standard errors.
    K, size = 3, 20_000
    weight_BK = dirichlet_weights(
        torch.ones(size, K, dtype=torch.bool),
        alpha=alpha,
        seed=1,
        step=2,
        dialogue_key_B=torch.arange(size),
        dtype=torch.float64,
    )
    variance = (K - 1) / (K**2 * (K * alpha + 1))
    error = math.sqrt(variance / size)
    assert (weight_BK.mean(dim=0) - 1 / K).abs().max() < 5 * error
    assert weight_BK.var(dim=0).sub(variance).abs().max() < 5 * 1.5 * variance / math.sqrt(size)


def test_random_weights_change_with_seed_and_step() -> None:
    is_turn_BK, key_B = torch.ones(1, 3, dtype=torch.bool), tensor([5])
    first, *others = (
        dirichlet_weights(is_turn_BK, alpha=1.0, seed=seed, step=step, dialogue_key_B=key_B)
        for seed, step in ((0, 0), (1, 0), (0, 1))
    )
    for other in others:
        assert not torch.allclose(first, other)


@pytest.mark.parametrize("alpha", [0.0, -1.0, math.inf, math.nan])
def test_an_alpha_that_is_not_positive_is_refused(alpha: float) -> None:
    with pytest.raises(ConfigError, match="alpha"):
        dirichlet_weights(IS_TURN_BK, alpha=alpha, seed=0, step=0, dialogue_key_B=torch.arange(3))


def test_the_hash_is_splitmix64() -> None:
    # First output for the seeds 0 and 1234567, from the reference implementation.
    expected = [0xE220A8397B1DCDAF, 6457827717110365317]
    assert [x % 2**64 for x in hashed(tensor([0, 1234567])).tolist()] == expected


def test_uniform_numbers_never_touch_the_ends() -> None:
    number_N = keyed_uniform(torch.arange(10_000), 3)
    assert 0 < number_N.min() < 1e-3 and 1 - 1e-3 < number_N.max() < 1
    assert abs(float(number_N.mean()) - 0.5) < 5 * math.sqrt(1 / 12 / 10_000)
