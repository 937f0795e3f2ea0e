"""Noise is a function of (seed, position) and nothing else."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from turnwise.backends.noise import as_seed, draw, uniforms

seeds = st.integers(0, 2**64 - 1)
positions = st.integers(0, 2**20)


def uniform(seed: int, position: int) -> float:
    return float(uniforms(np.array([seed], dtype=np.uint64), np.array([position]))[0])


@given(rows=st.lists(st.tuples(seeds, positions), min_size=1, max_size=9))
@settings(deadline=None)
def test_a_row_does_not_depend_on_its_batch(rows: list[tuple[int, int]]) -> None:
    together = uniforms(
        np.array([seed for seed, _ in rows], dtype=np.uint64), np.array([p for _, p in rows])
    )
    assert together.tolist() == [uniform(seed, position) for seed, position in rows]
    assert all(0.0 <= value < 1.0 for value in together)


@given(seed=st.integers(-(2**70), 2**70))
def test_any_integer_is_a_seed(seed: int) -> None:
    assert 0 <= as_seed(seed) < 2**64


def test_neighbouring_seeds_and_positions_are_independent() -> None:
    # 200 × 200 numbers: mean 1/2 ± 0.0014 (one standard error), so 0.01 is seven of them; the
    # correlation of neighbours has a standard error of 0.005.
    seed_N = np.repeat(np.arange(200, dtype=np.uint64), 200)
    value_SP = uniforms(seed_N, np.tile(np.arange(200), 200)).reshape(200, 200)
    assert abs(value_SP.mean() - 0.5) < 0.01
    assert abs(value_SP.std() - 12**-0.5) < 0.01
    for first, second in ((value_SP[1:], value_SP[:-1]), (value_SP[:, 1:], value_SP[:, :-1])):
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.03


def test_tokens_come_as_often_as_their_probability_by_hand() -> None:
    # softmax(log [1, 2, 5]) = 1/8, 2/8, 5/8: the quantiles change at 0.125 and 0.375
    logits_RV = torch.tensor([1.0, 2.0, 5.0]).log().repeat(5, 1)
    uniform_R = torch.tensor([0.0, 0.124, 0.126, 0.374, 0.376], dtype=torch.float64)
    token_R, logp_R = draw(logits_RV, uniform_R, torch.ones(5))
    assert token_R.tolist() == [0, 0, 1, 1, 2]
    assert_close(logp_R.exp(), torch.tensor([0.125, 0.125, 0.25, 0.25, 0.625]))


def test_temperature_sharpens_by_hand() -> None:
    # at temperature 1/2 the odds 1 : 2 become 1 : 4
    token_R, logp_R = draw(
        torch.tensor([[1.0, 2.0]]).log(), torch.tensor([0.3]).double(), torch.tensor([0.5])
    )
    assert token_R.tolist() == [1]
    assert_close(logp_R.exp(), torch.tensor([0.8]))


def test_greedy_takes_the_likeliest_and_scores_it_at_one() -> None:
    logits_RV = torch.tensor([[1.0, 6.0, 3.0]]).log()
    token_R, logp_R = draw(logits_RV, torch.tensor([0.0]).double(), torch.tensor([0.0]))
    assert token_R.tolist() == [1]
    assert_close(logp_R.exp(), torch.tensor([0.6]))


@given(value=st.floats(0, 1, exclude_max=True), blocked=st.integers(0, 3))
@settings(deadline=None)
def test_a_token_without_probability_is_never_drawn(value: float, blocked: int) -> None:
    logits_RV = torch.zeros(1, 4)
    logits_RV[0, blocked] = -torch.inf
    token_R, logp_R = draw(logits_RV, torch.tensor([value]).double(), torch.ones(1))
    assert int(token_R) != blocked
    assert_close(logp_R.exp(), torch.tensor([1 / 3]))
