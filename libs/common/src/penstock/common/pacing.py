"""How often a consumer asks the brokers for more, and how long a request for more lies there."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fetch:
    """A fetch is answered when there are `min_bytes`, or after `wait_ms`."""

    wait_ms: int
    min_bytes: int


PROMPT = Fetch(wait_ms=500, min_bytes=1)
"""A partition that is resumed waits for the end of the fetch that lies at the brokers."""

PATIENT = Fetch(wait_ms=100, min_bytes=1024 * 1024)
"""Waits for its bytes in vain, so that a fetch brings all that came meanwhile."""

MOMENT_S = 0.01
"""How long those who come one after the other may wait to be handled together."""


class Pace:
    """A burst at once, then so many a second: a leaky bucket.

    A poll costs broker and consumer some milliseconds of processor time whatever it brings, since
    every request names every partition. In a steady stream each brings a record or two; asked for
    less often, it brings all of them together. What arrives at a quiet consumer waits for nothing.
    """

    def __init__(self, per_s: float = 10, burst: int = 10) -> None:
        self._step = 1 / per_s
        self._ahead = burst / per_s
        self._due = 0.0

    def pause(self, now: float) -> float:
        """Seconds to wait before the next poll, after one at `now` (a monotonic clock)."""
        self._due = max(self._due, now - self._ahead) + self._step
        return max(0.0, self._due - now)
