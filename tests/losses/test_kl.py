"""KL estimators: closed forms, expectations, gradients, the turn reward."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.errors import LogProbError, ShapeError
from turnwise.losses import kl_k1, kl_k2, kl_k3, kl_turn_reward

Estimator = Callable[[Tensor, Tensor], Tensor]


def test_estimators_by_hand() -> None:
    # policy −1, reference −1.5: d = −.5; exp(−.5) + .5 − 1 = .106531
    logp_policy_BT, logp_reference_BT = tensor([[-1.0]]), tensor([[-1.5]])
    assert kl_k1(logp_policy_BT, logp_reference_BT).item() == pytest.approx(0.5)
    assert kl_k2(logp_policy_BT, logp_reference_BT).item() == pytest.approx(0.125)
    assert kl_k3(logp_policy_BT, logp_reference_BT).item() == pytest.approx(0.106531, abs=1e-6)


def test_k3_is_cut_at_ten_and_survives_any_distance() -> None:
    # d = 5: 148.4 − 6 > 10;  d = −500, clamped to −20: 20 − 1 + e^−20 > 10
    kl_BT = kl_k3(tensor([[-5.0, 0.0]]), tensor([[0.0, -500.0]]))
    assert_close(kl_BT, tensor([[10.0, 10.0]]))


def test_k3_of_almost_equal_models_is_not_rounding_noise() -> None:
    # d = 1e-4: d²/2 = 5e-9, below the rounding of exp(d) − d − 1 in float32
    kl = kl_k3(tensor([-1.0001]), tensor([-1.0]))
    assert kl.item() == pytest.approx(5e-9, rel=0.2)


@settings(deadline=None)
@given(st.lists(st.floats(-30, 0), min_size=2, max_size=6))
def test_k2_and_k3_are_never_negative_and_zero_where_the_models_agree(logps: list[float]) -> None:
    logp_BT = tensor([logps], dtype=torch.float64)
    for estimator in (kl_k2, kl_k3):
        assert bool((estimator(logp_BT, logp_BT.flip(1)) >= 0).all())
        assert_close(estimator(logp_BT, logp_BT), torch.zeros_like(logp_BT))


@pytest.mark.parametrize("estimator", [kl_k1, kl_k3])
def test_the_mean_over_the_policys_own_tokens_is_the_kl_divergence(estimator: Estimator) -> None:
    logp_policy_V = tensor([1.0, 0.5, -0.3, 0.0], dtype=torch.float64).log_softmax(0)
    logp_reference_V = tensor([0.2, 0.1, 0.4, -1.0], dtype=torch.float64).log_softmax(0)
    exact = (logp_policy_V.exp() * (logp_policy_V - logp_reference_V)).sum()
    mean = (logp_policy_V.exp() * estimator(logp_policy_V, logp_reference_V)).sum()
    assert_close(mean, exact)


def test_the_mean_gradient_of_k1_as_a_loss_is_zero_and_of_k2_that_of_the_kl() -> None:
    logit_V = tensor([1.0, 0.5, -0.3, 0.0], dtype=torch.float64, requires_grad=True)
    logp_reference_V = tensor([0.2, 0.1, 0.4, -1.0], dtype=torch.float64).log_softmax(0)
    logp_V = logit_V.log_softmax(0)
    p_V = logp_V.detach().exp()

    def gradient(loss: Tensor) -> Tensor:
        return torch.autograd.grad(loss, logit_V, retain_graph=True)[0]

    exact = gradient((logp_V.exp() * (logp_V - logp_reference_V)).sum())
    assert_close(gradient((p_V * kl_k1(logp_V, logp_reference_V)).sum()), torch.zeros_like(exact))
    assert_close(gradient((p_V * kl_k2(logp_V, logp_reference_V)).sum()), exact)


@pytest.mark.parametrize("estimator", [kl_k1, kl_k2, kl_k3])
def test_autograd_equals_finite_differences(estimator: Estimator) -> None:
    generator = torch.Generator().manual_seed(3)
    logp_BT = (-torch.rand(2, 4, generator=generator, dtype=torch.float64)).requires_grad_()
    logp_reference_BT = -torch.rand(2, 4, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda logp: estimator(logp, logp_reference_BT), (logp_BT,))


def test_kl_turn_reward_by_hand() -> None:
    # turn 0: (−1 + 1.5) + (−2 + 2.5) = 1;  turn 1: −1 + .5 = −.5;  user tokens may hold anything
    logp_behaviour_BT = tensor([[float("nan"), -1.0, -2.0, 7.0, -1.0]])
    logp_reference_BT = tensor([[0.0, -1.5, -2.5, float("inf"), -0.5]])
    turn_of_token_BT = tensor([[-1, 0, 0, -1, 1]])
    reward_BK = kl_turn_reward(
        logp_behaviour_BT, logp_reference_BT, turn_of_token_BT, kl_coef=0.1, num_turns=3
    )
    assert_close(reward_BK, tensor([[-0.1, 0.05, 0.0]]))


def test_a_reference_that_is_not_finite_where_written_is_named_with_its_place() -> None:
    logp_reference_BT = tensor([[0.0, -1.0], [0.0, float("-inf")]])
    with pytest.raises(LogProbError, match="logp_reference_BT, dialogue 1, position 1"):
        kl_turn_reward(
            torch.zeros(2, 2), logp_reference_BT, tensor([[-1, 0], [-1, 0]]), kl_coef=0.1
        )


def test_arrays_of_different_shapes_are_refused() -> None:
    with pytest.raises(ShapeError):
        kl_k3(torch.zeros(2, 3), torch.zeros(1, 3))
