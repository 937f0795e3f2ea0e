"""What a rule-based user understands of an assistant's text. Anything else is a "sorry ?"."""

import re
from functools import lru_cache

_WORD = re.compile(r"[a-z]+|[^\sa-z]")


@lru_cache(maxsize=65536)
def words(text: str) -> tuple[str, ...]:
    """The lower-case words and marks of a text: "Which day?" -> ("which", "day", "?")."""
    return tuple(_WORD.findall(text.lower()))


def booked(text: str) -> tuple[str, ...] | None:
    """What a text books: "book friday four" -> ("friday", "four"); None if it is no booking."""
    found = words(text)
    if not found or found[0] != "book":
        return None
    return tuple(word for word in found[1:] if word != ".")


def asked(text: str, names: tuple[str, ...]) -> str | None:
    """The one of `names` that a question is about; None if it is no question or not about one."""
    found = words(text)
    if not found or found[-1] != "?":
        return None
    named = [word for word in found if word in names]
    return named[0] if len(named) == 1 else None
