"""Upkeep in the background: merges, purges that are owed, staging left over.

One process per tenant at a time, by an advisory lock that lives as long as the transaction. A merge
reads segments that never change, so writers and deletes go on meanwhile: what dies during a merge is
in `dead_chunk` and found by the next one. A query sees the old segments or the new one, by its
statement's snapshot.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import numpy as np
import structlog

from penstock.common.db import Database
from penstock.common.failures import TransientError
from penstock.retrieve import removing, segments, staging, writing
from penstock.retrieve.segments import Ids, Postings, Segment, StoredPostings

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
REST = 4
"""After a round it rests this many times as long as the round took: a fifth of a core at most."""

LONGEST_REST_S = 30.0
SWEEP_EVERY_S = 3600.0

_TENANTS = """
SELECT tenant FROM purge UNION SELECT tenant FROM dead_chunk
UNION SELECT tenant FROM segment GROUP BY tenant, generation HAVING count(*) >= $1
"""

_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(hashtext('retrieve.upkeep'), hashtext($1))"

_DEAD = """
SELECT d.chunk, EXISTS (
    SELECT FROM purge p WHERE p.tenant = d.tenant AND p.document = d.document) AS owed
FROM dead_chunk d WHERE d.tenant = $1 AND d.generation = $2
"""

_IDS = "SELECT id FROM segment WHERE tenant = $1 AND generation = $2 ORDER BY id"

_SEGMENTS = """
SELECT id, base, chunks, total_length, members FROM segment
WHERE tenant = $1 AND generation = $2
"""

_POSTINGS = """
SELECT segment, term, chunks, tfs, lengths FROM posting_block WHERE segment = ANY ($1::bigint[])
"""


Publish = Callable[..., Awaitable[Any]]
"""`Publisher.publish`."""


class Upkeep:
    """Keeps the segments few and the promises to forget."""

    def __init__(self, database: Database, publish: Publish, untidy: asyncio.Event) -> None:
        self._database = database
        self._publish = publish
        self._untidy = untidy
        self._left_alone: dict[tuple[str, int], object] = {}
        """How each generation looked when there was nothing to merge: no need to look closer."""

    async def run(self) -> None:
        """Until cancelled. Postgres or Kafka being away only delays it."""
        swept = float("-inf")
        while True:
            self._untidy.clear()
            began = time.monotonic()
            merged = False
            try:
                merged = await self.round()
                if began - swept > SWEEP_EVERY_S:
                    await self.sweep()
                    swept = began
            except TransientError as error:
                log.warning("upkeep_waits", error=str(error))
                await asyncio.sleep(LOOK_EVERY_S)
            # A round that took long and merged nothing has waited for Postgres or kept a promise to
            # forget: neither is put off. Receipts came half a minute late after an outage.
            longest = LONGEST_REST_S if merged else LOOK_EVERY_S
            await asyncio.sleep(min(longest, REST * (time.monotonic() - began)))
            await self._woken()

    async def _woken(self) -> None:
        try:
            await asyncio.wait_for(self._untidy.wait(), LOOK_EVERY_S)
        except TimeoutError:
            return

    async def round(self) -> bool:
        """Do all that is due, for every tenant; whether segments were merged."""
        merged = False
        async with self._database.transaction() as connection:
            tenants = [r["tenant"] for r in await connection.fetch(_TENANTS, segments.FAN_IN)]
        for tenant in tenants:
            while await self.merge(tenant):
                merged = True
            await self.settle(tenant)
        return merged

    async def merge(self, tenant: str) -> bool:
        """One merge, in one transaction. False: nothing to do, or another process is at it."""
        async with self._database.transaction() as connection:
            if not await connection.fetchval(_TRY_LOCK, tenant):
                return False
            generations = await connection.fetch(
                "SELECT DISTINCT generation FROM segment WHERE tenant = $1", tenant
            )
            for row in generations:
                if await self._merge(connection, tenant, row["generation"]):
                    return True
        return False

    async def _merge(self, connection: asyncpg.Connection, tenant: str, generation: int) -> bool:
        # The dead are read before the segments: who dies in between waits for the next merge.
        dead, owed = await _dead(connection, tenant, generation)
        ids = await connection.fetch(_IDS, tenant, generation)
        look = (len(dead), len(owed), tuple(row["id"] for row in ids))
        if self._left_alone.get((tenant, generation)) == look:
            return False
        found = await _segments(connection, tenant, generation)
        chosen = await asyncio.to_thread(segments.plan, found, dead, owed)
        if chosen is None:
            self._left_alone[tenant, generation] = look
            return False
        await _rewrite(connection, tenant, generation, chosen, dead)
        return True

    async def settle(self, tenant: str) -> None:
        """Announce `document.purged` where nothing is left; struck off only once it is published."""
        async with self._database.transaction() as connection:
            publications = await removing.settle(connection, tenant, datetime.now(UTC))
            if publications:
                await self._publish(*publications)

    async def sweep(self) -> None:
        async with self._database.transaction() as connection:
            await staging.sweep(connection)


async def _dead(connection: asyncpg.Connection, tenant: str, generation: int) -> tuple[Ids, Ids]:
    """Numbers of the dead chunks, and of those among them whose purge is owed."""
    rows = await connection.fetch(_DEAD, tenant, generation)
    dead = np.array([row["chunk"] for row in rows], np.int64)
    return dead, dead[np.array([row["owed"] for row in rows], bool)]


async def _rewrite(
    connection: asyncpg.Connection,
    tenant: str,
    generation: int,
    chosen: Sequence[Segment],
    dead: Ids,
) -> None:
    began = time.monotonic()
    stored = await _postings(connection, chosen)
    built = await asyncio.to_thread(segments.merge, chosen, stored, dead)
    await _replace(connection, tenant, generation, chosen, built)
    members = np.concatenate([segment.members for segment in chosen])
    dropped = np.intersect1d(members, dead)
    await connection.execute(
        "DELETE FROM dead_chunk WHERE chunk = ANY ($1::bigint[])", dropped.tolist()
    )
    log.info(
        "segments_merged",
        tenant=tenant,
        segments=len(chosen),
        chunks=len(members) - len(dropped),
        dropped=len(dropped),
        seconds=round(time.monotonic() - began, 3),
    )


async def _segments(connection: asyncpg.Connection, tenant: str, generation: int) -> list[Segment]:
    rows = await connection.fetch(_SEGMENTS, tenant, generation)
    return [Segment(r["id"], r["base"], r["chunks"], r["total_length"], _members(r)) for r in rows]


def _members(row: asyncpg.Record) -> Ids:
    return segments.members_of(row["base"], row["members"])


async def _postings(
    connection: asyncpg.Connection, chosen: Sequence[Segment]
) -> list[StoredPostings]:
    rows = await connection.fetch(_POSTINGS, [segment.id for segment in chosen])
    return [
        StoredPostings(r["segment"], Postings(r["term"], r["chunks"], r["tfs"], r["lengths"]))
        for r in rows
    ]


async def _replace(
    connection: asyncpg.Connection,
    tenant: str,
    generation: int,
    chosen: Sequence[Segment],
    built: segments.Built | None,
) -> None:
    ids = [segment.id for segment in chosen]
    await connection.execute("DELETE FROM posting_block WHERE segment = ANY ($1::bigint[])", ids)
    await connection.execute("DELETE FROM segment WHERE id = ANY ($1::bigint[])", ids)
    if built is not None:
        await writing.write_segment(connection, tenant, generation, built)
