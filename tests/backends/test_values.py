"""What every critic must do, whatever states its head reads, and what the head learns.

The backends are those of `test_conformance`.
"""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests.backends.test_conformance import (
    KINDS,
    TOKENIZER,
    VOCAB,
    Kind,
    batch_of,
    local,
    mean_loss,
    train,
)
from turnwise.backends import AdapterSpec, Critic, Tokenizer
from turnwise.backends.fake import FakeBackend, FakeLearner
from turnwise.backends.local import AdapterLearner, FullWeightsLearner, LocalBackend
from turnwise.backends.tiny import tiny_model
from turnwise.backends.values import HeadLearner, ValueLearner, constant_head, head_weights
from turnwise.errors import CheckpointError, ConfigError, ShapeError, TrainingError
from turnwise.tokens import Tree


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def critic_of(kind: Kind, *, start: float = 0.0, seed: int = 0) -> Critic:
    return kind.make().create_critic("critic", replace(kind.spec, seed=seed), start=start)


def fit_values(critic: Critic, steps: int = 3, seed: int = 0) -> None:
    """Towards the turn's index."""
    batch = batch_of(seed=seed)
    target_BT = batch.turn_of_token_BT.clamp(min=0).float()
    for _ in range(steps):
        critic.forward_backward(batch, lambda value_BT: (value_BT - target_BT).square().sum() / 40)
        critic.optim_step(0.02)


def test_a_new_critic_says_the_same_everywhere(kind: Kind) -> None:
    written_BT = batch_of().written_BT
    for start in (0.0, 0.375):
        value_BT = critic_of(kind, start=start).values(batch_of())
        assert torch.equal(value_BT, written_BT * start)
        assert value_BT.dtype == torch.float32


def test_a_value_never_sees_the_token_it_stands_before(kind: Kind) -> None:
    critic, batch = critic_of(kind), batch_of()
    fit_values(critic)
    before = critic.values(batch)
    other_BT = batch.token_BT.clone()
    other_BT[:, 4] = torch.where(other_BT[:, 4] == 9, 10, 9)
    after = critic.values(replace(batch, token_BT=other_BT))
    assert_close(after[:, :5], before[:, :5], atol=1e-6, rtol=1e-6)
    assert not torch.isclose(after[:, 5], before[:, 5]).any()


def test_a_critic_does_not_disturb_other_learners(kind: Kind) -> None:
    alone = kind.make().create("policy", kind.spec)
    train(alone, steps=2)
    backend = kind.make()
    policy, critic = backend.create("policy", kind.spec), backend.create_critic("c", kind.spec)
    for _ in range(2):
        policy.forward_backward(batch_of(), mean_loss)
        critic.forward_backward(batch_of(seed=9), lambda value_BT: (value_BT - 1).square().sum())
        critic.values(batch_of())
        policy.optim_step(0.02)
        critic.optim_step(0.02)
    assert_close(policy.logp(batch_of()), alone.logp(batch_of()), atol=1e-6, rtol=1e-6)
    fresh = kind.make().reference().logp(batch_of())
    assert torch.equal(backend.reference().logp(batch_of()), fresh)


def test_a_critic_is_not_disturbed_by_other_learners(kind: Kind) -> None:
    backend = kind.make()
    critic, policy = backend.create_critic("c", kind.spec), backend.create("policy", kind.spec)
    fit_values(critic)
    before = critic.values(batch_of())
    assert bool((before != 0).any())
    train(policy)
    assert torch.equal(critic.values(batch_of()), before)


def test_save_step_load_step_gives_the_same_values(kind: Kind, tmp_path: Path) -> None:
    critic = critic_of(kind)
    fit_values(critic, steps=2)
    critic.save(tmp_path / "saved")
    fit_values(critic, steps=2, seed=7)
    expected = critic.values(batch_of())
    for resumed in (critic, critic_of(kind, start=0.5, seed=1)):
        resumed.load(tmp_path / "saved")
        fit_values(resumed, steps=2, seed=7)
        assert torch.equal(resumed.values(batch_of()), expected)


