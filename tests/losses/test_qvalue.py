"""Losses of a Q-function by hand, where they act, and what they refuse."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.errors import ConfigError, EmptyStepError, OutcomeError, ShapeError
from turnwise.losses import (
    HistogramSupport,
    ensemble_loss,
    histogram_cross_entropy,
    histogram_mean,
    histogram_support,
    histogram_target,
    reply_token_weights,
    scaled_return,
    unscaled_value,
    value_bce,
    value_mse,
)

TWO_BINS = HistogramSupport(tensor([0.0, 0.5, 1.0]), sigma=0.5)


def test_soft_label_cross_entropy_by_hand() -> None:
    # q = 0: ln 2 whatever y. q = ln 3: σ = .75, and −.25·ln .75 − .75·ln .25 = .07192 + 1.03972.
    found = value_bce(tensor([0.0, math.log(3)]), tensor([0.9, 0.25]))
    assert_close(found, tensor([0.693147, 1.111641]))


def test_square_error_by_hand() -> None:
    assert_close(value_mse(tensor([0.3, 1.0]), tensor([1.0, 1.0])), tensor([0.49, 0.0]))


def test_histogram_target_cross_entropy_and_mean_by_hand() -> None:
    # Edges 0, .5, 1, σ = .5, y = .25: Φ(.5) − Φ(−.5) = .382925, Φ(1.5) − Φ(.5) = .241730; over
    # their sum .613018, .386982. Mean .25·.613018 + .75·.386982 = .443491.
    p = histogram_target(tensor([0.25]), TWO_BINS)
    assert_close(p, tensor([[0.613018, 0.386982]]))
    assert_close(histogram_mean(p.log(), TWO_BINS), tensor([0.443491]))
    # Even logits: −ln .5. Logits of .8, .2: −.613018·ln .8 − .386982·ln .2 = .759615.
    logit = tensor([[0.0, 0.0], [math.log(0.8), math.log(0.2)]])
    loss = histogram_cross_entropy(logit, tensor([0.25, 0.25]), TWO_BINS)
    assert_close(loss, tensor([0.693147, 0.759615]))


def test_the_default_histogram_has_51_bins_and_a_tenth_of_room() -> None:
    support = histogram_support(dtype=torch.float64)
    assert support.edge_Z.shape == (52,)
    assert_close(support.edge_Z[[0, -1]], tensor([-0.1, 1.1], dtype=torch.float64))
    assert support.sigma == pytest.approx(0.75 * 1.2 / 51)


@given(y=st.floats(0, 1))
@settings(deadline=None)
def test_with_room_a_histograms_mean_is_its_target(y: float) -> None:
    support, target = histogram_support(dtype=torch.float64), tensor([y], dtype=torch.float64)
    mean = histogram_mean(histogram_target(target, support).log(), support)
    assert_close(mean, target, atol=2e-5, rtol=0)


def test_too_little_room_is_refused_with_the_number() -> None:
    with pytest.raises(ConfigError, match=r"3.0 σ = 0.1286 beside the range, found 0.1; raise"):
        histogram_support(num_bins=21)
    with pytest.raises(ConfigError, match="return_range: expected low < high"):
        histogram_support(low=1.0, high=1.0)


def test_a_target_outside_the_support_is_named_never_clipped() -> None:
    with pytest.raises(OutcomeError, match=r"target at \(1,\).*\[-0.1, 1.1\], found 1.5"):
        histogram_target(tensor([0.5, 1.5]), histogram_support())
    with pytest.raises(OutcomeError, match="found nan"):
        histogram_target(tensor([math.nan]), histogram_support())
    with pytest.raises(ShapeError):
        histogram_cross_entropy(torch.zeros(1, 3), tensor([0.5]), TWO_BINS)


def test_returns_scale_to_the_unit_interval_and_back() -> None:
    # [−1, 3]: 0 lies a quarter of the way.
    y = scaled_return(tensor([-1.0, 0.0, 3.0]), torch.ones(3, dtype=torch.bool), low=-1, high=3)
    assert_close(y, tensor([0.0, 0.25, 1.0]))
    assert_close(unscaled_value(y, low=-1, high=3), tensor([-1.0, 0.0, 3.0]))


def test_a_return_outside_its_range_is_named_never_clipped() -> None:
    return_BK, is_valid_BK = tensor([[0.5, 0.2], [1.0, 7.0]]), torch.ones(2, 2, dtype=torch.bool)
    with pytest.raises(OutcomeError, match=r"return at \(1, 1\).*\[0.0, 1.0\], found 7.0; set"):
        scaled_return(return_BK, is_valid_BK, low=0.0, high=1.0)
    is_valid_BK[1, 1] = False
    assert_close(
        scaled_return(return_BK, is_valid_BK, low=0.0, high=1.0), tensor([[0.5, 0.2], [1.0, 0.0]])
    )
    with pytest.raises(OutcomeError, match="found nan"):
        scaled_return(tensor([math.nan]), tensor([True]), low=0.0, high=1.0)
    with pytest.raises(ConfigError):
        unscaled_value(return_BK, low=2.0, high=1.0)


def test_nine_tenths_of_a_step_stand_on_its_end_token() -> None:
    # Three tokens: .05, .05, .9. A single one: 1. The last turn has no target.
    turn_BT = tensor([[-1, 0, 0, 0, -1, 1, -1, 2, 2]])
    found = reply_token_weights(turn_BT, tensor([[True, True, False]]), end_weight=0.9)
    assert_close(found, tensor([[0, 0.05, 0.05, 0.9, 0, 1.0, 0, 0, 0]]))
    only_end = reply_token_weights(turn_BT, tensor([[True, True, False]]), end_weight=1.0)
    assert only_end.tolist() == [[0, 0, 0, 1, 0, 1, 0, 0, 0]]


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), share=st.floats(0, 1))
@settings(deadline=None)
def test_every_trained_step_weighs_one_however_long(lengths: list[int], share: float) -> None:
    turn_BT = tensor([[k for k, n in enumerate(lengths) for _ in range(n)]])
    is_trained_BK = torch.ones(1, len(lengths), dtype=torch.bool)
    weight_BT = reply_token_weights(turn_BT, is_trained_BK, end_weight=share, dtype=torch.float64)
    per_step = [float(weight_BT[turn_BT == k].sum()) for k in range(len(lengths))]
    assert per_step == pytest.approx([1.0] * len(lengths))


def test_a_share_outside_the_unit_interval_is_refused() -> None:
    with pytest.raises(ConfigError, match="end_weight"):
        reply_token_weights(tensor([[0]]), tensor([[True]]), end_weight=1.1)


def test_ensemble_loss_by_hand() -> None:
    # Row 0, weight .5: heads 1·2, 0·4 → .5·2 = 1. Row 1, weight 1: heads 2·1, 1·3 → 5.
    # (1 + 5) / (2 heads · 3 steps) = 1.
    loss_BNE = tensor([[[2.0, 4.0], [math.nan, math.nan]], [[1.0, 3.0], [9.0, 9.0]]])
    weight_BN = tensor([[0.5, 0.0], [1.0, 0.0]])
    head_weight_BE = tensor([[1.0, 0.0], [2.0, 1.0]])
    assert_close(ensemble_loss(loss_BNE, weight_BN, head_weight_BE, divisor=3.0), tensor(1.0))


def test_shares_of_micro_batches_add_up() -> None:
    generator = torch.Generator().manual_seed(0)
    loss, weight, heads = (
        torch.rand(*shape, generator=generator, dtype=torch.float64)
        for shape in ((6, 4, 3), (6, 4), (6, 3))
    )
    whole = ensemble_loss(loss, weight, heads, divisor=5.0)
    parts = [
        ensemble_loss(loss[rows], weight[rows], heads[rows], divisor=5.0)
        for rows in (slice(0, 1), slice(1, 6))
    ]
    assert_close(whole, torch.stack(parts).sum())


def test_nothing_but_scored_positions_gets_a_gradient() -> None:
    logit_BTE = torch.zeros(1, 5, 2, requires_grad=True)
    turn_BT, target_BTE = tensor([[-1, 0, 0, -1, 1]]), torch.full((1, 5, 2), 0.8)
    weight_BT = reply_token_weights(turn_BT, tensor([[True, False]]), end_weight=0.9)
    loss = ensemble_loss(value_bce(logit_BTE, target_BTE), weight_BT, torch.ones(1, 2), divisor=1.0)
    torch.autograd.backward(loss)
    # σ(0) − .8 = −.3, halved among two heads: −.15·(0, .1, .9, 0, 0).
    expected = tensor([0.0, -0.015, -0.135, 0.0, 0.0])
    assert_close(logit_BTE.grad, expected[None, :, None].expand(1, 5, 2))


def test_gradients_are_those_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(4, generator=generator, dtype=torch.float64)
    logit = torch.randn(4, 51, generator=generator, dtype=torch.float64).requires_grad_()
    support = histogram_support(dtype=torch.float64)

    def losses(x: Tensor) -> Tensor:
        return histogram_cross_entropy(x, target, support) + value_bce(x[:, 0], target)

    assert torch.autograd.gradcheck(losses, logit)


def test_steps_without_targets_and_arrays_of_other_axes_are_refused() -> None:
    loss = torch.ones(1, 2, 3)
    with pytest.raises(EmptyStepError):
        ensemble_loss(loss, torch.ones(1, 2), torch.ones(1, 3), divisor=0.0)
    with pytest.raises(ShapeError, match=r"\(1, 2\) and \(1, 3\)"):
        ensemble_loss(loss, torch.ones(1, 2), torch.ones(1, 2), divisor=1.0)
    with pytest.raises(ShapeError):
        value_bce(torch.ones(2), torch.ones(3))
    with pytest.raises(ShapeError):
        value_mse(torch.ones(2), torch.ones(3))
