"""The outbox: what a request publishes is a row of its own transaction, and one relay sends it.

Under an advisory lock, so that one process of several publishes, in sequence. Publishing, then
marking: a crash in between publishes a row again, with the same `ce_id`.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol
from uuid import uuid4

import asyncpg
import orjson
import structlog
from aiokafka.structs import RecordMetadata

from penstock.api.postgres import OUTBOX_CHANNEL
from penstock.api.signals import Signals
from penstock.common.db import Database
from penstock.common.envelope import Envelope, Publication, headers
from penstock.common.events import MAX_EVENT_BYTES, Position, RemovalRequested
from penstock.common.failures import PermanentError, TransientError
from penstock.common.topics import REMOVAL_REQUESTED

log = structlog.get_logger()

SOURCE = "penstock/api"
BATCH = 200
RawHeaders = list[tuple[str, bytes]]


class Sender(Protocol):
    """Sends one record as it is, and says where it lies."""

    async def send(
        self, topic: str, key: bytes | None, value: bytes | None, raw: RawHeaders
    ) -> RecordMetadata: ...


@dataclass(frozen=True, slots=True)
class Announcement:
    """A delete whose null record, once it lies in the log, is to overtake the backlog."""

    document: str
    submission: str
    job: str


@dataclass(frozen=True, slots=True)
class Row:
    """One record to publish, as it will lie in Kafka."""

    tenant: str
    topic: str
    key: bytes | None
    value: bytes | None
    headers: RawHeaders
    announces: Announcement | None = None


async def enqueue(
    connection: asyncpg.Connection,
    *publications: Publication[Any],
    announces: Announcement | None = None,
) -> None:
    """
    Publish these, in this order, once the transaction commits.

    Raises:
        PermanentError: an event is larger than an event may be.
    """
    await enqueue_rows(connection, [_row(publication, announces) for publication in publications])


def _row(publication: Publication[Any], announces: Announcement | None) -> Row:
    value = publication.body.model_dump_json().encode() if publication.body else None
    if value is not None and len(value) > MAX_EVENT_BYTES:
        raise PermanentError(
            f"it makes an event of {len(value)} bytes and the limit is {MAX_EVENT_BYTES}; "
            "shorten the metadata or the conversation",
            type="event_too_large",
        )
    return Row(
        tenant=publication.envelope.tenant,
        topic=publication.topic.name,
        key=publication.key.encode(),
        value=value,
        headers=headers(publication, SOURCE),
        announces=announces,
    )


async def enqueue_rows(connection: asyncpg.Connection, rows: Sequence[Row]) -> None:
    """Publish these bytes once the transaction commits. Header values are kept bit for bit."""
    await connection.execute(
        """
        WITH queued AS (
            INSERT INTO outbox (tenant, topic, key, headers, value, announces)
            SELECT tenant, topic, key, headers::jsonb, value, nullif(announces, 'null') FROM unnest(
                $1::text[], $2::text[], $3::bytea[], $4::text[], $5::bytea[], $6::jsonb[])
                WITH ORDINALITY AS u(tenant, topic, key, headers, value, announces, n) ORDER BY n)
        SELECT pg_notify($7, '')
        """,
        [row.tenant for row in rows],
        [row.topic for row in rows],
        [row.key for row in rows],
        [_dump(row.headers) for row in rows],
        [row.value for row in rows],
        [asdict(row.announces) if row.announces else None for row in rows],
        OUTBOX_CHANNEL,
    )


def _dump(raw: RawHeaders) -> str:
    return orjson.dumps([[name, value.decode("latin-1")] for name, value in raw]).decode()


class Relay:
    """Publishes what is in the outbox, as long as it holds the lock."""

    def __init__(self, database: Database, sender: Sender, cluster: str, signals: Signals) -> None:
        self._database = database
        self._sender = sender
        self._cluster = cluster
        self._signals = signals

    async def run(self) -> None:
        """For ever; a dependency that is away is waited for."""
        with self._signals.listen(OUTBOX_CHANNEL) as woken:
            while True:
                try:
                    while await self.publish_some() == BATCH:
                        pass
                except TransientError as error:
                    log.warning("outbox_waits", error=str(error))
                await woken.wait(timeout=1.0)

    async def publish_some(self) -> int:
        """Publish the oldest rows, in sequence for every key; how many. None while another does."""
        # A mark that is lost is published again, with its ce_id: it needs no flush.
        async with self._database.transaction(flush=False) as connection:
            if not await connection.fetchval(
                "SELECT pg_try_advisory_xact_lock(hashtext('penstock api outbox'))"
            ):
                return 0
            rows = await connection.fetch(
                "SELECT * FROM outbox WHERE published_at IS NULL ORDER BY sequence LIMIT $1", BATCH
            )
            for wave in waves(rows):
                sent = await asyncio.gather(*(self._send(row) for row in wave))
                await self._mark(connection, wave, sent)
        return len(rows)

    async def _send(self, row: asyncpg.Record) -> RecordMetadata:
        raw = [(name, value.encode("latin-1")) for name, value in row["headers"]]
        return await self._sender.send(row["topic"], row["key"], row["value"], raw)

    async def _mark(
        self,
        connection: asyncpg.Connection,
        rows: Sequence[asyncpg.Record],
        sent: Sequence[RecordMetadata],
    ) -> None:
        """A published row keeps no value; a delete's place in the log is announced next."""
        await connection.execute(
            "UPDATE outbox SET published_at = clock_timestamp(), value = NULL "
            "WHERE sequence = ANY($1)",
            [row["sequence"] for row in rows],
        )
        for row, metadata in zip(rows, sent, strict=True):
            if row["announces"] is not None:
                await enqueue(connection, self._announcement(row, metadata))

    def _announcement(
        self, row: asyncpg.Record, metadata: RecordMetadata
    ) -> Publication[RemovalRequested]:
        deleted = Announcement(**row["announces"])
        return Publication(
            REMOVAL_REQUESTED,
            row["key"].decode(),
            Envelope(
                id=uuid4().hex, tenant=row["tenant"], job=deleted.job, subject=deleted.document
            ),
            RemovalRequested(
                document=deleted.document,
                submission=deleted.submission,
                position=Position(
                    cluster=self._cluster,
                    partition=metadata.partition,
                    offset=metadata.offset,
                    at=metadata.timestamp,
                ),
            ),
        )


def waves(rows: Sequence[asyncpg.Record]) -> list[list[asyncpg.Record]]:
    """Cut where a key comes again: records sent together might otherwise change places."""
    cut: list[list[asyncpg.Record]] = []
    keys: set[tuple[str, bytes | None]] = set()
    for row in rows:
        key = (row["topic"], row["key"])
        if not cut or key in keys:
            cut.append([])
            keys = set()
        cut[-1].append(row)
        keys.add(key)
    return cut


async def sweep(connection: asyncpg.Connection) -> None:
    """Published rows are kept an hour for whoever looks for the cause of something."""
    await connection.execute(
        "DELETE FROM outbox WHERE published_at < clock_timestamp() - interval '1 hour'"
    )
