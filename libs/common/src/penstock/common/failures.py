"""Errors by what is to be done about them, and how often to try again.

Each adapter classifies once, where it knows the technology:

`TransientError`
    The dependency is away or busy. The record waits and is tried again, without limit; it is
    never dead-lettered.
`PermanentError`
    Trying again cannot help. The record goes to the dead letters at once.

Any other exception is a bug: three attempts, then the dead letters, loudly.
"""

import random
from dataclasses import dataclass

from penstock.common.events import Failure


class TransientError(Exception):
    """The dependency is away or busy: wait, then try again."""


class PermanentError(Exception):
    """Trying again cannot help. `type` is the machine's word for it, the message a person's."""

    def __init__(self, message: str, *, type: str = "invalid") -> None:  # noqa: A002
        super().__init__(message)
        self.type = type

    def failure(self) -> Failure:
        return Failure(type=self.type, message=str(self))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter, seconds."""

    first: float = 0.1
    longest: float = 5.0
    attempts: int = 3
    """Bound for unclassified exceptions; transient ones have none."""

    def pause(self, attempt: int) -> float:
        """Seconds to wait after the `attempt`-th failure (counted from 1)."""
        ceiling = min(self.longest, self.first * float(2 ** min(attempt - 1, 16)))
        return ceiling * (0.5 + random.random() / 2)  # noqa: S311  (jitter, no secret)


class DlqLimit:
    """Says when nearly everything fails, so that bad code cannot drain a topic into its DLQ.

    Only unclassified exceptions count: a sender's bad input is the sender's, and must not stop
    its neighbours. Open again as soon as one record succeeds. The idea is Sentry arroyo's.
    """

    def __init__(self, window: int = 20) -> None:
        self._window = window
        self._in_a_row = 0

    @property
    def reached(self) -> bool:
        return self._in_a_row >= self._window

    def failed(self) -> None:
        self._in_a_row += 1

    def succeeded(self) -> None:
        self._in_a_row = 0