def test_a_damaged_critic_is_named_and_changes_nothing(kind: Kind, tmp_path: Path) -> None:
    critic = critic_of(kind)
    fit_values(critic)
    critic.save(tmp_path)
    before = critic.values(batch_of())
    victim = next(path for path in tmp_path.glob("*model.safetensors"))
    victim.write_bytes(victim.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match=victim.name):
        critic.load(tmp_path)
    assert torch.equal(critic.values(batch_of()), before)


def test_splitting_a_batch_changes_no_gradient_of_a_critic(kind: Kind) -> None:
    found = []
    for split in ([[0, 1, 2, 3, 4, 5]], [[5], [4, 2], [3, 1, 0]]):
        critic, batch = critic_of(kind), batch_of(6)
        fit_values(critic)
        for rows in split:
            part = batch.rows(rows)
            critic.forward_backward(part, lambda value_BT: (value_BT - 1).square().sum() / 48)
        found.append((critic.optim_step(0.01).grad_norm, critic.values(batch)))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-4)
    assert_close(found[1][1], found[0][1], atol=1e-4, rtol=1e-4)


def test_padding_and_row_order_change_no_value(kind: Kind) -> None:
    critic, batch = critic_of(kind), batch_of()
    fit_values(critic)
    plain, order = critic.values(batch), [3, 0, 4, 1, 2]
    turned = critic.values(batch.rows(order))
    assert_close(turned, plain[order][:, : turned.shape[1]], atol=1e-5, rtol=1e-5)


def test_values_that_are_not_finite_are_named_and_not_learned_from(kind: Kind) -> None:
    critic = critic_of(kind)
    critic.forward_backward(batch_of(), lambda value_BT: (value_BT - 1).square().sum())
    critic.optim_step(float("nan"))
    with pytest.raises(TrainingError, match=r"critic: expected finite values.* dialogue \d"):
        critic.values(batch_of())
    with pytest.raises(TrainingError, match="critic: expected finite values"):
        critic.forward_backward(batch_of(), torch.sum)


def test_packed_rows_are_refused(kind: Kind) -> None:
    batch, column_BT = batch_of(), torch.arange(22).expand(5, 22)
    tree = Tree(column_BT, torch.full((5, 22), 22), column_BT - 1)
    packed = replace(batch.rows(range(5)), tree=tree.rows(torch.arange(5), batch.token_BT.shape[1]))
    with pytest.raises(ShapeError, match="for a head's values, found packed rows"):
        critic_of(kind).values(packed)


def test_a_critics_passes_over_dialogues_are_counted() -> None:
    for kind in KINDS.values():
        backend = kind.make()
        assert isinstance(backend, LocalBackend | FakeBackend)
        critic = backend.create_critic("critic", kind.spec)
        critic.forward_backward(batch_of(5), torch.sum)
        critic.values(batch_of(4))
        assert backend.passes == {("critic", "train"): 5, ("critic", "score"): 4}


def test_a_critics_role_is_taken_once() -> None:
    on = local()
    on.create_critic("critic", AdapterSpec())
    with pytest.raises(ConfigError, match="adapter 'critic' already"):
        on.create("critic", AdapterSpec())


def squares(value_BT: Tensor) -> Tensor:
    return (value_BT - 1).square().sum() / 40


@pytest.mark.parametrize("learner", [AdapterLearner, FullWeightsLearner])
def test_gradients_are_those_of_finite_differences(
    learner: type[AdapterLearner] | type[FullWeightsLearner],
) -> None:
    on = local()
    head = constant_head(64, (0.25,), torch.device("cpu"))
    body = learner(on, "critic", AdapterSpec(rank=4), head_weights(head))
    critic = ValueLearner(HeadLearner(body, head, max_rows=8, max_tokens=1000))
    for _ in range(3):  # a head of zeros passes no gradient on
        critic.forward_backward(batch_of(), squares)
        critic.optim_step(0.01)
    critic.forward_backward(batch_of(), squares)
    weights = [w for w in body._parameters.values() if w.grad is not None]
    gradient = [w.grad.clone() for w in weights if w.grad is not None]
    norm = torch.cat([g.flatten() for g in gradient]).norm().item()
    assert norm > 0.01
    assert any(bool(g.any()) for w, g in zip(weights, gradient, strict=True) if w is not head.bias)

    def loss_after(distance: float) -> float:
        """Along the gradient, where the loss grows by the gradient's norm for each unit."""
        with torch.no_grad():
            for w, g in zip(weights, gradient, strict=True):
                w.add_(g, alpha=distance / norm)
        loss = squares(critic.values(batch_of())).item()
        with torch.no_grad():
            for w, g in zip(weights, gradient, strict=True):
                w.sub_(g, alpha=distance / norm)
        return loss

    slope = (loss_after(1e-3) - loss_after(-1e-3)) / 2e-3
    assert slope == pytest.approx(norm, rel=1e-2)


