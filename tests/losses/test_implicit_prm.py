"""The implicit PRM's loss: closed forms, gradient, dialogues without a judgement."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.errors import ConfigError, EmptyStepError, LogProbError, OutcomeError, ShapeError
from turnwise.losses import (
    base_rate_bce,
    bias_gradient,
    implicit_prm_bce,
    implicit_prm_logits,
    initial_bias,
    prm_token_weights,
)

NAN = float("nan")


def test_logit_loss_and_weight_by_hand() -> None:
    # β .05, Σl 20, b −.5: z = .5
    logp_prm_BT = tensor([[9.0, 12.0, 8.0]], dtype=torch.float64).repeat(3, 1)
    turn_of_token_BT = tensor([[-1, 0, 1]]).repeat(3, 1)
    z_B = implicit_prm_logits(
        logp_prm_BT, torch.zeros_like(logp_prm_BT), turn_of_token_BT, beta=0.05, bias=-0.5
    )
    outcome_B = tensor([1.0, 0.3, 0.0])
    is_valid_B = torch.ones(3, dtype=torch.bool)
    assert_close(z_B, torch.full((3,), 0.5, dtype=torch.float64))
    assert_close(
        implicit_prm_bce(z_B, outcome_B, is_valid_B),
        tensor([0.474077, 0.824077, 0.974077], dtype=torch.float64),
        atol=1e-6,
        rtol=0,
    )
    weight_BT = prm_token_weights(
        z_B, outcome_B, is_valid_B, turn_of_token_BT, beta=0.05, num_valid=3
    )
    assert_close(
        3 * weight_BT[:, 1], tensor([0.018877, -0.016123, -0.031123]).double(), atol=1e-6, rtol=0
    )
    assert_close(weight_BT[:, 0], torch.zeros(3, dtype=torch.float64))


def test_a_zero_adapter_without_bias_costs_log_two_whatever_the_outcome() -> None:
    logp_BT = -torch.rand(2, 4, generator=torch.Generator().manual_seed(0))
    z_B = implicit_prm_logits(
        logp_BT, logp_BT.clone(), torch.zeros(2, 4, dtype=torch.int64), beta=0.1, bias=0.0
    )
    assert_close(z_B, torch.zeros(2), atol=0, rtol=0)
    loss_B = implicit_prm_bce(z_B, tensor([1.0, 0.3]), tensor([True, True]))
    assert_close(loss_B, tensor([0.693147, 0.693147]), atol=1e-6, rtol=0)


class Toy(torch.nn.Module):
    """A language model without context: one log-probability table."""

    def __init__(self) -> None:
        super().__init__()
        self.logit_V = torch.nn.Parameter(torch.linspace(-1, 1, 5, dtype=torch.float64))

    def logp(self, token_BT: Tensor) -> Tensor:
        return self.logit_V.log_softmax(0)[token_BT]


def test_weighted_cross_entropy_has_the_gradient_of_the_mean_bce() -> None:
    generator = torch.Generator().manual_seed(5)
    token_BT = torch.randint(0, 5, (6, 7), generator=generator)
    turn_of_token_BT = torch.randint(-1, 3, (6, 7), generator=generator)
    outcome_B = tensor([1.0, 0.0, 0.4, NAN, 1.0, 0.0])
    is_valid_B = ~outcome_B.isnan()
    model = Toy()
    bias = torch.tensor(-0.7, dtype=torch.float64, requires_grad=True)
    logp_reference_BT = torch.full((6, 7), -math.log(5), dtype=torch.float64)
    logp_BT = model.logp(token_BT)
    z_B = implicit_prm_logits(logp_BT, logp_reference_BT, turn_of_token_BT, beta=0.3, bias=bias)

    loss = implicit_prm_bce(z_B, outcome_B, is_valid_B).sum() / 5
    exact_V, exact_bias = torch.autograd.grad(loss, (model.logit_V, bias), retain_graph=True)
    weight_BT = prm_token_weights(
        z_B.detach(), outcome_B, is_valid_B, turn_of_token_BT, beta=0.3, num_valid=5
    )
    (weighted_V,) = torch.autograd.grad(-(weight_BT * logp_BT).sum(), model.logit_V)
    assert float(exact_V.abs().max()) > 1e-3
    assert_close(weighted_V, exact_V, atol=1e-6, rtol=0)
    assert_close(
        bias_gradient(z_B.detach(), outcome_B, is_valid_B, num_valid=5),
        exact_bias,
        atol=1e-6,
        rtol=0,
    )


def test_autograd_equals_finite_differences() -> None:
    generator = torch.Generator().manual_seed(2)
    logp_BT = -torch.rand(3, 4, generator=generator, dtype=torch.float64)
    turn_of_token_BT = tensor([[-1, 0, 0, 1], [0, -1, -1, 1], [-1, -1, 0, 0]])
    bias = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)

    def loss(logp_prm_BT: Tensor, bias: Tensor) -> Tensor:
        z_B = implicit_prm_logits(
            logp_prm_BT, logp_BT.detach(), turn_of_token_BT, beta=0.5, bias=bias
        )
        return implicit_prm_bce(z_B, tensor([1.0, 0.2, 0.0]), tensor([True, True, True]))

    start_BT = (logp_BT + 0.3).requires_grad_()
    assert torch.autograd.gradcheck(loss, (start_BT, bias))


def test_a_dialogue_without_judgement_costs_nothing_and_teaches_nothing() -> None:
    z_B = tensor([0.5, NAN, 2.0], requires_grad=True)
    outcome_B, is_valid_B = tensor([1.0, NAN, NAN]), tensor([True, False, False])
    loss_B = implicit_prm_bce(z_B, outcome_B, is_valid_B)
    torch.autograd.backward(loss_B.sum())
    assert z_B.grad is not None
    assert_close(loss_B.detach(), tensor([0.474077, 0.0, 0.0]), atol=1e-6, rtol=0)
    assert_close(z_B.grad, tensor([-0.377541, 0.0, 0.0]), atol=1e-6, rtol=0)
    weight_BT = prm_token_weights(
        z_B.detach(),
        outcome_B,
        is_valid_B,
        torch.zeros(3, 2, dtype=torch.int64),
        beta=1.0,
        num_valid=1,
    )
    assert_close(weight_BT[1:], torch.zeros(2, 2))


def test_a_judged_dialogue_that_is_not_valid_teaches_nothing() -> None:
    loss_B = implicit_prm_bce(tensor([0.5, 0.5]), tensor([1.0, 1.0]), tensor([True, False]))
    assert loss_B[1].item() == 0.0


def test_tokens_not_written_get_no_gradient_whatever_they_hold() -> None:
    logp_prm_BT = tensor([[NAN, -1.0, float("inf")]], requires_grad=True)
    z_B = implicit_prm_logits(
        logp_prm_BT, tensor([[0.0, -2.0, NAN]]), tensor([[-1, 0, -1]]), beta=0.5, bias=0.0
    )
    torch.autograd.backward(z_B.sum())
    assert z_B.item() == pytest.approx(0.5)
    assert logp_prm_BT.grad is not None
    assert_close(logp_prm_BT.grad, tensor([[0.0, 0.5, 0.0]]))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), order=st.permutations(range(5)), left=st.integers(0, 3))
def test_padding_and_the_order_of_dialogues_change_nothing(
    seed: int, order: list[int], left: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logp_BT = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64)
    turn_of_token_BT = torch.randint(-1, 3, (5, 6), generator=generator)
    z_B = implicit_prm_logits(logp_BT[0], logp_BT[1], turn_of_token_BT, beta=0.1, bias=0.3)
    padded_BT = torch.nn.functional.pad(logp_BT, (left, 1), value=NAN)[:, order]
    padded_turn_BT = torch.nn.functional.pad(turn_of_token_BT, (left, 1), value=-1)[order]
    moved_B = implicit_prm_logits(padded_BT[0], padded_BT[1], padded_turn_BT, beta=0.1, bias=0.3)
    assert_close(moved_B, z_B[order])


@pytest.mark.parametrize(
    ("outcomes", "bias"),
    [
        ([1.0, 0.0, 0.0, 0.0], -1.098612),  # logit(.25)
        ([0.0, 0.0], -2.944439),  # logit(.05): a first batch of failures
        ([1.0, NAN, 1.0], 2.944439),  # NaN is not counted
    ],
)
def test_the_bias_starts_at_the_logit_of_the_base_rate(outcomes: list[float], bias: float) -> None:
    assert initial_bias(tensor(outcomes)) == pytest.approx(bias, abs=1e-6)


def test_the_bce_of_the_base_rate_by_hand() -> None:
    # ȳ = .25: −.25·ln .25 − .75·ln .75 = .346574 + .215762
    assert base_rate_bce(tensor([1.0, 0.0, NAN, 0.0, 0.0])) == pytest.approx(0.562335, abs=1e-6)
    assert base_rate_bce(tensor([1.0, 1.0])) == 0.0


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8))
def test_no_constant_logit_beats_the_base_rate(outcomes: list[float]) -> None:
    outcome_B = tensor(outcomes, dtype=torch.float64)
    is_valid_B = torch.ones(len(outcomes), dtype=torch.bool)
    for z in (-2.0, -0.5, 0.0, 1.0):
        loss_B = implicit_prm_bce(torch.full_like(outcome_B, z), outcome_B, is_valid_B)
        assert base_rate_bce(outcome_B) <= loss_B.mean().item() + 1e-9


@pytest.mark.parametrize("outcome", [1.5, -0.1, float("inf")])
def test_an_outcome_outside_zero_to_one_is_refused_never_clamped(outcome: float) -> None:
    outcome_B = tensor([0.5, outcome])
    with pytest.raises(OutcomeError, match="dialogue 1"):
        implicit_prm_bce(torch.zeros(2), outcome_B, tensor([True, False]))
    with pytest.raises(OutcomeError, match="dialogue 1"):
        initial_bias(outcome_B)


def test_a_valid_dialogue_without_outcome_is_a_contradiction() -> None:
    with pytest.raises(OutcomeError, match="dialogue 0"):
        implicit_prm_bce(torch.zeros(1), tensor([NAN]), tensor([True]))


@pytest.mark.parametrize("name", ["logp_prm_BT", "logp_reference_BT"])
def test_a_log_probability_not_finite_where_written_is_named_with_its_place(name: str) -> None:
    arrays = {"logp_prm_BT": torch.zeros(2, 2), "logp_reference_BT": torch.zeros(2, 2)}
    arrays[name][1, 0] = NAN
    with pytest.raises(LogProbError, match=f"{name}, dialogue 1, position 0"):
        implicit_prm_logits(
            arrays["logp_prm_BT"],
            arrays["logp_reference_BT"],
            torch.zeros(2, 2, dtype=torch.int64),
            beta=0.1,
            bias=0.0,
        )


@pytest.mark.parametrize("beta", [0.0, -0.1, NAN])
def test_a_beta_of_zero_or_less_is_refused_by_name(beta: float) -> None:
    turn_of_token_BT = torch.zeros(1, 1, dtype=torch.int64)
    with pytest.raises(ConfigError, match="prm.beta"):
        implicit_prm_logits(
            torch.zeros(1, 1), torch.zeros(1, 1), turn_of_token_BT, beta=beta, bias=0.0
        )
    with pytest.raises(ConfigError, match="prm.beta"):
        prm_token_weights(
            torch.zeros(1), torch.ones(1), tensor([True]), turn_of_token_BT, beta=beta, num_valid=1
        )


def test_a_step_without_a_judged_dialogue_is_named() -> None:
    nothing = tensor([NAN, NAN])
    for function in (initial_bias, base_rate_bce):
        with pytest.raises(EmptyStepError, match="judged"):
            function(nothing)
    with pytest.raises(EmptyStepError, match="valid dialogue"):
        bias_gradient(torch.zeros(2), nothing, tensor([False, False]), num_valid=0)


def test_outcomes_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match="outcome_B"):
        implicit_prm_bce(torch.zeros(2), torch.zeros(3), torch.ones(2, dtype=torch.bool))
