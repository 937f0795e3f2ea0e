"""A tokenizer and a model small enough to learn on a laptop: built here, nothing downloaded."""

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from turnwise.backends.progress_bars import no_progress_bars
from turnwise.errors import ConfigError

HEAD_DIM = 32  # the least that vLLM's attention kernels accept
MAX_POSITIONS = 4096
ROLE_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
END, PAD = "<|end|>", "<|pad|>"

# Two tokens of markup a message, and every rendering is a prefix of the next.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def tiny_tokenizer(texts: Iterable[str], vocab_size: int = 1024) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of these texts with a compact chat template.

    vocab_size: upper limit, 256 bytes and 6 special tokens included. Any text is representable;
    one space at the start of a text is neither kept nor added.
    Raises ConfigError if the limit leaves no room for the bytes.
    """
    special = [*ROLE_TOKENS, END, PAD]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocab_size < len(alphabet) + len(special):
        raise ConfigError(
            f"expected a vocabulary of {len(alphabet) + len(special)} or more (bytes and special "
            f"tokens), got {vocab_size}"
        )
    raw = RawTokenizer(models.BPE())
    # A word is the same token at the start of a message as inside it, or copying it from what the
    # user said is a lookup to be learnt word by word.
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    raw.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=list(ROLE_TOKENS),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_POSITIONS,
    )


def tiny_model(
    tokenizer: PreTrainedTokenizerFast,
    *,
    hidden_size: int = 192,
    num_layers: int = 2,
    seed: int = 0,
) -> PreTrainedModel:
    """A Qwen3-shaped model for the tokenizer, about 1 M parameters at the default size.

    hidden_size: a multiple of 64 (heads of width 32, two query heads on each key head).
    seed: the same seed gives the same weights; the global random state is left as it was.
    Raises ConfigError for a width that does not divide into heads.
    """
    if hidden_size % (2 * HEAD_DIM):
        raise ConfigError(f"expected a hidden_size that 64 divides, got {hidden_size}")
    heads = hidden_size // HEAD_DIM
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=10 * hidden_size // 3,
        num_hidden_layers=num_layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        head_dim=HEAD_DIM,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        # At a width this small the usual 0.02 starts attention so weak that copying a word from the
        # context is not learnt in a thousand steps; near 1/√width it is in three hundred.
        initializer_range=0.7 * hidden_size**-0.5,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model: PreTrainedModel = Qwen3ForCausalLM(config)
    model.eval()
    return model


def save_tiny(path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write both as one Hugging Face directory (safetensors), which `load_backend` reads."""
    with no_progress_bars():
        model.save_pretrained(path)
    tokenizer.save_pretrained(path)