def test_the_head_alone_learns_first() -> None:
    """V = w·h + b with w = 0: dLoss/db = Σ dLoss/dV = 40·2·(0 − 1)/40, of the body nothing."""
    batch, on = batch_of(), FakeBackend(cast(Tokenizer, TOKENIZER), VOCAB)
    head = constant_head(VOCAB, (0.0,), torch.device("cpu"))
    body = FakeLearner(on, "critic", AdapterSpec(), head_weights(head))
    critic = ValueLearner(HeadLearner(body, head, max_rows=8, max_tokens=1000))
    critic.forward_backward(batch, lambda value_BT: squares(value_BT[batch.written_BT]))
    assert head.bias.grad is not None and head.bias.grad.item() == pytest.approx(-2.0)
    state_NW = on.table_VV[batch.token_BT[:, :-1][batch.written_BT[:, 1:]]]
    assert head.weight.grad is not None
    assert_close(head.weight.grad[0], -2 * state_NW.sum(dim=0) / 40)
    assert body._parameter.grad is not None and not body._parameter.grad.any()


def test_a_critic_learns_what_the_dialogue_has_told_it() -> None:
    """The value is 1 where token 20 opened the dialogue, else 0; the head sees later tokens."""
    critic = local().create_critic("critic", AdapterSpec(rank=8, max_grad_norm=10.0))
    batch = batch_of(48)
    batch.token_BT[:, 1] = torch.where(torch.arange(48) % 2 == 0, 20, 21)
    target_BT = (batch.token_BT[:, 1:2] == 20) * batch.written_BT.float()
    seen, unseen = range(40), range(40, 48)
    for _ in range(60):
        critic.forward_backward(batch.rows(seen), lambda v_BT: error(v_BT, target_BT[:40]))
        critic.optim_step(0.01)
    found_BT = critic.values(batch.rows(unseen))
    assert error(found_BT, target_BT[40:, : found_BT.shape[1]]) < 0.05  # of a constant: 0.25


def error(value_BT: Tensor, target_BT: Tensor) -> Tensor:
    """Mean square over the eight written tokens of each dialogue."""
    return (value_BT - target_BT).square().sum() / (8 * len(value_BT))


def test_gradient_checkpointing_changes_no_value() -> None:
    found = []
    for is_on in (False, True):
        made = tiny_model(TOKENIZER, hidden_size=64, num_layers=2, seed=3)
        backend = LocalBackend(made, TOKENIZER, gradient_checkpointing=is_on)
        critic = backend.create_critic("critic", AdapterSpec(rank=4))
        fit_values(critic)
        found.append(critic.values(batch_of()))
    assert_close(found[1], found[0], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("spec", [AdapterSpec(rank=4), AdapterSpec(full_weights=True)])
def test_half_precision_values_are_float32_and_learn(spec: AdapterSpec) -> None:
    made = tiny_model(TOKENIZER, hidden_size=64, num_layers=2, seed=3)
    nn.Module.to(made, torch.bfloat16)
    critic = LocalBackend(made, TOKENIZER).create_critic("critic", spec)
    before = squares(critic.values(batch_of()))
    for _ in range(3):
        critic.forward_backward(batch_of(), squares)
        critic.optim_step(0.002)
    after_BT = critic.values(batch_of())
    assert after_BT.dtype == torch.float32
    assert squares(after_BT) < before


def test_making_a_critic_leaves_the_global_random_state() -> None:
    state = torch.get_rng_state()
    critic_of(KINDS["fake"])
    critic_of(KINDS["full"])
    assert torch.equal(torch.get_rng_state(), state)
