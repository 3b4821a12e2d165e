"""Schema `ingest`: documents, their submissions and versions."""

import json
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from penstock.common.db import Database
from penstock.common.events import DocumentSubmitted, Position
from penstock.ingest.takein import (
    Decision,
    DocumentState,
    Incoming,
    Outcome,
    Submission,
    decide,
)

MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class TakenIn:
    """The decision, and what is kept of the submission it belongs to."""

    decision: Decision
    generation: int
    blob: str | None
    collection: str


class Submissions:
    """Takes records in, each under the lock of its document's row."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take_in(
        self,
        tenant: str,
        document: str,
        incoming: Incoming,
        body: DocumentSubmitted | None,
        blob: str | None = None,
    ) -> TakenIn:
        """Decide about a record and keep the decision; safe to repeat.

        `body` None: a delete. `blob` is kept with a new submission, and is what a known one kept.
        """
        async with self._database.transaction() as connection:
            row = await _lock(connection, tenant, document)
            last = await connection.fetchrow(_LAST, tenant, document, row["version"])
            known = await connection.fetchrow(_KNOWN, tenant, document, incoming.submission)
            state = DocumentState(
                row["version"], _position(row), _submission(last) if last else None
            )
            decision = decide(state, _submission(known) if known else None, incoming)
            collection = body.collection if body is not None else row["collection"]
            if known is not None:
                return TakenIn(decision, known["generation"], known["blob"], collection)
            kept = blob if decision.outcome is Outcome.NEW else None
            if decision.version is not None:
                await _keep(
                    connection, tenant, document, incoming, body, decision, kept, collection
                )
            return TakenIn(decision, incoming.generation, kept, collection)

    async def keep_blob(self, tenant: str, document: str, submission: str, blob: str) -> bool:
        """Note what a uri held; False when the submission was purged meanwhile."""
        async with self._database.transaction() as connection:
            await _lock(connection, tenant, document)
            status = await connection.execute(_KEEP_BLOB, tenant, document, submission, blob)
            return bool(status == "UPDATE 1")

    async def overtaken(self, tenant: str, document: str, version: int) -> bool:
        """True when a higher number has been given."""
        async with self._database.transaction() as connection:
            highest = await connection.fetchval(
                "SELECT version FROM document WHERE tenant = $1 AND id = $2", tenant, document
            )
        return highest is not None and highest > version

    async def confirm(self, tenant: str, document: str, version: int, generation: int) -> list[str]:
        """Note that a version is searchable; the blobs of older ones, which nothing needs now."""
        async with self._database.transaction() as connection:
            await _lock(connection, tenant, document)
            await connection.execute(_CONFIRM, tenant, document, version, generation)
            return await _blobs_to_purge(connection, tenant, document, version - 1)

    async def blobs_up_to(self, tenant: str, document: str, version: int) -> list[str]:
        """Blobs of a document up to a version; to be deleted before `purge` forgets them."""
        async with self._database.transaction() as connection:
            await _lock(connection, tenant, document)
            return await _blobs_to_purge(connection, tenant, document, version)

    async def purge(self, tenant: str, document: str, version: int) -> None:
        """Forget the content up to a version: ids, versions and fingerprints stay."""
        async with self._database.transaction() as connection:
            await _lock(connection, tenant, document)
            await connection.execute(_PURGE, tenant, document, version)


_LAST = """
SELECT version, fingerprint, generation, confirmed, unchanged FROM submission
WHERE tenant = $1 AND document = $2 AND version = $3 AND NOT unchanged
"""

_KNOWN = """
SELECT version, fingerprint, generation, confirmed, unchanged, blob FROM submission
WHERE tenant = $1 AND document = $2 AND id = $3
"""

_INSERT_SUBMISSION = """
INSERT INTO submission (tenant, document, id, version, cluster, partition, "offset", appended,
    fingerprint, generation, unchanged, blob, title, filename, metadata, access)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
"""

_ADVANCE = """
UPDATE document SET version = $3, collection = $4,
    cluster = $5, partition = $6, "offset" = $7, appended = $8
WHERE tenant = $1 AND id = $2
"""

_KEEP_BLOB = """
UPDATE submission SET blob = $4
WHERE tenant = $1 AND document = $2 AND id = $3 AND NOT purged
"""

_CONFIRM = """
UPDATE submission SET confirmed = true
WHERE tenant = $1 AND document = $2 AND version = $3 AND generation = $4 AND NOT unchanged
"""

# `purged` is set first, so that no blob can be noted after the list was read.
_MARK_PURGED = """
UPDATE submission SET purged = true WHERE tenant = $1 AND document = $2 AND version <= $3
"""

_BLOBS = """
SELECT blob FROM submission
WHERE tenant = $1 AND document = $2 AND version <= $3 AND blob IS NOT NULL
"""

_PURGE = """
UPDATE submission SET purged = true, blob = NULL, title = NULL, filename = NULL, metadata = NULL,
    access = NULL
WHERE tenant = $1 AND document = $2 AND version <= $3
"""


async def _lock(connection: asyncpg.Connection, tenant: str, document: str) -> asyncpg.Record:
    await connection.execute(
        "INSERT INTO document (tenant, id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        tenant,
        document,
    )
    return await connection.fetchrow(
        'SELECT version, collection, cluster, partition, "offset", appended FROM document '
        "WHERE tenant = $1 AND id = $2 FOR UPDATE",
        tenant,
        document,
    )


async def _keep(
    connection: asyncpg.Connection,
    tenant: str,
    document: str,
    incoming: Incoming,
    body: DocumentSubmitted | None,
    decision: Decision,
    blob: str | None,
    collection: str,
) -> None:
    at = incoming.position
    place = (at.cluster, at.partition, at.offset, at.at)
    is_unchanged = decision.outcome is Outcome.UNCHANGED
    content = (
        (body.title, body.filename, json.dumps(body.metadata), body.access)
        if body is not None and not is_unchanged
        else (None, None, None, None)
    )
    await connection.execute(
        _INSERT_SUBMISSION,
        *(tenant, document, incoming.submission, decision.version, *place),
        *(incoming.fingerprint, incoming.generation, is_unchanged, blob, *content),
    )
    await connection.execute(_ADVANCE, tenant, document, decision.version, collection, *place)


async def _blobs_to_purge(
    connection: asyncpg.Connection, tenant: str, document: str, version: int
) -> list[str]:
    await connection.execute(_MARK_PURGED, tenant, document, version)
    rows = await connection.fetch(_BLOBS, tenant, document, version)
    return [row["blob"] for row in rows]


def _submission(row: asyncpg.Record) -> Submission:
    return Submission(
        version=row["version"],
        fingerprint=row["fingerprint"],
        generation=row["generation"],
        confirmed=row["confirmed"],
        unchanged=row["unchanged"],
    )


def _position(row: asyncpg.Record) -> Position | None:
    if row["cluster"] is None:
        return None
    return Position(
        cluster=row["cluster"],
        partition=row["partition"],
        offset=row["offset"],
        at=row["appended"],
    )
