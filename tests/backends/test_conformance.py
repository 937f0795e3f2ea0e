"""What every backend must do, whatever it is made of.

Backends: the table, and the local one with LoRA adapters and with full weights. Its model has two
layers of width 64 and is built from a config. Float32 on a CPU: the tolerances allow for the last
bits that a differently batched matrix product may round differently.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from turnwise.backends import (
    AdapterSpec,
    Backend,
    Learner,
    Sample,
    Sampler,
    SampleRequest,
    Tokenizer,
)
from turnwise.backends.fake import FakeBackend
from turnwise.backends.local import LocalBackend
from turnwise.backends.protocol import BranchScorer
from turnwise.backends.tiny import tiny_model, tiny_tokenizer
from turnwise.errors import (
    CapabilityError,
    CheckpointError,
    ConfigError,
    EmptyStepError,
    LogProbError,
)
from turnwise.tokens import Branch, Packed, TurnBatch, pack, separate

TOKENIZER = tiny_tokenizer(["which day ?", "friday .", "book friday four indoor"] * 3, 280)
VOCAB = len(TOKENIZER)


@dataclass(frozen=True)
class Kind:
    """A backend to test, and the spec that its learners get."""

    make: Callable[[], Backend]
    spec: AdapterSpec


def local() -> LocalBackend:
    model = tiny_model(TOKENIZER, hidden_size=64, num_layers=2, seed=3)
    return LocalBackend(model, TOKENIZER, max_rows=3)


KINDS = {
    "fake": Kind(lambda: FakeBackend(cast(Tokenizer, TOKENIZER), VOCAB), AdapterSpec()),
    "lora": Kind(local, AdapterSpec(rank=4)),
    "full": Kind(local, AdapterSpec(full_weights=True)),
}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def batch_of(rows: int = 5, seed: int = 0) -> TurnBatch:
    """Dialogues of 14 to 22 tokens with two turns each."""
    generator = torch.Generator().manual_seed(seed)
    length_B = torch.randint(14, 23, (rows,), generator=generator)
    token_BT = torch.randint(6, VOCAB, (rows, int(length_B.max())), generator=generator)
    turn_of_token_BT = torch.full_like(token_BT, -1)
    turn_of_token_BT[:, 3:6] = 0
    turn_of_token_BT[:, 9:14] = 1
    return TurnBatch(token_BT, turn_of_token_BT, torch.zeros(token_BT.shape), length_B)


def mean_loss(logp_BT: Tensor) -> Tensor:
    return -logp_BT.sum() / 40


def train(learner: Learner, steps: int = 3, learning_rate: float = 0.02, seed: int = 0) -> None:
    for _ in range(steps):
        learner.forward_backward(batch_of(seed=seed), mean_loss)
        learner.optim_step(learning_rate)


def requests(count: int = 4, temperature: float = 1.0) -> list[SampleRequest]:
    return [
        SampleRequest(
            prompt_ids=tuple(range(6 + i, 12 + 2 * i)),
            noise_seed=100 + i,
            max_new_tokens=5 + i,
            stop_ids=(4,),
            temperature=temperature,
            session=f"dialogue-{i}",
        )
        for i in range(count)
    ]


def sample_all(sampler: Sampler, wanted: Sequence[SampleRequest]) -> list[Sample]:
    async def together() -> list[Sample]:
        return list(await asyncio.gather(*(sampler.sample(request) for request in wanted)))

    return asyncio.run(together())


def batch_with(wanted: Sequence[SampleRequest], samples: Sequence[Sample]) -> TurnBatch:
    rows = [[*r.prompt_ids, *s.token_ids] for r, s in zip(wanted, samples, strict=True)]
    width = max(len(row) for row in rows)
    token_BT = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    turn_of_token_BT = torch.full_like(token_BT, -1)
    logp_BT = torch.zeros(token_BT.shape)
    for b, (request, sample) in enumerate(zip(wanted, samples, strict=True)):
        start = len(request.prompt_ids)
        stop = start + len(sample.token_ids)
        turn_of_token_BT[b, start:stop] = 0
        logp_BT[b, start:stop] = torch.tensor(sample.logp)
    return TurnBatch(token_BT, turn_of_token_BT, logp_BT, torch.tensor([len(r) for r in rows]))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampled_log_probabilities_are_the_scored_ones(kind: Kind, temperature: float) -> None:
    learner = kind.make().create("policy", kind.spec)
    train(learner)
    wanted = requests(temperature=temperature)
    batch = batch_with(wanted, sample_all(learner.publish(), wanted))
    scored = learner.logp(batch, temperature=temperature)
    assert_close(scored, batch.logp_behaviour_BT, atol=1e-5, rtol=1e-5)


def test_greedy_samples_are_the_likeliest_tokens_with_their_log_probability(kind: Kind) -> None:
    learner = kind.make().create("policy", kind.spec)
    wanted = requests(temperature=0.0)
    batch = batch_with(wanted, sample_all(learner.publish(), wanted))
    scored = learner.logp(batch)
    assert_close(scored, batch.logp_behaviour_BT, atol=1e-5, rtol=1e-5)
    other = replace(batch, token_BT=torch.where(batch.written_BT, 7, batch.token_BT))
    first_B = torch.tensor([len(request.prompt_ids) for request in wanted])[:, None]
    rival = learner.logp(other).gather(1, first_B)
    assert bool((scored.gather(1, first_B) >= rival).all())


def test_a_new_learner_equals_the_reference_exactly(kind: Kind) -> None:
    backend = kind.make()
    difference = backend.create("prm", kind.spec).logp(batch_of()) - backend.reference().logp(
        batch_of()
    )
    assert difference.abs().max().item() == 0.0


def test_training_never_changes_the_reference(kind: Kind) -> None:
    backend = kind.make()
    before = backend.reference().logp(batch_of())
    learner = backend.create("policy", kind.spec)
    train(learner)
    assert torch.equal(backend.reference().logp(batch_of()), before)
    assert not torch.equal(learner.logp(batch_of()), before)


def test_a_gradient_step_raises_the_log_probability_it_was_told_to(kind: Kind) -> None:
    learner = kind.make().create("policy", kind.spec)
    before = learner.logp(batch_of()).sum()
    train(learner, steps=1, learning_rate=0.01)
    assert learner.logp(batch_of()).sum() > before


def test_a_step_of_an_implicit_reward_model_lowers_its_loss(kind: Kind) -> None:
    backend = kind.make()
    batch, outcome_B = batch_of(6), torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0, 1.0])
    reference_BT = backend.reference().logp(batch)
    learner = backend.create("prm", kind.spec)

    def loss(logp_BT: Tensor) -> Tensor:
        reward_B = 0.5 * (logp_BT - reference_BT).sum(dim=1)
        return torch.nn.functional.binary_cross_entropy_with_logits(reward_B, outcome_B)

    first = learner.forward_backward(batch, loss)["loss"]
    learner.optim_step(0.01)
    assert first == pytest.approx(0.6931, abs=1e-4)  # log 2: a new reward model knows nothing
    assert learner.forward_backward(batch, loss)["loss"] < first


def test_log_probabilities_are_zero_where_the_policy_did_not_write(kind: Kind) -> None:
    logp_BT = kind.make().reference().logp(batch_of())
    written_BT = batch_of().written_BT
    assert bool((logp_BT[~written_BT] == 0).all())
    assert bool((logp_BT[written_BT] < 0).all())
    assert logp_BT.dtype == torch.float32


def test_tokens_the_policy_did_not_write_get_no_gradient(kind: Kind) -> None:
    learner = kind.make().create("policy", kind.spec)
    batch = batch_of()
    unwritten_BT = (~batch.written_BT).float()
    stats = learner.forward_backward(batch, lambda logp_BT: (logp_BT * unwritten_BT).sum())
    assert stats["loss"] == 0.0
    assert learner.optim_step(0.1).grad_norm == 0.0


def test_padding_and_row_order_change_no_log_probability(kind: Kind) -> None:
    scorer, batch = kind.make().reference(), batch_of()
    wide = TurnBatch(
        torch.nn.functional.pad(batch.token_BT, (0, 7), value=9),
        torch.nn.functional.pad(batch.turn_of_token_BT, (0, 7), value=-1),
        torch.nn.functional.pad(batch.logp_behaviour_BT, (0, 7)),
        batch.length_B,
    )
    plain = scorer.logp(batch)
    assert_close(scorer.logp(wide)[:, :-7], plain, atol=1e-5, rtol=1e-5)
    order = [3, 0, 4, 1, 2]
    turned = scorer.logp(batch.rows(order))
    assert_close(turned, plain[order][:, : turned.shape[1]], atol=1e-5, rtol=1e-5)


def step_with_rows(kind: Kind, split: Sequence[Sequence[int]]) -> tuple[float, Tensor]:
    """Gradient norm and, after steps away from the start, what one more step made of the batch."""
    learner, batch = kind.make().create("policy", kind.spec), batch_of(6)
    train(learner)  # AdamW's first step would look at signs alone
    for rows in split:
        learner.forward_backward(
            batch.rows(rows),
            lambda logp_BT: -logp_BT.sum() / 48,
            entropy_weight_BT=batch.rows(rows).written_BT.float() * 0.01,
        )
    grad_norm = learner.optim_step(0.01).grad_norm
    return grad_norm, learner.logp(batch)


@pytest.mark.parametrize("split", [[[0, 1, 2], [3, 4, 5]], [[5], [4, 2], [3, 1, 0]]])
def test_splitting_a_batch_changes_no_gradient(kind: Kind, split: list[list[int]]) -> None:
    whole_norm, whole_BT = step_with_rows(kind, [[0, 1, 2, 3, 4, 5]])
    parts_norm, parts_BT = step_with_rows(kind, split)
    assert parts_norm == pytest.approx(whole_norm, rel=1e-4)
    assert_close(parts_BT, whole_BT, atol=1e-3, rtol=1e-4)


def test_entropy_is_reported_and_raised(kind: Kind) -> None:
    learner, batch = kind.make().create("policy", kind.spec), batch_of()
    weight_BT = batch.written_BT.float() / 40
    train(learner, steps=4, learning_rate=0.05)  # away from the uniform distribution

    def entropy() -> float:
        stats = learner.forward_backward(batch, mean_zero, entropy_weight_BT=weight_BT)
        assert stats["loss"] == pytest.approx(-stats["entropy"], rel=1e-5)
        return stats["entropy"]

    before = entropy()
    learner.optim_step(0.01)
    assert 0 < before < entropy() < torch.tensor(float(VOCAB)).log().item()


def mean_zero(logp_BT: Tensor) -> Tensor:
    return 0.0 * logp_BT.sum()


def test_save_step_load_step_gives_the_same_numbers(kind: Kind, tmp_path: Path) -> None:
    learner = kind.make().create("policy", kind.spec)
    train(learner, steps=2)
    learner.save(tmp_path / "saved")
    train(learner, steps=2, seed=7)
    expected = learner.logp(batch_of())
    again = kind.make().create("policy", kind.spec)
    for resumed in (learner, again):
        resumed.load(tmp_path / "saved")
        train(resumed, steps=2, seed=7)
        assert torch.equal(resumed.logp(batch_of()), expected)


def test_loading_forgets_gradients_of_before(kind: Kind, tmp_path: Path) -> None:
    learner = kind.make().create("policy", kind.spec)
    learner.save(tmp_path)
    learner.forward_backward(batch_of(), mean_loss)
    learner.load(tmp_path)
    with pytest.raises(EmptyStepError, match="forward_backward before optim_step"):
        learner.optim_step(0.1)


@pytest.mark.parametrize("damage", ["cut", "missing", "no manifest"])
def test_a_damaged_checkpoint_is_named_and_changes_nothing(
    kind: Kind, tmp_path: Path, damage: str
) -> None:
    learner = kind.make().create("policy", kind.spec)
    train(learner)
    learner.save(tmp_path)
    before = learner.logp(batch_of())
    victim = tmp_path / ("learner.json" if damage == "no manifest" else "optimizer.safetensors")
    if damage == "cut":
        victim.write_bytes(victim.read_bytes()[:-20])
    else:
        victim.unlink()
    with pytest.raises(CheckpointError, match=victim.name if damage == "cut" else "missing|found"):
        learner.load(tmp_path)
    assert torch.equal(learner.logp(batch_of()), before)


def test_a_published_sampler_keeps_its_weights(kind: Kind) -> None:
    learner, wanted = kind.make().create("policy", kind.spec), requests()
    old = learner.publish()
    before = sample_all(old, wanted)
    train(learner, steps=5, learning_rate=0.2)
    new = learner.publish()
    for request in wanted:
        old.release(request.session or "")
    assert sample_all(old, wanted) == before
    after = sample_all(new, wanted)
    assert after != before
    batch = batch_with(wanted, after)
    assert_close(learner.logp(batch), batch.logp_behaviour_BT, atol=1e-4, rtol=1e-4)


def test_two_learners_do_not_disturb_each_other(kind: Kind) -> None:
    alone = kind.make().create("policy", kind.spec)
    train(alone, steps=2)
    backend = kind.make()
    policy, prm = backend.create("policy", kind.spec), backend.create("prm", kind.spec)
    for _ in range(2):
        policy.forward_backward(batch_of(), mean_loss)
        prm.forward_backward(batch_of(seed=9), lambda logp_BT: logp_BT.sum() / 40)
        backend.reference().logp(batch_of())
        prm.logp(batch_of())
        policy.optim_step(0.02)
        prm.optim_step(0.02)
    assert_close(policy.logp(batch_of()), alone.logp(batch_of()), atol=1e-6, rtol=1e-6)
    assert not torch.equal(prm.logp(batch_of()), backend.reference().logp(batch_of()))


def test_a_step_without_gradient_is_an_error(kind: Kind) -> None:
    learner = kind.make().create("policy", kind.spec)
    with pytest.raises(EmptyStepError, match="forward_backward before optim_step"):
        learner.optim_step(0.1)


def test_a_temperature_of_zero_cannot_be_scored_at(kind: Kind) -> None:
    with pytest.raises(ConfigError, match="temperature above 0"):
        kind.make().reference().logp(batch_of(), temperature=0.0)


def test_diverged_weights_are_named_and_not_learned_from(kind: Kind) -> None:
    learner = kind.make().create("policy", kind.spec)
    learner.forward_backward(batch_of(), mean_loss)
    learner.optim_step(float("nan"))
    with pytest.raises(LogProbError, match=r"policy: expected finite .* dialogue \d"):
        learner.logp(batch_of())
    with pytest.raises(LogProbError, match="policy: expected finite"):
        learner.forward_backward(batch_of(), mean_loss)


def test_the_step_moves_no_further_than_the_clipped_gradient_allows(kind: Kind) -> None:
    learner = kind.make().create("policy", replace(kind.spec, max_grad_norm=1e-6))
    learner.forward_backward(batch_of(), lambda logp_BT: 1000 * mean_loss(logp_BT))
    assert learner.optim_step(0.0).grad_norm > 1.0  # reported as it was before clipping


def test_passes_over_dialogues_are_counted() -> None:
    for kind in KINDS.values():
        backend = kind.make()
        assert isinstance(backend, LocalBackend | FakeBackend)
        policy = backend.create("policy", kind.spec)
        policy.forward_backward(batch_of(5), mean_loss)
        policy.logp(batch_of(4))
        backend.reference().logp(batch_of(3))
        counts = {("policy", "train"): 5, ("policy", "score"): 4, ("reference", "score"): 3}
        assert backend.passes == counts


def counterfactuals(trunks: TurnBatch) -> list[Branch]:
    """For each dialogue the second turn again, after two other tokens with a hole behind them."""
    return [
        Branch(
            dialogue=b,
            fork=6,
            token_ids=(7, 8, *trunks.token_BT[b, 9:14].tolist()),
            position_ids=(6, 7, *range(9, 14)),
            scored=(2, 7),
            kind="counterfactual",
            turn=0,
            target=(9, 14),
        )
        for b in range(len(trunks.length_B))
    ]


def test_a_counterfactual_is_scored_in_packed_rows_as_in_a_row_of_its_own(kind: Kind) -> None:
    backend, trunks = kind.make(), batch_of()
    assert backend.capabilities.branches
    learner = backend.create("policy", kind.spec)
    train(learner)
    branches = counterfactuals(trunks)
    packed, apart = pack(trunks, branches, max_tokens=64), separate(trunks, branches)
    found = learner.logp(packed.batch, temperature=0.7)
    expected = learner.logp(apart.batch, temperature=0.7)
    plain = learner.logp(trunks, temperature=0.7)
    assert_close(packed.factual(found), plain, atol=1e-5, rtol=1e-5)
    found_BT, expected_BT = packed.counterfactual(found), apart.counterfactual(expected)
    assert_close(found_BT, expected_BT, atol=1e-5, rtol=1e-5, equal_nan=True)
    assert not torch.allclose(found_BT[:, 9:14], plain[:, 9:14], atol=1e-3)


def test_divergences_of_packed_rows_are_those_of_rows_apart(kind: Kind) -> None:
    backend, trunks = kind.make(), batch_of()
    policy, reference = backend.create("policy", kind.spec), backend.reference()
    train(policy)
    packed, apart = (
        side(trunks, counterfactuals(trunks)) for side in (partial(pack, max_tokens=64), separate)
    )
    for scorer in (cast(BranchScorer, policy), cast(BranchScorer, reference)):
        found_N = scorer.divergence(packed.batch, *packed.pairs())
        expected_N = scorer.divergence(apart.batch, *apart.pairs())
        assert found_N.dtype == torch.float32
        assert bool((found_N >= 0).all())
        assert found_N.max() > 1e-3
        assert_close(found_N, expected_N, atol=1e-5, rtol=1e-4)


def test_packed_rows_give_the_gradient_of_rows_apart(kind: Kind) -> None:
    trunks, norms = batch_of(), []
    branches = counterfactuals(trunks)
    for side in (pack(trunks, branches, max_tokens=64), separate(trunks, branches)):
        learner = kind.make().create("policy", kind.spec)
        train(learner)

        def loss(logp_RS: Tensor, side: Packed = side) -> Tensor:
            return torch.stack([logp_N.sum() for logp_N in side.of_branches(logp_RS)]).mean()

        learner.forward_backward(side.batch, loss)
        norms.append(learner.optim_step(0.0).grad_norm)
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert norms[0] > 0.01


def test_two_models_are_compared_as_each_is_scored(kind: Kind) -> None:
    backend = kind.make()
    learner, reference, batch = backend.create("policy", kind.spec), backend.reference(), batch_of()
    train(learner, learning_rate=0.1)
    found, back = (
        learner.compare(reference, batch, temperature=0.7),
        learner.compare(learner, batch),
    )
    assert_close(found.logp_BT, learner.logp(batch, temperature=0.7), atol=1e-5, rtol=1e-5)
    assert_close(found.logp_other_BT, reference.logp(batch, temperature=0.7), atol=1e-5, rtol=1e-5)
    for kl_BT in (found.kl_BT, found.kl_back_BT):
        assert bool((kl_BT[batch.written_BT] > 1e-6).all())
        assert bool((kl_BT[~batch.written_BT] == 0).all())
    assert back.kl_BT.abs().max() == back.kl_back_BT.abs().max() == 0


def test_the_divergence_is_the_expected_log_ratio_over_the_vocabulary(kind: Kind) -> None:
    # Every token of the vocabulary after one text: KL(p ‖ q) = Σ_v p_v (log p_v − log q_v).
    backend = kind.make()
    learner, other = backend.create("policy", kind.spec), backend.create("prm", kind.spec)
    train(learner, learning_rate=0.1)
    token_BT = torch.cat(
        [batch_of().token_BT[:1, :5].repeat(VOCAB, 1), torch.arange(VOCAB)[:, None]], 1
    )
    turn_BT = torch.full_like(token_BT, -1)
    turn_BT[:, 5] = 0
    every = TurnBatch(token_BT, turn_BT, torch.zeros(token_BT.shape), torch.full((VOCAB,), 6))
    found = learner.compare(other, every)
    p_V, q_V = found.logp_BT[:, 5].exp(), found.logp_other_BT[:, 5].exp()
    assert float(p_V.sum()) == pytest.approx(1, abs=1e-5)
    assert_close(found.kl_BT[0, 5], (p_V * (p_V / q_V).log()).sum(), atol=1e-6, rtol=1e-4)
    assert_close(found.kl_back_BT[0, 5], (q_V * (q_V / p_V).log()).sum(), atol=1e-6, rtol=1e-4)


def test_models_of_two_kinds_are_not_compared() -> None:
    fake, lora = KINDS["fake"], KINDS["lora"]
    learners = [one.make().create("policy", one.spec) for one in (fake, lora)]
    for asked, other in (learners, learners[::-1]):
        with pytest.raises(CapabilityError, match="found"):
            asked.compare(other, batch_of())


def test_starting_from_saved_weights_forgets_the_optimizer_and_the_role(
    kind: Kind, tmp_path: Path
) -> None:
    learner = kind.make().create("policy", kind.spec)
    train(learner)
    learner.save(tmp_path)
    backend = kind.make()
    again, loaded = backend.create("prm", kind.spec), backend.create("policy", kind.spec)
    train(again, seed=5)
    again.start_from(tmp_path)
    loaded.load(tmp_path)
    assert torch.equal(again.logp(batch_of()), loaded.logp(batch_of()))
    for one in (again, loaded):
        train(one, steps=1, seed=7)
    assert not torch.equal(again.logp(batch_of()), loaded.logp(batch_of()))
    fresh = kind.make().create("policy", kind.spec)
    fresh.start_from(tmp_path)
    train(fresh, steps=1, seed=7)
    assert torch.equal(fresh.logp(batch_of()), again.logp(batch_of()))


def test_packed_rows_are_compared_as_plain_ones(kind: Kind) -> None:
    backend, trunks = kind.make(), batch_of()
    learner, reference = backend.create("policy", kind.spec), backend.reference()
    train(learner, learning_rate=0.1)
    packed = pack(trunks, counterfactuals(trunks), max_tokens=64)
    plain = learner.compare(reference, trunks)
    found = learner.compare(reference, packed.batch)
    for name in ("logp_BT", "logp_other_BT", "kl_BT", "kl_back_BT"):
        factual_BT = packed.factual(getattr(found, name))
        assert_close(factual_BT, getattr(plain, name), atol=1e-5, rtol=1e-4)
