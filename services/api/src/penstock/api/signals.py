"""Who waits for what: one listening connection a process, NOTIFY from any replica.

Sent in the transaction that wrote the news, so whoever is woken finds it.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import structlog

from penstock.api.postgres import JOB_CHANNEL, OUTBOX_CHANNEL, WEBHOOK_CHANNEL

log = structlog.get_logger()

_AWAY = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # spoken to while it says goodbye
)


class Woken:
    """Set by news; `wait` returns when there is some, or after the timeout."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, timeout: float) -> bool:
        """True when there was news. Clears it: look for the news after waiting, never before."""
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Signals:
    """Wakes waiters by name: a job's signal, or one of the channels."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._waiting: dict[str, set[Woken]] = {}
        self.connected = asyncio.Event()
        self.stopping = False
        """Nobody is to wait any longer: each says what it knows, and the client asks again."""

    def stop(self) -> None:
        self.stopping = True
        self._wake_all()

    @contextmanager
    def listen(self, name: str) -> Iterator[Woken]:
        """Begin to listen; what is read from now on cannot be missed."""
        woken = Woken()
        self._waiting.setdefault(name, set()).add(woken)
        try:
            yield woken
        finally:
            waiting = self._waiting[name]
            waiting.discard(woken)
            if not waiting:
                del self._waiting[name]

    async def run(self) -> None:
        """For ever. While the connection is away nobody is woken, so afterwards everybody is."""
        while True:
            try:
                await self._follow()
            except _AWAY as error:
                log.warning("signals_away", error=repr(error))
            self.connected.clear()
            await asyncio.sleep(0.5)

    async def _follow(self) -> None:
        connection = await asyncpg.connect(self._dsn)
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            for channel in (JOB_CHANNEL, OUTBOX_CHANNEL, WEBHOOK_CHANNEL):
                await connection.add_listener(channel, self._on_notify)
            self._wake_all()
            self.connected.set()
            await lost.wait()
        finally:
            await connection.close(timeout=1)

    def _on_notify(self, _: object, __: int, channel: str, payload: object) -> None:
        for woken in self._waiting.get(str(payload) or channel, ()):
            woken.set()

    def _wake_all(self) -> None:
        for waiting in self._waiting.values():
            for woken in waiting:
                woken.set()
