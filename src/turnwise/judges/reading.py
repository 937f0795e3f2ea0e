"""The weights in a language model's answer: tolerant of what stands around them, strict in them.

Around: reasoning, prose or a code fence may come before and after the JSON object; the last object
that opens with "weights" counts. In it: JSON numbers only. "7" in quotes, true, null, NaN and
Infinity are refused, since a judge that was asked for numbers and gives something else was not
following the question; nothing is guessed, cut or filled up.
"""

import json
import re

from turnwise.errors import SpeakerError
from turnwise.judges.protocol import checked_weights

_OPENING = re.compile(r'\{\s*"weights"\s*:')


def read_weights(answer: str, *, turns: int) -> tuple[float, ...]:
    """One weight in [0, MAX_WEIGHT] for each turn.

    Raises SpeakerError, with the opening of the answer, for anything else.
    """
    weights = _weights(answer)
    numbers = [weight for weight in weights if isinstance(weight, float)]
    if len(numbers) != len(weights):
        raise _unusable(answer, "numbers only as weights")
    return checked_weights(numbers, turns=turns)


def _weights(answer: str) -> list[object]:
    openings = [found.start() for found in _OPENING.finditer(answer)]
    if not openings:
        raise _unusable(answer, 'a JSON object {"weights": [...]}')
    # As float an integer of a thousand digits is infinite, and refused as such.
    decoder = json.JSONDecoder(parse_int=float, parse_constant=_refused)
    try:
        value = decoder.raw_decode(answer, openings[-1])[0]["weights"]
    except (ValueError, RecursionError):
        raise _unusable(answer, 'a whole JSON object {"weights": [...]}') from None
    if not isinstance(value, list):
        raise _unusable(answer, "a list of weights")
    return value


def _refused(constant: str) -> float:
    raise ValueError(constant)  # NaN and Infinity are no JSON


def _unusable(answer: str, expected: str) -> SpeakerError:
    return SpeakerError(
        f"expected {expected}, found {' '.join(answer[:400].split())[:100]!r}; the dialogue counts "
        "as not judged"
    )
