"""From a directory or a hub id to a backend, with every way this can fail told in plain words."""

import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import cast

import torch
from peft import PeftConfig, PeftModel
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from turnwise.backends.local import LocalBackend
from turnwise.backends.progress_bars import no_progress_bars
from turnwise.errors import ConfigError, ModelError, TemplateError

VOCABULARY_FILES = ("tokenizer.json", "*.model", "vocab.*", "*.tiktoken", "tekken.json")
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def load_backend(
    name_or_dir: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    gradient_checkpointing: bool = False,
    max_rows: int = 32,
    max_tokens: int = 16384,
    slots: int = 128,
) -> LocalBackend:
    """A backend on any Hugging Face causal language model.

    name_or_dir: a directory with config, safetensors weights and tokenizer, a LoRA directory (it is
    merged into its base, or the reference would be wrong), or a hub id. device: "auto" takes CUDA
    where there is one. dtype: "float32", "bfloat16", or "auto" (bfloat16 on CUDA).
    Raises ModelError if the model cannot be loaded, TemplateError without a chat template,
    ConfigError for an unknown dtype or a device that is not there.
    """
    place = resolved_device(device)
    tokenizer = load_tokenizer(name_or_dir)
    model = load_model(name_or_dir, dtype=resolved_dtype(dtype, place))
    return LocalBackend(
        model,
        tokenizer,
        device=place,
        gradient_checkpointing=gradient_checkpointing,
        max_rows=max_rows,
        max_tokens=max_tokens,
        slots=slots,
    )


def resolved_device(device: str) -> torch.device:
    """Raises ConfigError for CUDA where there is none."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"expected a CUDA device for device={device!r}, found none; use cpu")
    return torch.device(device)


def resolved_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Raises ConfigError for a name other than auto, float32 or bfloat16."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype not in known:
        raise ConfigError(f"expected a dtype of {['auto', *known]}, got {dtype!r}")
    return known[dtype]


def load_tokenizer(name_or_dir: str | Path) -> PreTrainedTokenizerBase:
    """Raises ModelError if there is none, TemplateError if it has no chat template."""
    folder = _check_directory(name_or_dir)
    # Transformers would make an empty tokenizer out of a directory that has none.
    if folder is not None and not any(any(folder.glob(name)) for name in VOCABULARY_FILES):
        raise ModelError(
            f"expected a tokenizer in {folder}, found none of {VOCABULARY_FILES}; "
            "save the tokenizer into the model's directory"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(name_or_dir), trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"expected a tokenizer in {name_or_dir}, found {_first_line(error)}; "
            "save the tokenizer into the model's directory"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ModelError(f"{name_or_dir} gave a {type(tokenizer).__name__}, not a tokenizer")
    if tokenizer.chat_template is None:
        raise TemplateError(
            f"the tokenizer of {name_or_dir} has no chat template, so a conversation has no text; "
            "use an instruction-tuned model or add chat_template.jinja to its directory"
        )
    return tokenizer


def load_model(name_or_dir: str | Path, *, dtype: torch.dtype) -> PreTrainedModel:
    """Raises ModelError for a missing, incomplete or corrupt model; safetensors only."""
    folder = _check_directory(name_or_dir)
    if folder is not None and (folder / "adapter_config.json").is_file():
        return _load_merged(folder, dtype)
    if folder is not None and not list(folder.glob("*.safetensors")):
        raise ModelError(
            f"expected *.safetensors in {folder}, found none; save the model with "
            "safe_serialization (pickled weights are never loaded)"
        )
    try:
        with no_progress_bars():
            model, info = cast(
                tuple[object, Mapping[str, Collection[str]]],
                AutoModelForCausalLM.from_pretrained(
                    str(name_or_dir),
                    dtype=dtype,
                    use_safetensors=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                ),
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"expected a causal language model in {name_or_dir}, found {_first_line(error)}; "
            "check the name, or copy the files again"
        ) from error
    if info["missing_keys"]:
        raise ModelError(
            f"the weights in {name_or_dir} lack {len(info['missing_keys'])} tensors, e.g. "
            f"{sorted(info['missing_keys'])[0]}; they would be random: copy the files again"
        )
    if not isinstance(model, PreTrainedModel):
        raise ModelError(f"{name_or_dir} gave a {type(model).__name__}, not a language model")
    return model


def _load_merged(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    config = PeftConfig.from_pretrained(str(folder))
    if not config.base_model_name_or_path:
        raise ModelError(f"{folder} is an adapter that does not name its base; give the base")
    base = load_model(config.base_model_name_or_path, dtype=dtype)
    try:
        with warnings.catch_warnings():
            # PEFT 0.21 still asks transformers 5.23 by the old name.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")
            merged = PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"expected a LoRA adapter in {folder}, found {_first_line(error)}"
        ) from error
    if not isinstance(merged, PreTrainedModel):
        raise ModelError(f"{folder} merged into a {type(merged).__name__}, not a language model")
    return merged


def _check_directory(name_or_dir: str | Path) -> Path | None:
    """The directory if it is one, None for what looks like a hub id; ModelError otherwise."""
    folder = Path(name_or_dir)
    if folder.is_dir():
        if (
            not (folder / "config.json").is_file()
            and not (folder / "adapter_config.json").is_file()
        ):
            raise ModelError(f"expected config.json in {folder}, found none; is it a model?")
        return folder
    if folder.exists() or not HUB_ID.fullmatch(str(name_or_dir)):
        raise ModelError(
            f"expected a model directory or a hub id such as org/name, got {str(name_or_dir)!r}; "
            "there is no such directory"
        )
    return None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
