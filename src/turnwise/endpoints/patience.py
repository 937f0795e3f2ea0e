"""How long an answer is waited for, and when a question is put again."""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from turnwise.errors import ConfigError


@dataclass(frozen=True)
class Patience:
    """Limits of one question."""

    retries: int = 5  # requests after the first one that failed in a way that may pass
    timeout_s: float = 60.0  # of one request, from connecting to the reply's last byte
    total_timeout_s: float = 600.0  # of the question: all its requests and pauses
    first_pause_s: float = 1.0
    longest_pause_s: float = 30.0  # unless the server asks for more

    def __post_init__(self) -> None:
        limits = (self.timeout_s, self.total_timeout_s, self.first_pause_s, self.longest_pause_s)
        if self.retries < 0 or min(limits) <= 0:
            raise ConfigError(f"expected 0 or more retries and times above 0 s, found {self}")

    def pause_s(self, attempt: int, asked_s: float | None) -> float:
        """Seconds before request `attempt` + 2: first · 2^attempt, capped, times 0.5 to 1 by chance
        so that many who were refused at once do not come back at once; at least what the server
        asked for."""
        backoff_s = min(self.first_pause_s * 2.0 ** min(attempt, 30), self.longest_pause_s)
        return max(backoff_s * random.uniform(0.5, 1.0), asked_s or 0.0)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait; None where it does not say, or not in a readable way.

    Source: RFC 9110, 10.2.3: seconds or a date.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
