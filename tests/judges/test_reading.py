"""Weights are read from whatever stands around them, and from nothing else."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.errors import SpeakerError
from turnwise.judges import checked_weights, read_weights


@pytest.mark.parametrize(
    "answer",
    [
        '{"weights": [3, 0.5, 0]}',
        '  \n{ "weights" :[3,5e-1,0.0], "why": "turn 1 asked"}\n',
        '```json\n{"weights": [3, 0.5, 0]}\n```',
        'Turn 1 mattered most.\n{"weights": [3, 0.5, 0]}\nI hope this helps {really}.',
        '<think>perhaps {"weights": [9, 9, 9]} or {"weights": [1</think>{"weights": [3, 0.5, 0]}',
    ],
)
def test_weights_are_found_among_words(answer: str) -> None:
    assert read_weights(answer, turns=3) == (3.0, 0.5, 0.0)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("", "JSON object"),
        ("Turn 1 was the best one.", "JSON object"),
        ("[3, 0.5, 0]", "JSON object"),
        ('{"weight": [3, 0.5, 0]}', "JSON object"),
        ('{"weights": [3, 0.5', "whole JSON object"),
        ('{"weights": [3, 0.5, 0]', "whole JSON object"),
        ('{"weights": [3, 0.5, 0]} {"weights": ', "whole JSON object"),
        ('{"weights": [3, 0.5, NaN]}', "whole JSON object"),
        ('{"weights": [3, Infinity, 1]}', "whole JSON object"),
        ('{"weights": ' + "[" * 100_000, "whole JSON object"),
        ('{"weights": {"1": 3}}', "list of weights"),
        ('{"weights": "3, 0.5, 0"}', "list of weights"),
        ('{"weights": ["3", "0.5", "0"]}', "numbers only"),
        ('{"weights": [3, true, 0]}', "numbers only"),
        ('{"weights": [3, null, 0]}', "numbers only"),
        ('{"weights": ["high", "low", "low"]}', "numbers only"),
        ('{"weights": [3, [1], 0]}', "numbers only"),
        ('{"weights": []}', "3 weights"),
        ('{"weights": [3, 1]}', "3 weights"),
        ('{"weights": [3, 1, 0, 0]}', "3 weights"),
        ('{"weights": [3, -0.1, 0]}', "turn 2"),
        ('{"weights": [3, 1, 100.5]}', "turn 3"),
        ('{"weights": [1e999, 1, 0]}', "turn 1"),
        ('{"weights": [' + "9" * 5000 + ", 1, 0]}", "turn 1"),
    ],
)
def test_nothing_is_guessed(answer: str, words: str) -> None:
    with pytest.raises(SpeakerError, match=words) as error:
        read_weights(answer, turns=3)
    assert len(str(error.value)) < 400


@settings(deadline=None)
@given(answer=st.text() | st.text('{}[]"weights:,0123.eE- \n'), turns=st.integers(1, 4))
def test_any_text_is_read_or_refused(answer: str, turns: int) -> None:
    try:
        assert len(read_weights(answer, turns=turns)) == turns
    except SpeakerError as error:
        assert "not judged" in str(error)


@settings(deadline=None)
@given(weights=st.lists(st.floats(0, 100), min_size=1, max_size=8))
def test_what_was_written_is_what_is_read(weights: list[float]) -> None:
    answer = f'{{"weights": {weights}}}'
    assert read_weights(answer, turns=len(weights)) == tuple(weights)


@pytest.mark.parametrize("unit", ["{", '{"weights"', '{"weights":', '{"weights":[', "{ \n"])
def test_a_megabyte_of_openings_is_refused_at_once(unit: str) -> None:
    answer = unit * (1_000_000 // len(unit))
    start_s = time.process_time()
    with pytest.raises(SpeakerError):
        read_weights(answer, turns=3)
    assert time.process_time() - start_s < 2


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1.0, 101.0])
def test_weights_out_of_range_are_named(wrong: float) -> None:
    with pytest.raises(SpeakerError, match="turn 2"):
        checked_weights([1.0, wrong], turns=2)
