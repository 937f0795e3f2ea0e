"""One policy update: what moves it, by how much, and what must not."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.rollouts.toy import backend
from tests.training.small import Recording, judged, settings
from turnwise.backends import AdapterSpec
from turnwise.backends.protocol import Loss, StepStats
from turnwise.tokens import TurnBatch
from turnwise.training.config import TrainConfig
from turnwise.training.policy import PolicyStep, scheduled_learning_rate, update_policy
from turnwise.training.prm import PassLimits

WHOLE = PassLimits(100, 10**6)


def step_data(scale: float = 1.0) -> PolicyStep:
    """Sixteen dialogues in four groups, with an advantage of their own on every token."""
    data = judged(settings())
    noise = torch.Generator().manual_seed(1)
    advantage_BT = torch.randn(data.batch.token_BT.shape, generator=noise)
    advantage_BT = scale * torch.where(data.batch.written_BT, advantage_BT, 0.0)
    return PolicyStep(data.batch, advantage_BT, data.logp_reference_BT, data.group_B)


def train_config(**keys: object) -> TrainConfig:
    return settings({f"train.{name}": value for name, value in keys.items()}).train


def updated(
    data: PolicyStep, config: TrainConfig, limits: PassLimits = WHOLE, step: int = 1
) -> tuple[Recording, dict[str, float]]:
    learner = Recording(backend(), "policy", AdapterSpec())
    metrics = update_policy(
        learner,
        data,
        config,
        temperature=1.0,
        budget_tokens=40,
        limits=limits,
        noise=(0, step),
    )
    return learner, dict(metrics)


def bare(**keys: object) -> TrainConfig:
    """The surrogate alone."""
    return train_config(beta=0.0, entropy_coef=0.0, **keys)


@pytest.mark.parametrize("divisor", ["tokens", "dialogues", "budget", "per_dialogue_mean"])
@pytest.mark.parametrize("limits", [PassLimits(1, 10**6), PassLimits(3, 10**6), PassLimits(16, 60)])
def test_how_a_step_is_split_changes_neither_gradient_nor_metrics(
    divisor: str, limits: PassLimits
) -> None:
    config = train_config(divisor=divisor, beta=0.05, entropy_coef=0.02, num_mini_batches=2)
    whole, expected = updated(step_data(), config)
    split, metrics = updated(step_data(), config, limits)
    assert len(whole.gradients) == len(split.gradients) == 2
    assert whole.gradients[0].any()
    assert_close(split.gradients[0], whole.gradients[0], atol=1e-6, rtol=1e-5)
    assert metrics["entropy"] == pytest.approx(expected["entropy"], rel=1e-3)
    assert metrics["loss/policy"] == pytest.approx(expected["loss/policy"], rel=1e-3)


def test_without_any_advantage_nothing_moves() -> None:
    learner, metrics = updated(step_data(scale=0.0), bare())
    assert not learner.gradients[0].any()
    assert metrics["policy/grad_norm"] == 0.0
    assert torch.equal(learner.logp(step_data().batch), judged(settings()).logp_reference_BT)


def test_a_group_without_signal_gets_no_gradient_but_stays_in_the_divisor() -> None:
    data = step_data()
    is_first_B = data.group_B == 0
    one_group = replace(data, advantage_BT=torch.where(is_first_B[:, None], data.advantage_BT, 0.0))
    alone = PolicyStep(
        data.batch.rows(is_first_B.nonzero()[:, 0]),
        data.advantage_BT[is_first_B],
        None,
        torch.zeros(int(is_first_B.sum()), dtype=torch.int64),
    )
    width = alone.batch.token_BT.shape[1]
    alone = replace(alone, advantage_BT=alone.advantage_BT[:, :width])
    among, _ = updated(one_group, bare())
    by_itself, _ = updated(alone, bare())
    share = alone.batch.num_written / data.batch.num_written
    assert 0 < share < 1
    assert_close(among.gradients[0], share * by_itself.gradients[0], atol=1e-7, rtol=1e-4)


def test_what_stands_where_the_policy_did_not_write_does_not_matter() -> None:
    data = step_data()
    is_written_BT = data.batch.written_BT
    noisy = replace(
        data,
        advantage_BT=torch.where(is_written_BT, data.advantage_BT, 100.0),
        batch=replace(
            data.batch,
            logp_behaviour_BT=torch.where(is_written_BT, data.batch.logp_behaviour_BT, 7.0),
        ),
    )
    expected, _ = updated(data, bare())
    found, _ = updated(noisy, bare())
    assert torch.equal(found.gradients[0], expected.gradients[0])


def test_on_policy_the_loss_is_minus_the_mean_advantage() -> None:
    data = step_data()
    _, metrics = updated(data, bare())
    mean = float(data.advantage_BT.sum() / data.batch.num_written)
    assert metrics["loss/policy"] == pytest.approx(-mean, abs=1e-5)
    assert metrics["policy/clip_frac"] == 0.0
    assert metrics["kl/rollout_vs_train"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["kl/reference"] == pytest.approx(0.0, abs=1e-6)


def test_a_positive_advantage_makes_a_token_likelier() -> None:
    data = step_data()
    liked = replace(data, advantage_BT=data.batch.written_BT.float())
    learner, _ = updated(liked, bare())
    assert data.logp_reference_BT is not None
    gain = learner.logp(data.batch) - data.logp_reference_BT
    assert float(gain[data.batch.written_BT].mean()) > 0


def gradient_norm(data: PolicyStep, config: TrainConfig) -> float:
    return float(updated(data, config)[0].gradients[0].norm())


def test_the_kl_holds_only_a_policy_that_has_left() -> None:
    still = step_data(scale=0.0)
    config = train_config(beta=0.5, entropy_coef=0.0)
    assert gradient_norm(still, config) == pytest.approx(0.0, abs=1e-6)
    assert still.logp_reference_BT is not None
    away = replace(still, logp_reference_BT=still.logp_reference_BT - 0.5)
    assert gradient_norm(away, config) > 1e-3
    assert gradient_norm(away, bare()) == 0.0  # measured all the same
    assert updated(away, bare())[1]["kl/reference"] > 0.05


def test_what_was_not_measured_is_not_reported() -> None:
    unknown = replace(step_data(), logp_reference_BT=None)
    _, metrics = updated(unknown, bare())
    assert not {"kl/reference", "entropy"} & set(metrics)


def test_an_entropy_bonus_flattens_the_policy() -> None:
    data = step_data(scale=0.0)
    config = train_config(beta=0.0, entropy_coef=0.5)
    learner, metrics = updated(data, config)

    def entropy() -> float:
        weight_BT = torch.zeros(data.batch.token_BT.shape)
        return learner.forward_backward(
            data.batch, lambda logp_BT: 0 * logp_BT.sum(), entropy_weight_BT=weight_BT
        )["entropy"]

    assert entropy() > metrics["entropy"]


class Hearing(Recording):
    """A table that remembers which dialogues each optimizer step saw."""

    def __init__(self) -> None:
        super().__init__(backend(), "policy", AdapterSpec())
        self.steps: list[list[list[int]]] = [[]]

    def forward_backward(
        self,
        batch: TurnBatch,
        loss: Loss,
        *,
        temperature: float = 1.0,
        entropy_weight_BT: Tensor | None = None,
    ) -> Mapping[str, float]:
        width = int(batch.length_B.max())
        self.steps[-1] += batch.token_BT[:, :width].tolist()
        return super().forward_backward(
            batch, loss, temperature=temperature, entropy_weight_BT=entropy_weight_BT
        )

    def optim_step(self, learning_rate: float) -> StepStats:
        self.steps.append([])
        return super().optim_step(learning_rate)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_mini_batches_hold_whole_groups(number: int) -> None:
    data, learner = step_data(), Hearing()
    # The first token of each row tells its group: this test alone writes it there.
    token_BT = data.batch.token_BT.clone()
    token_BT[:, 0] = data.group_B
    marked = replace(data, batch=replace(data.batch, token_BT=token_BT))
    update_policy(
        learner,
        marked,
        bare(num_mini_batches=number),
        temperature=1.0,
        budget_tokens=40,
        limits=PassLimits(3, 10**6),
        noise=(0, 1),
    )
    groups = [sorted(row[0] for row in rows) for rows in learner.steps[:-1]]
    assert len(groups) == number
    assert sorted(sum(groups, [])) == sorted(data.group_B.tolist())
    assert sum(len(set(step)) for step in groups) == 4  # no group in two steps


def clipped_share(ratio: float) -> float:
    data = step_data()
    shift = torch.log(torch.tensor(ratio))
    behaviour_BT = data.batch.logp_behaviour_BT - shift * data.batch.written_BT
    moved = replace(data, batch=replace(data.batch, logp_behaviour_BT=behaviour_BT))
    return updated(moved, bare())[1]["policy/clip_frac"]


def test_the_share_of_clipped_tokens_is_counted() -> None:
    assert clipped_share(1.19) == 0.0
    assert clipped_share(1.21) == 1.0
    assert clipped_share(0.81) == 0.0
    assert clipped_share(0.79) == 1.0


def test_a_linear_rate_falls_to_nothing_and_a_constant_one_stays() -> None:
    linear = TrainConfig(learning_rate=0.4, max_steps=4, lr_scheduler_type="linear")
    rates = [scheduled_learning_rate(linear, step) for step in (1, 2, 3, 4)]
    assert rates == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert scheduled_learning_rate(TrainConfig(learning_rate=0.4), 7) == 0.4
