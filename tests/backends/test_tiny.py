"""The tiny tokenizer writes any text, and the tiny model is decided by its seed."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from turnwise.backends.tiny import tiny_model, tiny_tokenizer
from turnwise.errors import ConfigError

TEXTS = ["please book a table .", "which day ?", "friday .", "no preference ."] * 5
TOKENIZER = tiny_tokenizer(TEXTS, 400)


def ids_of(messages: list[tuple[str, str]], generation_prompt: bool = False) -> list[int]:
    text = TOKENIZER.apply_chat_template(
        [{"role": role, "content": content} for role, content in messages],
        tokenize=False,
        add_generation_prompt=generation_prompt,
    )
    assert isinstance(text, str)
    return list(TOKENIZER.encode(text, add_special_tokens=False))


@given(text=st.text(max_size=40))
@settings(deadline=None)
def test_any_text_is_written_and_read_back_but_for_one_leading_space(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    assume(not any(name in text for name in TOKENIZER.all_special_tokens))  # they are no text
    read = TOKENIZER.decode(TOKENIZER.encode(text), skip_special_tokens=True)
    assert read == text.removeprefix(" ")


def test_a_word_is_the_same_token_at_the_start_and_inside() -> None:
    assert TOKENIZER.encode("day which day")[::2] == TOKENIZER.encode("day day")


@given(
    contents=st.lists(st.text("abc .?é", max_size=12), min_size=1, max_size=5),
)
@settings(deadline=None)
def test_every_rendering_begins_with_the_one_before(contents: list[str]) -> None:
    messages = [("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(contents)]
    for cut in range(1, len(messages)):
        earlier, whole = ids_of(messages[:cut]), ids_of(messages)
        assert whole[: len(earlier)] == earlier
        if messages[cut][0] == "assistant":
            prompt = ids_of(messages[:cut], generation_prompt=True)
            assert whole[: len(prompt)] == prompt


def test_a_message_costs_two_tokens_of_markup() -> None:
    body = TOKENIZER.encode("friday .")
    assert len(ids_of([("user", "friday .")])) == len(body) + 2
    assert ids_of([("user", "friday .")])[-1] == TOKENIZER.eos_token_id


def test_words_of_the_texts_are_single_tokens() -> None:
    assert len(TOKENIZER.encode("which day ?")) == 3
    assert 256 + 6 < len(TOKENIZER) <= 400


def test_special_tokens_have_distinct_ids_and_no_text() -> None:
    names = ["<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>", "<|pad|>"]
    ids = [TOKENIZER.convert_tokens_to_ids(name) for name in names]
    assert sorted(ids) == list(range(6))
    assert TOKENIZER.decode([*ids, *TOKENIZER.encode("day")], skip_special_tokens=True) == "day"


def test_the_tokenizer_is_decided_by_its_texts() -> None:
    again = tiny_tokenizer(TEXTS, 400)
    assert again.get_vocab() == TOKENIZER.get_vocab()


def test_a_vocabulary_without_room_for_bytes_is_refused() -> None:
    with pytest.raises(ConfigError, match="vocabulary of 262 or more"):
        tiny_tokenizer(TEXTS, 261)


def test_the_model_is_decided_by_its_seed_and_leaves_the_global_one() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, again, other = (
        tiny_model(TOKENIZER, hidden_size=64, num_layers=1, seed=seed) for seed in (5, 5, 6)
    )
    assert torch.equal(torch.get_rng_state(), state)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
    name = "model.embed_tokens.weight"
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


def test_the_default_model_has_about_a_million_parameters_and_tied_embeddings() -> None:
    model = tiny_model(TOKENIZER)
    assert 5e5 < model.num_parameters() < 2e6
    assert model.config.head_dim == 32
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_a_width_that_does_not_divide_into_heads_is_refused() -> None:
    with pytest.raises(ConfigError, match="64 divides, got 100"):
        tiny_model(TOKENIZER, hidden_size=100)
