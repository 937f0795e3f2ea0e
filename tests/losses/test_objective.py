"""The divisor and the objective: closed forms, and splitting changes nothing."""

from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.errors import ConfigError, EmptyStepError, LogProbError, ShapeError
from turnwise.losses import (
    ClipRange,
    Divisor,
    entropy_weights,
    kl_k3,
    kl_objective,
    loss_divisor,
    loss_weights,
    policy_objective,
)

KINDS: list[Divisor] = ["tokens", "dialogues", "budget", "per_dialogue_mean"]
CLIP = ClipRange()


def weights(written_BT: Tensor, kind: Divisor) -> Tensor:
    divisor = loss_divisor(written_BT.sum(dim=1), kind=kind, max_dialogue_tokens=50)
    return loss_weights(written_BT, kind=kind, divisor=divisor)


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        ("tokens", 2.5),  # (10·1 + 30·3) / 40
        ("dialogues", 50.0),  # 100 / 2
        ("budget", 1.0),  # 100 / (2·50)
        ("per_dialogue_mean", 2.0),  # (1 + 3) / 2
    ],
)
def test_dialogues_of_ten_and_thirty_tokens_with_loss_one_and_three(
    kind: Divisor, loss: float
) -> None:
    written_BT = torch.arange(30) < tensor([[10], [30]])
    logp_BT = torch.full((2, 30), -1.0)
    advantage_BT = tensor([[-1.0], [-3.0]]).expand(2, 30)
    objective = policy_objective(
        logp_BT, logp_BT, advantage_BT, weights(written_BT, kind), clip=CLIP, dual_clip=3.0
    )
    assert objective.item() == pytest.approx(loss, rel=1e-6)


