"""What makes races happen: transactions that meet at a lock, in an order that the test decides."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

import asyncpg
import pytest

from penstock.local.stack import Servers

Result = TypeVar("Result")

_WAITING = """
SELECT pid, pg_blocking_pids(pid) AS behind FROM pg_stat_activity
WHERE cardinality(pg_blocking_pids(pid)) > 0
"""


class Barrier:
    """Work started here runs until it waits for what `connection` holds."""

    def __init__(self, connection: asyncpg.Connection, watching: asyncpg.Connection) -> None:
        self.connection = connection
        self._watching = watching
        self._started = 0

    async def start(self, work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        """Returns once one more transaction waits here: who starts first goes on first."""
        task = asyncio.create_task(work)
        self._started += 1
        async with asyncio.timeout(20):
            while len(await self._queue()) < self._started:
                assert not task.done(), f"it waited for nothing: {task}"
                await asyncio.sleep(0.005)
        return task

    async def _queue(self) -> set[int]:
        """Who waits for us, directly or behind another one who does."""
        rows = await self._watching.fetch(_WAITING)
        us = {await self.connection.fetchval("SELECT pg_backend_pid()")}
        queue: set[int] = set()
        while more := {r["pid"] for r in rows if (us | queue) & set(r["behind"])} - queue:
            queue |= more
        return queue


Barriers = Callable[..., AbstractAsyncContextManager[Barrier]]


@pytest.fixture
def barrier(servers: Servers) -> Barriers:
    """`async with barrier(schema, sql, *arguments)`: a transaction that has run `sql`.

    It is rolled back at the end of the block, and whoever waits goes on.
    """

    @asynccontextmanager
    async def held(schema: str, hold: str, *arguments: Any) -> AsyncIterator[Barrier]:
        dsn = servers.dsns[schema]
        watching = await asyncpg.connect(dsn)
        connection = await asyncpg.connect(dsn, server_settings={"search_path": schema})
        try:
            async with asyncio.timeout(60):
                transaction = connection.transaction()
                await transaction.start()
                await connection.execute(hold, *arguments)
                yield Barrier(connection, watching)
                await transaction.rollback()
        finally:
            await connection.close()
            await watching.close()

    return held
