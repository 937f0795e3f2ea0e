"""Losses of values by hand, and what gives no gradient."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.errors import ConfigError, ShapeError
from turnwise.losses import (
    clipped_value_loss,
    verdict_cross_entropy,
    verdict_loss,
    verdict_value,
)

numbers = st.floats(-5, 5)


def test_clipped_value_loss_by_hand() -> None:
    # Target 1, before 0, clip .2. V = .1: ½·.9² = .405. V = .5 is cut to .2: ½·max(.25, .64) = .32.
    # V = −.5 is cut to −.2: ½·max(2.25, 1.44) = 1.125. V = 2 is cut to .2: ½·max(1, .64) = .5.
    found = clipped_value_loss(
        tensor([0.1, 0.5, -0.5, 2.0]), torch.ones(4), torch.zeros(4), clip=0.2
    )
    assert_close(found, tensor([0.405, 0.32, 1.125, 0.5]))


def test_a_value_that_moved_too_far_towards_its_target_gets_no_gradient() -> None:
    value = tensor([0.1, 0.5, -0.5, 2.0], requires_grad=True)
    loss = clipped_value_loss(value, torch.ones(4), torch.zeros(4), clip=0.2)
    torch.autograd.backward(loss.sum())
    assert_close(value.grad, tensor([-0.9, 0.0, -1.5, 1.0]))


@given(value=numbers, target=numbers, before=numbers, clip=st.floats(0.01, 3))
@settings(deadline=None)
def test_clipping_never_makes_a_loss_smaller(
    value: float, target: float, before: float, clip: float
) -> None:
    v, y, b = (tensor([x], dtype=torch.float64) for x in (value, target, before))
    loss = clipped_value_loss(v, y, b, clip=clip)
    assert loss >= 0.5 * (v - y).square()
    assert_close(clipped_value_loss(v, y, v, clip=clip), 0.5 * (v - y).square())


def gradient_error(value: Tensor, *fixed: Tensor) -> bool:
    return torch.autograd.gradcheck(lambda v: clipped_value_loss(v, *fixed, clip=0.3), value)


def test_gradients_are_those_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y, z = (torch.randn(20, generator=generator, dtype=torch.float64) for _ in range(3))
    assert gradient_error(x.requires_grad_(), y, z)
    target = torch.rand(20, generator=generator, dtype=torch.float64)
    yes, no = x.detach().requires_grad_(), y.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: verdict_loss(a, b, target), (yes, no))


def test_a_verdicts_value_and_loss_by_hand() -> None:
    # p(yes) = .3, p(no) = .1: V = .75, and the other .6 does not matter.
    yes, no = tensor([0.3, 0.03]).log(), tensor([0.1, 0.01]).log()
    assert_close(verdict_value(yes, no), tensor([0.75, 0.75]))
    expected = tensor([-math.log(0.75), -0.5 * math.log(0.75) - 0.5 * math.log(0.25)])
    assert_close(verdict_loss(yes, no, tensor([1.0, 0.5])), expected)


def test_a_verdict_among_all_tokens_by_hand() -> None:
    # p(yes) = 1/4, p(no) = 1/8: −¾·ln ¼ − ¼·ln ⅛ = 1.5·ln 2 + .75·ln 2 = 2.25·ln 2.
    found = verdict_cross_entropy(tensor(0.25).log(), tensor(0.125).log(), tensor(0.75))
    assert found.item() == pytest.approx(2.25 * math.log(2))


def test_a_verdicts_gradient_is_its_error() -> None:
    yes, no = tensor([0.3]).log().requires_grad_(), tensor([0.1]).log().requires_grad_()
    torch.autograd.backward(verdict_loss(yes, no, tensor([0.2])).sum())
    assert_close(yes.grad, tensor([0.75 - 0.2]))
    assert_close(no.grad, tensor([0.2 - 0.75]))


def test_a_sure_verdict_stays_finite_and_can_be_unlearnt() -> None:
    yes, no = tensor([0.0], requires_grad=True), tensor([-80.0])
    loss = verdict_loss(yes, no, tensor([0.0]))
    torch.autograd.backward(loss.sum())
    assert_close(loss.detach(), tensor([80.0]))
    assert_close(yes.grad, tensor([1.0]))


def test_arrays_of_other_shapes_and_clips_of_nothing_are_refused() -> None:
    one, two = torch.ones(1), torch.ones(2)
    with pytest.raises(ShapeError):
        clipped_value_loss(one, two, one, clip=0.2)
    with pytest.raises(ShapeError):
        verdict_value(one, two)
    with pytest.raises(ShapeError):
        verdict_loss(one, one, two)
    with pytest.raises(ConfigError, match="value_clip: expected a number above 0, got 0"):
        clipped_value_loss(one, one, one, clip=0.0)