def random_step(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """logp_policy, logp_behaviour, logp_reference, advantage (float64) and written_BT of 6 x 9."""
    generator = torch.Generator().manual_seed(seed)
    logp = [-2 * torch.rand(6, 9, generator=generator, dtype=torch.float64) for _ in range(3)]
    advantage_BT = torch.randn(6, 9, generator=generator, dtype=torch.float64)
    written_BT = torch.rand(6, 9, generator=generator) < 0.6
    written_BT[:, 4] = True  # no empty dialogue
    return logp[0], logp[1], logp[2], advantage_BT, written_BT


def loss_and_gradient(seed: int, kind: Divisor, parts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Loss and gradient of one step whose rows go through the objective in `parts`."""
    logp_policy_BT, logp_behaviour_BT, logp_reference_BT, advantage_BT, written_BT = random_step(
        seed
    )
    logp_policy_BT.requires_grad_()
    weight_BT = weights(written_BT, kind)
    total = torch.zeros((), dtype=torch.float64)
    for rows in parts:
        loss = policy_objective(
            logp_policy_BT[rows],
            logp_behaviour_BT[rows],
            advantage_BT[rows],
            weight_BT[rows],
            clip=CLIP,
            dual_clip=3.0,
        ) + kl_objective(
            logp_policy_BT[rows],
            logp_reference_BT[rows],
            weight_BT[rows],
            kl_coef=0.1,
            estimator=kl_k3,
        )
        torch.autograd.backward(loss)
        total = total + loss.detach()
    assert logp_policy_BT.grad is not None
    return total, logp_policy_BT.grad


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(KINDS),
    order=st.permutations(range(6)),
    size=st.integers(1, 5),
)
def test_loss_and_gradient_do_not_depend_on_how_the_step_is_split(
    seed: int, kind: Divisor, order: list[int], size: int
) -> None:
    parts = [tensor(order[i : i + size]) for i in range(0, 6, size)]
    loss, gradient_BT = loss_and_gradient(seed, kind, parts)
    whole_loss, whole_gradient_BT = loss_and_gradient(seed, kind, [torch.arange(6)])
    assert_close(loss, whole_loss, atol=1e-6, rtol=0)
    assert_close(gradient_BT, whole_gradient_BT, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_divisors_of_two_ranks_add_up(kind: Divisor) -> None:
    num_written_B = tensor([3, 0, 5, 1])
    parts = [
        loss_divisor(part_B, kind=kind, max_dialogue_tokens=8)
        for part_B in (num_written_B[:2], num_written_B[2:])
    ]
    assert sum(parts) == loss_divisor(num_written_B, kind=kind, max_dialogue_tokens=8)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(KINDS),
    left=st.integers(0, 3),
    right=st.integers(0, 3),
)
def test_padding_on_any_side_changes_nothing(
    seed: int, kind: Divisor, left: int, right: int
) -> None:
    logp_policy_BT, logp_behaviour_BT, _, advantage_BT, written_BT = random_step(seed)

    def pad(x_BT: Tensor, value: float) -> Tensor:
        return torch.nn.functional.pad(x_BT, (left, right), value=value)

    padded_written_BT = pad(written_BT.int(), 0).bool()
    assert_close(
        policy_objective(
            pad(logp_policy_BT, float("nan")),
            pad(logp_behaviour_BT, float("inf")),
            pad(advantage_BT, 7.0),
            weights(padded_written_BT, kind),
            clip=CLIP,
            dual_clip=3.0,
        ),
        policy_objective(
            logp_policy_BT,
            logp_behaviour_BT,
            advantage_BT,
            weights(written_BT, kind),
            clip=CLIP,
            dual_clip=3.0,
        ),
    )


def test_tokens_not_written_get_no_gradient_whatever_they_hold() -> None:
    nan = float("nan")
    logp_policy_BT = tensor([[nan, -1.0, float("-inf")]], requires_grad=True)
    weight_BT = tensor([[0.0, 0.5, 0.0]])
    logp_other_BT = tensor([[nan, -1.2, 3.0]])
    loss = policy_objective(
        logp_policy_BT, logp_other_BT, tensor([[nan, 1.0, nan]]), weight_BT, clip=CLIP, dual_clip=3
    ) + kl_objective(logp_policy_BT, logp_other_BT, weight_BT, kl_coef=1.0, estimator=kl_k3)
    torch.autograd.backward(loss)
    assert logp_policy_BT.grad is not None
    # the clip holds at ρ = e^.2 > 1.2, so only k3's gradient is left: .5·(1 − e^−.2)
    assert_close(logp_policy_BT.grad, tensor([[0.0, 0.0906346, 0.0]]))


def test_kl_objective_by_hand() -> None:
    # k3(−1, −1.5) = .106531 on two tokens that weigh .5 each
    loss = kl_objective(
        tensor([[-1.0, -1.0]]),
        tensor([[-1.5, -1.5]]),
        tensor([[0.5, 0.5]]),
        kl_coef=0.001,
        estimator=kl_k3,
    )
    assert loss.item() == pytest.approx(0.000106531, abs=1e-9)


def test_autograd_of_the_objective_equals_finite_differences() -> None:
    logp_policy_BT, logp_behaviour_BT, _, advantage_BT, written_BT = random_step(4)
    weight_BT = weights(written_BT, "tokens").double()

    def objective(logp_BT: Tensor) -> Tensor:
        return policy_objective(
            logp_BT, logp_behaviour_BT, advantage_BT, weight_BT, clip=CLIP, dual_clip=3.0
        )

    assert torch.autograd.gradcheck(objective, (logp_policy_BT.requires_grad_(),))


def test_entropy_weights_are_the_token_weights_times_the_coefficient() -> None:
    weight_BT = weights(tensor([[True, False], [True, True]]), "per_dialogue_mean")
    assert_close(entropy_weights(weight_BT, entropy_coef=0.1), tensor([[0.05, 0], [0.025, 0.025]]))


def test_a_dialogue_without_a_written_token_weighs_nothing_and_is_not_counted() -> None:
    written_BT = tensor([[True, True], [False, False]])
    assert_close(weights(written_BT, "per_dialogue_mean"), tensor([[0.5, 0.5], [0.0, 0.0]]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_written_B", [tensor([0, 0]), torch.zeros(0, dtype=torch.int64)])
def test_a_step_without_a_token_is_named_before_anything_is_divided(
    kind: Divisor, num_written_B: Tensor
) -> None:
    with pytest.raises(EmptyStepError, match="skip this step"):
        loss_divisor(num_written_B, kind=kind, max_dialogue_tokens=8)


def test_a_budget_needs_its_limit() -> None:
    with pytest.raises(ConfigError, match="max_dialogue_tokens"):
        loss_divisor(tensor([3]), kind="budget")


def test_an_unknown_divisor_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"per_dialogue_mean.*'mean'"):
        loss_divisor(tensor([3]), kind=cast(Divisor, "mean"))


@pytest.mark.parametrize("name", ["logp_policy_BT", "logp_behaviour_BT"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_log_probability_not_finite_where_written_is_named_with_its_place(
    name: str, value: float
) -> None:
    arrays = {"logp_policy_BT": torch.zeros(2, 3), "logp_behaviour_BT": torch.zeros(2, 3)}
    arrays[name][1, 2] = value
    with pytest.raises(LogProbError, match=f"{name}, dialogue 1, position 2"):
        policy_objective(
            arrays["logp_policy_BT"],
            arrays["logp_behaviour_BT"],
            torch.zeros(2, 3),
            torch.full((2, 3), 0.1),
            clip=CLIP,
            dual_clip=3.0,
        )


def test_a_reference_not_finite_where_written_is_named_with_its_place() -> None:
    with pytest.raises(LogProbError, match="logp_reference_BT, dialogue 0, position 0"):
        kl_objective(
            torch.zeros(1, 1),
            tensor([[float("nan")]]),
            torch.ones(1, 1),
            kl_coef=0.1,
            estimator=kl_k3,
        )


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match="weight_BT"):
        policy_objective(
            torch.zeros(1, 2),
            torch.zeros(1, 2),
            torch.zeros(1, 2),
            torch.zeros(1, 3),
            clip=CLIP,
            dual_clip=None,
        )
