"""Every way in which a model cannot be loaded is told in words."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from turnwise.backends import AdapterSpec
from turnwise.backends.loading import load_backend, resolved_device, resolved_dtype
from turnwise.backends.local import LocalBackend
from turnwise.backends.tiny import save_tiny, tiny_model, tiny_tokenizer
from turnwise.errors import ConfigError, ModelError, TemplateError
from turnwise.tokens import TurnBatch

TOKENIZER = tiny_tokenizer(["which day ?", "friday ."] * 3, 280)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    save_tiny(path, tiny_model(TOKENIZER, hidden_size=64, num_layers=1), TOKENIZER)
    return path


def batch() -> TurnBatch:
    token_BT = torch.arange(6, 26).reshape(2, 10)
    turn_of_token_BT = torch.full_like(token_BT, -1)
    turn_of_token_BT[:, 4:] = 0
    return TurnBatch(token_BT, turn_of_token_BT, torch.zeros(2, 10), torch.tensor([10, 10]))


def test_a_directory_becomes_a_backend_of_the_dtype_asked_for(folder: Path) -> None:
    backend = load_backend(folder, device="cpu", dtype="bfloat16", slots=3)
    assert backend.base.model.dtype == torch.bfloat16
    assert backend.slots == 3
    assert load_backend(folder, device="cpu").base.model.dtype == torch.float32


def test_weights_that_are_missing_are_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"expected \*.safetensors in .*model, found none"):
        load_backend(folder, device="cpu")


def test_weights_that_are_cut_are_named(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:9000])
    with pytest.raises(ModelError, match="expected a causal language model in .*copy the files"):
        load_backend(folder, device="cpu")


def test_weights_that_would_be_random_are_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 tensors, e.g. model.norm.weight"):
        load_backend(folder, device="cpu")


def test_a_config_that_is_not_json_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="found"):
        load_backend(folder, device="cpu")


def test_an_unknown_architecture_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["model_type"], config["architectures"] = "unheard_of", ["UnheardOf"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match="unheard_of"):
        load_backend(folder, device="cpu")


def test_code_beside_the_weights_is_never_run(folder: Path) -> None:
    witness = folder / "ran"
    (folder / "modeling_odd.py").write_text(f"open({str(witness)!r}, 'w')", encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["model_type"] = "odd"
    config["auto_map"] = {"AutoConfig": "modeling_odd.C", "AutoModelForCausalLM": "modeling_odd.M"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError):
        load_backend(folder, device="cpu")
    assert not witness.exists()


def test_a_tokenizer_without_chat_template_is_refused(folder: Path) -> None:
    for path in (folder / "chat_template.jinja", folder / "chat_template.json"):
        path.unlink(missing_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(TemplateError, match="no chat template"):
        load_backend(folder, device="cpu")


def test_a_directory_without_a_tokenizer_is_refused(folder: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(ModelError, match="expected a tokenizer in"):
        load_backend(folder, device="cpu")


@pytest.mark.parametrize("name", ["nowhere/at/all", "./nowhere", "/nowhere", "", "a b"])
def test_a_name_that_is_neither_directory_nor_hub_id_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="model directory or a hub id|config.json"):
        load_backend(name, device="cpu")


def test_a_directory_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected config.json"):
        load_backend(tmp_path, device="cpu")


def test_an_adapter_directory_is_merged_into_its_base(folder: Path, tmp_path: Path) -> None:
    backend = load_backend(folder, device="cpu")
    learner = backend.create("policy", AdapterSpec(rank=4))
    learner.forward_backward(batch(), lambda logp_BT: -logp_BT.sum())
    learner.optim_step(0.05)
    adapter = tmp_path / "adapter"
    learner.save(adapter)
    TOKENIZER.save_pretrained(adapter)
    merged = load_backend(adapter, device="cpu")
    assert isinstance(merged, LocalBackend)
    torch.testing.assert_close(
        merged.reference().logp(batch()), learner.logp(batch()), atol=1e-5, rtol=1e-5
    )


def test_devices_and_dtypes_are_checked() -> None:
    assert resolved_dtype("auto", torch.device("cuda")) == torch.bfloat16
    with pytest.raises(ConfigError, match="expected a dtype of"):
        resolved_dtype("float8", torch.device("cpu"))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="found none; use cpu"):
            resolved_device("cuda:0")
