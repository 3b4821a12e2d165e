"""Waiting for a dependency that is away: for ever, and so that one can ask what is waited for."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from penstock.common.failures import RetryPolicy, TransientError
from penstock.common.telemetry import RETRIES

log = structlog.get_logger()

T = TypeVar("T")

RETRY = RetryPolicy()

MOMENT_S = 1.0
"""A shorter wait is not worth a word: a transaction that lost a race is done again within it."""


class Waits:
    """Of one consumer group: the calls that wait, since when and for what."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._waiting: dict[object, tuple[float, str]] = {}

    def longest(self) -> str | None:
        """What is away, by the call that has waited for it the longest; None: nothing is."""
        since, reason = min(self._waiting.values(), default=(time.monotonic(), ""))
        return reason if time.monotonic() - since > MOMENT_S else None

    async def until_there(self, topic: str, call: Callable[[], Awaitable[T]]) -> T:
        """The call's result, as soon as what it depends on is there. Other errors pass through."""
        waiter = object()
        try:
            attempt = 0
            while True:
                attempt += 1
                try:
                    return await call()
                except TransientError as away:
                    RETRIES.labels(topic, self._group, "transient").inc()
                    log.warning("waits", topic=topic, attempt=attempt, error=str(away))
                    since, _ = self._waiting.get(waiter, (time.monotonic(), ""))
                    self._waiting[waiter] = (since, f"{topic} waits: {away}")
                await asyncio.sleep(RETRY.pause(attempt))
        finally:
            self._waiting.pop(waiter, None)

    async def written_beside(
        self, topic: str, publishing: Awaitable[object], write: Callable[[], Awaitable[T]]
    ) -> T:
        """
        Write something while something is published; its result once both are done.

        While the database is away only the writing is tried again: the whole call would publish
        again each time. Neither outlives the call, whatever becomes of the other.
        """
        written = asyncio.ensure_future(self.until_there(topic, write))
        try:
            await publishing
            return await written
        finally:
            written.cancel()
            await asyncio.gather(written, return_exceptions=True)
