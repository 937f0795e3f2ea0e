"""Chance as a pure function of a key: the same key always gives the same draw.

Users and tasks keep no random state, so any dialogue can be branched at any turn and asked again.
A key is whatever names the decision: scenario, dialogue seed, turn, purpose.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")
Key = int | str

_STEPS = 2.0**-53  # one double holds 53 random bits exactly


def uniform(*key: Key) -> float:
    """A draw from [0, 1). Different keys give independent draws (blake2b, 53 bits)."""
    text = "\x1f".join(map(str, key))
    bits = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
    return (bits >> 11) * _STEPS


def happens(rate: float, *key: Key) -> bool:
    """True with probability `rate`, in [0, 1]."""
    return rate > 0 and uniform(*key) < rate


def pick(options: Sequence[T], *key: Key) -> T:
    """One of the options, each with the same probability. Needs at least one option."""
    return options[int(uniform(*key) * len(options))]


def shuffled(options: Sequence[T], *key: Key) -> list[T]:
    """The options in a uniformly random order."""
    order = sorted(range(len(options)), key=lambda i: uniform(*key, i))
    return [options[i] for i in order]
