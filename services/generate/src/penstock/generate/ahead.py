"""Sentences on their way while the rest of their answer is being written."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Self

from penstock.common.events import AnswerDrafted


class Ahead:
    """Sends sentences ahead of their answer, in order, unless the rest follows within a moment.

    An answer that is there at once would go through the guard, the log and the API twice: as its
    sentences and as a whole.
    """

    def __init__(
        self, publish: Callable[[AnswerDrafted], Awaitable[object]], moment: timedelta
    ) -> None:
        self._publish = publish
        self._moment_s = moment.total_seconds()
        self._held: list[AnswerDrafted] = []
        self._sending: list[asyncio.Future[object]] = []
        self._moment: asyncio.TimerHandle | None = None
        self.went = False
        """Some went; the others follow at once."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._moment is not None:
            self._moment.cancel()
        for one in self._sending:
            one.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    def send(self, sentence: AnswerDrafted) -> None:
        """The rest of the answer does not wait for the brokers."""
        self._held.append(sentence)
        if self.went or not self._moment_s:
            self._release()
        elif self._moment is None:
            loop = asyncio.get_running_loop()
            self._moment = loop.call_later(self._moment_s, self._release)

    async def sent(self) -> None:
        """Everything that went ahead has arrived; what is held still need not go."""
        if self._moment is not None:
            self._moment.cancel()
        await asyncio.gather(*self._sending)

    def _release(self) -> None:
        self.went = True
        self._sending += [asyncio.ensure_future(self._publish(one)) for one in self._held]
        self._held.clear()
