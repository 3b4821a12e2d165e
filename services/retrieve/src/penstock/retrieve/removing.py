"""The indexer's SQL for what goes: retired versions, rejected batches, and the purge still owed."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg
from pydantic import TypeAdapter

from penstock.common.envelope import Envelope, Publication, Record
from penstock.common.events import DocumentPurged, DocumentRejected, DocumentRetired
from penstock.common.topics import DOCUMENT_PURGED
from penstock.retrieve.versions import DocumentKey

STORE = "index"

_ENVELOPE = TypeAdapter(Envelope)

_BURY = """
WITH gone AS (
    DELETE FROM chunk c
    USING indexed i, unnest($1::text[], $2::text[], $3::int[]) AS retired (tenant, document, version)
    WHERE i.tenant = retired.tenant AND i.document = retired.document
        AND c.tenant = i.tenant AND c.generation = i.generation AND c.document = i.document
        AND c.version <= retired.version
    RETURNING c.id, c.tenant, c.generation, c.document)
INSERT INTO dead_chunk (chunk, tenant, generation, document) SELECT * FROM gone
"""

_FORGET_INDEXED = """
DELETE FROM indexed i
USING unnest($1::text[], $2::text[], $3::int[]) AS retired (tenant, document, version)
WHERE i.tenant = retired.tenant AND i.document = retired.document AND i.version <= retired.version
"""

_FORGET_STAGED = """
DELETE FROM staging s
USING unnest($1::text[], $2::text[], $3::int[]) AS retired (tenant, document, version)
WHERE s.tenant = retired.tenant AND s.document = retired.document AND s.version <= retired.version
"""

_MARK = """
UPDATE document d SET
    removed_version = retired.version, removed_at = $4, updated_at = $4,
    version = greatest(d.version, retired.version),
    state = CASE WHEN live.stays THEN d.state ELSE 'removed' END,
    title = CASE WHEN live.stays THEN d.title END,
    chunks = CASE WHEN live.stays THEN d.chunks ELSE 0 END
FROM unnest($1::text[], $2::text[], $3::int[]) AS retired (tenant, id, version),
    LATERAL (SELECT EXISTS (SELECT FROM indexed i
        WHERE i.tenant = retired.tenant AND i.document = retired.id)) AS live (stays)
WHERE d.tenant = retired.tenant AND d.id = retired.id AND d.removed_version < retired.version
"""

_OWE = """
INSERT INTO purge (tenant, document, version, event, key, envelope)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING
"""

_REJECT = """
DELETE FROM staging s
USING unnest($1::text[], $2::text[], $3::int[]) AS rejected (tenant, document, version)
WHERE s.tenant = rejected.tenant AND s.document = rejected.document
    AND s.version = rejected.version
"""

_SETTLE = """
DELETE FROM purge p WHERE p.tenant = $1 AND NOT EXISTS (
    SELECT FROM dead_chunk d WHERE d.tenant = p.tenant AND d.document = p.document)
RETURNING p.event, p.key, p.envelope
"""


async def retire(
    connection: asyncpg.Connection, versions: Mapping[DocumentKey, int], at: datetime
) -> None:
    """
    Take away all that is stored of locked documents up to a version, their postings excepted.

    A document whose row names that version already has nothing left; this writes nothing then.
    """
    retired = [
        [key.tenant for key in versions],
        [key.document for key in versions],
        list(versions.values()),
    ]
    for statement in (_BURY, _FORGET_INDEXED, _FORGET_STAGED):
        await connection.execute(statement, *retired)
    await connection.execute(_MARK, *retired, at)


async def owe_purge(
    connection: asyncpg.Connection, records: Iterable[Record[DocumentRetired]]
) -> None:
    """Note that `document.purged` is due, in the removal's own transaction: no crash forgets it."""
    rows = []
    for record in records:
        event, envelope = record.value, record.envelope
        packed = _ENVELOPE.dump_json(envelope).decode()
        where = (envelope.tenant, event.document, event.version)
        rows.append((*where, event.model_dump_json(), record.key, packed))
    await connection.executemany(_OWE, rows)


async def reject(
    connection: asyncpg.Connection, records: Sequence[Record[DocumentRejected]]
) -> None:
    """Drop what is staged of exactly these versions."""
    await connection.execute(
        _REJECT,
        [record.envelope.tenant for record in records],
        [record.value.document for record in records],
        [record.value.version for record in records],
    )


async def settle(
    connection: asyncpg.Connection, tenant: str, at: datetime
) -> list[Publication[Any]]:
    """Strike off the purges of documents without a dead chunk left; what is to be announced."""
    rows = await connection.fetch(_SETTLE, tenant)
    return [_purged(row, at) for row in rows]


def _purged(row: asyncpg.Record, at: datetime) -> Publication[DocumentPurged]:
    event = DocumentRetired.model_validate_json(row["event"])
    body = DocumentPurged(
        document=event.document,
        collection=event.collection,
        submission=event.submission,
        position=event.position,
        version=event.version,
        store=STORE,
        at=at,
    )
    envelope = _ENVELOPE.validate_json(row["envelope"])
    return Publication(DOCUMENT_PURGED, row["key"], envelope.next(), body)
