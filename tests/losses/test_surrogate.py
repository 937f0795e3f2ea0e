"""The clipped surrogate: closed forms, gradient, laws."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.errors import ConfigError, ShapeError
from turnwise.losses import ClipRange, clipped_surrogate

CLIP = ClipRange(below=0.2, above=0.2)
finite = st.floats(-3, 3, allow_nan=False)


def surrogate(advantage: float, ratio: float, dual_clip: float | None = 3.0) -> float:
    logp_policy_BT = tensor([[ratio]], dtype=torch.float64).log()
    loss_BT = clipped_surrogate(
        logp_policy_BT,
        torch.zeros_like(logp_policy_BT),
        torch.full_like(logp_policy_BT, advantage),
        clip=CLIP,
        dual_clip=dual_clip,
    )
    return float(loss_BT.item())


@pytest.mark.parametrize(
    ("advantage", "ratio", "loss"),
    [
        (-1.0, 5.0, 3.0),  # max(5, 1.2) = 5, cut by the dual clip at 3
        (-1.0, 0.5, 0.8),  # max(.5, .8): clipped from below
        (1.0, 1.5, -1.2),  # max(−1.5, −1.2): the gain is cut
        (1.0, 0.5, -0.5),  # max(−.5, −.8): a lost gain is not cut
    ],
)
def test_clipped_surrogate_by_hand(advantage: float, ratio: float, loss: float) -> None:
    assert surrogate(advantage, ratio) == pytest.approx(loss, abs=1e-12)


def test_without_dual_clip_a_negative_advantage_costs_its_whole_ratio() -> None:
    assert surrogate(-1.0, 5.0, dual_clip=None) == pytest.approx(5.0)


def test_low_and_high_clip_are_separate() -> None:
    ratio_BT = tensor([[0.5, 1.5]])
    advantage_BT = tensor([[-1.0, 1.0]])
    loss_BT = clipped_surrogate(
        ratio_BT.log(),
        torch.zeros(1, 2),
        advantage_BT,
        clip=ClipRange(below=0.1, above=0.4),
        dual_clip=None,
    )
    assert_close(loss_BT, tensor([[0.9, -1.4]]))


def test_a_log_ratio_beyond_twenty_stays_finite_and_gives_no_gradient() -> None:
    logp_policy_BT = tensor([[0.0, -500.0]], requires_grad=True)
    loss_BT = clipped_surrogate(
        logp_policy_BT,
        tensor([[-500.0, 0.0]]),
        tensor([[-1.0, 1.0]]),
        clip=CLIP,
        dual_clip=None,
    )
    torch.autograd.backward(loss_BT.sum())
    assert_close(loss_BT.detach(), tensor([[20.0, -20.0]]).exp() * tensor([[1.0, -1.0]]))
    assert logp_policy_BT.grad is not None
    assert_close(logp_policy_BT.grad, torch.zeros(1, 2))


@settings(deadline=None)
@given(st.lists(finite, min_size=1, max_size=6))
def test_where_policy_and_behaviour_agree_the_loss_is_minus_the_advantage(
    advantages: list[float],
) -> None:
    advantage_BT = tensor([advantages], dtype=torch.float64)
    logp_BT = torch.full_like(advantage_BT, -1.5)
    loss_BT = clipped_surrogate(logp_BT, logp_BT, advantage_BT, clip=CLIP, dual_clip=3.0)
    assert_close(loss_BT, -advantage_BT)


@settings(deadline=None)
@given(advantage=finite, log_ratio=finite)
def test_the_loss_is_never_below_the_unclipped_one_unless_the_dual_clip_holds(
    advantage: float, log_ratio: float
) -> None:
    ratio = float(tensor(log_ratio, dtype=torch.float64).exp())
    unclipped = -advantage * ratio
    dual_limit = 3.0 * abs(advantage) if advantage < 0 else float("inf")
    assert surrogate(advantage, ratio) >= min(unclipped, dual_limit) - 1e-9


def loss_sum(logp_policy_BT: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    logp_behaviour_BT = -torch.rand(2, 5, generator=generator, dtype=torch.float64)
    advantage_BT = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    return clipped_surrogate(
        logp_policy_BT, logp_behaviour_BT, advantage_BT, clip=CLIP, dual_clip=3.0
    ).sum()


def test_autograd_equals_finite_differences() -> None:
    generator = torch.Generator().manual_seed(1)
    logp_BT = -2 * torch.rand(2, 5, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(loss_sum, (logp_BT.requires_grad_(),))


@pytest.mark.parametrize("dual_clip", [1.0, 0.5, -2.0, float("nan")])
def test_a_dual_clip_of_one_or_less_is_refused_by_name(dual_clip: float) -> None:
    with pytest.raises(ConfigError, match="dual_clip"):
        surrogate(1.0, 1.0, dual_clip=dual_clip)


@pytest.mark.parametrize(("below", "above"), [(-0.1, 0.2), (1.1, 0.2), (0.2, -0.1)])
def test_a_clip_range_outside_its_limits_is_refused(below: float, above: float) -> None:
    with pytest.raises(ConfigError, match="epsilon"):
        ClipRange(below=below, above=above)


def test_an_advantage_of_another_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match="advantage_BT"):
        clipped_surrogate(
            torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 1), clip=CLIP, dual_clip=3.0
        )
