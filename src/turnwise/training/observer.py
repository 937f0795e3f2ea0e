"""Whoever watches a job: the loop says what happens, an observer decides what becomes of it.

Nothing here changes a result. The terminal's observers are in `cli`; `Silent` is for libraries and
tests.
"""

from typing import Protocol


class Observer(Protocol):
    """Hears of the progress of a job; every call returns at once and raises nothing.

    A job is a sequence of phases ("warm start", "train", "evaluate"), one at a time: a new phase
    ends the one before it.
    """

    def phase(self, name: str, total: int | None = None) -> None:
        """A phase begins. total: its number of steps, None if nobody knows."""

    def advance(self, phase: str, by: int = 1, **metrics: float) -> None:
        """`by` more steps of the phase are done. metrics: the newest numbers, by their short names
        (reward, turns, tokens_per_s, ...)."""

    def message(self, text: str) -> None:
        """Something worth knowing."""

    def warning(self, text: str) -> None:
        """Something the user should look at; the job goes on."""


class Silent:
    """An observer that says nothing."""

    def phase(self, name: str, total: int | None = None) -> None:
        """Nothing is shown."""

    def advance(self, phase: str, by: int = 1, **metrics: float) -> None:
        """Nothing is shown."""

    def message(self, text: str) -> None:
        """Nothing is shown."""

    def warning(self, text: str) -> None:
        """Nothing is shown."""
