"""The local backend against plain transformers and PEFT, and what it never does."""

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from turnwise.backends import AdapterSpec, Sample, SampleRequest
from turnwise.backends.causal import CausalModel
from turnwise.backends.loading import load_backend
from turnwise.backends.local import LocalBackend
from turnwise.backends.tiny import save_tiny, tiny_model, tiny_tokenizer
from turnwise.errors import CheckpointError, ConfigError, TrainingError
from turnwise.tokens import TurnBatch

TOKENIZER = tiny_tokenizer(["which day ?", "friday ."] * 3, 280)
VOCAB = len(TOKENIZER)


def model(dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    made = tiny_model(TOKENIZER, hidden_size=64, num_layers=2, seed=3)
    torch.nn.Module.to(made, dtype)
    return made


def backend(made: PreTrainedModel | None = None, **options: Any) -> LocalBackend:
    return LocalBackend(made or model(), TOKENIZER, **options)


def batch_of(rows: int = 4) -> TurnBatch:
    generator = torch.Generator().manual_seed(1)
    token_BT = torch.randint(6, 200, (rows, 20), generator=generator)
    turn_of_token_BT = torch.full_like(token_BT, -1)
    turn_of_token_BT[:, 4:8] = 0
    turn_of_token_BT[:, 12:17] = 1
    length_B = torch.tensor([20, 17, 18, 20, 17, 19] * 7)[:rows]
    return TurnBatch(token_BT, turn_of_token_BT, torch.zeros(token_BT.shape), length_B)


def mean_loss(logp_BT: Tensor) -> Tensor:
    return -logp_BT.sum() / 36


def trained(on: LocalBackend, spec: AdapterSpec, steps: int = 2) -> Any:
    learner = on.create("policy", spec)
    for _ in range(steps):
        learner.forward_backward(batch_of(), mean_loss)
        learner.optim_step(0.02)
    return learner


def draw(sampler: Any, seed: int = 1) -> Sample:
    request = SampleRequest((6, 7, 8, 9), seed, 10, (), 1.0, "dialogue")
    sample: Sample = asyncio.run(sampler.sample(request))
    return sample


def test_log_probabilities_and_gradients_are_those_of_transformers() -> None:
    batch, plain = batch_of(), model()
    logits_BTV = plain(input_ids=batch.token_BT).logits[:, :-1].log_softmax(dim=-1)
    expected_BT = logits_BTV.gather(2, batch.token_BT[:, 1:, None])[..., 0]
    expected_BT = torch.where(batch.written_BT[:, 1:], expected_BT, 0.0)
    mean_loss(expected_BT).backward()
    expected_norm = torch.stack([p.grad.norm() for p in plain.parameters() if p.grad is not None])

    learner = backend().create("policy", AdapterSpec(full_weights=True))
    assert_close(learner.logp(batch)[:, 1:], expected_BT.detach(), atol=1e-5, rtol=1e-5)
    learner.forward_backward(batch, mean_loss)
    grad_norm = learner.optim_step(0.0).grad_norm
    assert grad_norm == pytest.approx(expected_norm.norm().item(), rel=1e-4)


class LargestTensor(TorchDispatchMode):
    """Counts the elements of the largest tensor that any operation gives."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
        self.elements = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # torch's own signature
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, list | tuple) else (out,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


@pytest.mark.parametrize("spec", [AdapterSpec(rank=4), AdapterSpec(full_weights=True)])
def test_nothing_of_size_batch_times_tokens_times_vocabulary_is_made(spec: AdapterSpec) -> None:
    # A vocabulary far wider than the layers, so that logits are what is large.
    config = Qwen3Config(**{**model().config.to_dict(), "vocab_size": 4000})
    batch = batch_of(40)
    learner = backend(Qwen3ForCausalLM(config)).create("policy", spec)
    whole = batch.token_BT.numel() * 4000
    with LargestTensor() as largest:
        learner.logp(batch)
        learner.forward_backward(batch, mean_loss, entropy_weight_BT=batch.written_BT.float())
        learner.optim_step(0.01)
    assert largest.elements == batch.num_written * 4000 < whole / 2


@pytest.mark.parametrize("with_entropy", [False, True])
def test_chunks_of_positions_change_no_number(
    monkeypatch: pytest.MonkeyPatch, with_entropy: bool
) -> None:
    batch = batch_of()
    weight_BT = batch.written_BT.float() * 0.1 if with_entropy else None
    numbers = []
    for elements in (2**24, 7 * VOCAB):
        monkeypatch.setattr("turnwise.backends.causal.CPU_CHUNK_ELEMENTS", elements)
        learner = backend().create("policy", AdapterSpec(rank=4))
        stats = learner.forward_backward(batch, mean_loss, entropy_weight_BT=weight_BT)
        numbers.append((*stats.values(), learner.optim_step(0.0).grad_norm))
    assert numbers[1] == pytest.approx(numbers[0], rel=1e-5)


@pytest.mark.parametrize("spec", [AdapterSpec(rank=4), AdapterSpec(full_weights=True)])
def test_gradient_checkpointing_changes_no_number(spec: AdapterSpec) -> None:
    numbers = []
    for checkpointing in (False, True):
        learner = trained(backend(gradient_checkpointing=checkpointing), spec)
        numbers.append(learner.forward_backward(batch_of(), mean_loss)["loss"])
        assert draw(learner.publish()).stop_reason == "length"
    assert numbers[1] == pytest.approx(numbers[0], rel=1e-6)


# PEFT 0.21 still asks transformers 5.23 by the old name.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_an_adapter_directory_is_read_by_peft(tmp_path: Path) -> None:
    learner = trained(backend(), AdapterSpec(rank=4))
    learner.save(tmp_path)
    loaded = PeftModel.from_pretrained(model(), str(tmp_path))
    ours = CausalModel(loaded.merge_and_unload()).scores(batch_of(), temperature=1.0).logp_BT
    assert_close(ours.detach(), learner.logp(batch_of()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("spec", [AdapterSpec(rank=4), AdapterSpec(full_weights=True)])
def test_an_exported_directory_is_the_model_as_trained(spec: AdapterSpec, tmp_path: Path) -> None:
    learner = trained(backend(), spec)
    learner.export(tmp_path)
    again = load_backend(tmp_path, device="cpu").reference()
    assert_close(again.logp(batch_of()), learner.logp(batch_of()), atol=1e-5, rtol=1e-5)


def test_a_checkpoint_of_another_rank_is_refused(tmp_path: Path) -> None:
    trained(backend(), AdapterSpec(rank=4)).save(tmp_path)
    learner = backend().create("policy", AdapterSpec(rank=8))
    before = learner.logp(batch_of())
    with pytest.raises(CheckpointError, match=r"does not fit the policy: .* has shape \(4, 64\)"):
        learner.load(tmp_path)
    assert torch.equal(learner.logp(batch_of()), before)


def test_full_weights_and_adapters_share_a_backend_in_any_order() -> None:
    on = backend()
    adapter = trained(on, AdapterSpec(rank=4))
    full = on.create("full", AdapterSpec(full_weights=True))
    assert torch.equal(full.logp(batch_of()), on.reference().logp(batch_of()))
    full.forward_backward(batch_of(), mean_loss)
    before = adapter.logp(batch_of())
    full.optim_step(0.1)
    assert torch.equal(adapter.logp(batch_of()), before)
    full.publish()


def test_a_role_has_one_adapter() -> None:
    on = backend()
    on.create("policy", AdapterSpec())
    with pytest.raises(ConfigError, match="adapter 'policy' already"):
        on.create("policy", AdapterSpec())


def test_the_same_spec_seed_gives_the_same_adapter_whatever_the_global_seed() -> None:
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        results.append(trained(backend(), AdapterSpec(rank=4, seed=5)).logp(batch_of()))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(results[0], results[1])
    other = trained(backend(), AdapterSpec(rank=4, seed=6)).logp(batch_of())
    assert not torch.equal(results[0], other)


def test_a_gradient_that_is_not_finite_is_not_stepped() -> None:
    learner = trained(backend(), AdapterSpec(rank=4))
    before = learner.logp(batch_of())
    learner.forward_backward(batch_of(), lambda logp_BT: logp_BT.sum() * float("inf"))
    with pytest.raises(TrainingError, match="finite gradient"):
        learner.optim_step(0.1)
    assert torch.equal(learner.logp(batch_of()), before)
    learner.forward_backward(batch_of(), mean_loss)
    learner.optim_step(0.01)  # and training goes on


@pytest.mark.parametrize("spec", [AdapterSpec(rank=4), AdapterSpec(full_weights=True)])
def test_half_precision_learns_in_float32_and_resumes_exactly(
    spec: AdapterSpec, tmp_path: Path
) -> None:
    on = backend(model(torch.bfloat16))
    assert torch.equal(on.create("prm", spec).logp(batch_of()), on.reference().logp(batch_of()))
    learner = on.create("policy", spec)
    before = learner.logp(batch_of()).sum()
    # Steps far below what a bfloat16 weight of size 0.02 resolves (about 6e-5) still add up.
    for _ in range(20):
        learner.forward_backward(batch_of(), mean_loss)
        learner.optim_step(2e-5)
    learner.save(tmp_path)
    learner.forward_backward(batch_of(), mean_loss)
    learner.optim_step(1e-2)
    expected = learner.logp(batch_of())
    assert expected.sum() > before
    learner.load(tmp_path)
    learner.forward_backward(batch_of(), mean_loss)
    learner.optim_step(1e-2)
    assert torch.equal(learner.logp(batch_of()), expected)


def test_a_sampler_on_the_shared_base_keeps_its_weights_and_frees_them() -> None:
    # bfloat16 adapters are not folded into the weights: rounding would change the policy.
    on = backend(model(torch.bfloat16))
    learner = trained(on, AdapterSpec(rank=4))
    old = learner.publish()
    assert old.causal is on.base
    first = draw(old)
    for _ in range(5):
        learner.forward_backward(batch_of(), mean_loss)
        learner.optim_step(0.2)
    new = learner.publish()
    old.release("dialogue")
    assert draw(old) == first
    assert draw(new).logp != first.logp
    scored = learner.logp(batch_of())
    del old, new
    gc.collect()
    assert not [name for name, _ in on.base.model.named_parameters() if "@" in name]
    assert torch.equal(learner.logp(batch_of()), scored)
    learner.forward_backward(batch_of(), mean_loss)
    assert learner.optim_step(0.0).grad_norm > 0


def gemma(layer_types: list[str]) -> PreTrainedModel:
    """Caps its logits; attends through a window where a layer says so."""
    config = Gemma2Config(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        sliding_window=6,
        layer_types=layer_types,
        final_logit_softcapping=0.5,
        bos_token_id=None,
        eos_token_id=4,
        pad_token_id=5,
    )
    torch.manual_seed(0)
    made: PreTrainedModel = Gemma2ForCausalLM(config)
    return made


def gpt2() -> PreTrainedModel:
    """Learned positions, fused projections stored the other way round."""
    config = GPT2Config(
        vocab_size=VOCAB,
        n_embd=64,
        n_layer=2,
        n_head=2,
        n_positions=64,
        bos_token_id=None,
        eos_token_id=4,
    )
    torch.manual_seed(0)
    made: PreTrainedModel = GPT2LMHeadModel(config)
    return made


ODD_MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "capped logits": lambda: gemma(["full_attention", "full_attention"]),
    "sliding window": lambda: gemma(["sliding_attention", "full_attention"]),
    "gpt2": gpt2,
}


@pytest.mark.parametrize("name", list(ODD_MODELS))
def test_models_of_another_make_are_scored_and_sampled_as_they_would_themselves(name: str) -> None:
    made, batch = ODD_MODELS[name](), batch_of(3)
    made.eval()
    logits_BTV = made(input_ids=batch.token_BT).logits[:, :-1].log_softmax(dim=-1).detach()
    expected_BT = logits_BTV.gather(2, batch.token_BT[:, 1:, None])[..., 0]
    on = backend(made)
    assert on.keeps_cache == (name == "gpt2")
    found_BT = on.reference().logp(batch)[:, 1:]
    written_BT = batch.written_BT[:, 1:]
    assert_close(found_BT[written_BT], expected_BT[written_BT], atol=1e-5, rtol=1e-5)

    learner = on.create("policy", AdapterSpec(rank=4))
    before = learner.logp(batch).sum()
    learner.forward_backward(batch, mean_loss)
    learner.optim_step(0.01)
    assert learner.logp(batch).sum() > before
    sample = draw(learner.publish())
    ids = torch.tensor([[6, 7, 8, 9, *sample.token_ids]])
    turn = torch.tensor([[-1] * 4 + [0] * 10])
    again = TurnBatch(ids, turn, torch.zeros(ids.shape), torch.tensor([14]))
    assert_close(learner.logp(again)[0, 4:], torch.tensor(sample.logp), atol=1e-4, rtol=1e-4)


def test_a_saved_tiny_model_is_the_same_model(tmp_path: Path) -> None:
    save_tiny(tmp_path, model(), TOKENIZER)
    assert torch.equal(
        load_backend(tmp_path, device="cpu").reference().logp(batch_of()),
        backend().reference().logp(batch_of()),
    )
