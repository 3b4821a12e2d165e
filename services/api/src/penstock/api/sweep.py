"""What time does: questions expire at their deadline, idle document jobs too, old rows go."""

import asyncio

import asyncpg
import structlog

from penstock.api import ledger, outbox
from penstock.api.settings import ApiSettings
from penstock.api.settling import settle
from penstock.api.states import Cause
from penstock.common.db import Database
from penstock.common.failures import TransientError

log = structlog.get_logger()

EVERY_S = 1.0
CLEAN_EVERY_S = 60.0
AT_ONCE = 200


class Sweeper:
    """Any number of processes may run it: jobs are locked before they are looked at."""

    def __init__(self, settings: ApiSettings, database: Database) -> None:
        self._settings = settings
        self._database = database

    async def run(self) -> None:
        """For ever."""
        since_cleaning = CLEAN_EVERY_S
        while True:
            try:
                await self.expire()
                if since_cleaning >= CLEAN_EVERY_S:
                    since_cleaning = 0.0
                    await self.clean()
            except TransientError as error:
                log.warning("sweep_waits", error=str(error))
            await asyncio.sleep(EVERY_S)
            since_cleaning += EVERY_S

    async def expire(self) -> int:
        """
        End what is over its time; how many jobs.

        A document job counts from what was last heard of it, and from its take-in at the
        earliest: one that waits in a backlog does not expire.
        """
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                """
                SELECT tenant, id FROM job WHERE state IN ('accepted', 'running')
                AND (deadline < clock_timestamp() OR (kind <> 'question'
                    AND progressed_at < clock_timestamp() - make_interval(hours => 1) * $1))
                ORDER BY tenant, id LIMIT $2
                """,
                self._settings.document_job_hours,
                AT_ONCE,
            )
            jobs = await ledger.lock_known(connection, [(r["tenant"], r["id"]) for r in rows])
            await settle(connection, jobs.values(), Cause.EXPIRE)
        return len(jobs)

    async def clean(self) -> None:
        """Rows that nobody will ask for any more."""
        async with self._database.transaction() as connection:
            await outbox.sweep(connection)
            await self._forget(connection)

    async def _forget(self, connection: asyncpg.Connection) -> None:
        """Jobs and idempotency keys beyond their retention; the rest goes with its job."""
        days = self._settings.job_retention_days
        await connection.execute(
            "DELETE FROM job WHERE finished_at < clock_timestamp() - make_interval(days => 1) * $1",
            days,
        )
        await connection.execute(
            "DELETE FROM idempotency WHERE at < clock_timestamp() - make_interval(days => 1) * $1",
            days,
        )
