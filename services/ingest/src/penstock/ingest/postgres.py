"""Schema `ingest`: documents, their submissions and versions."""

import json
from collections.abc import Sequence
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


Indexed = tuple[str, str, int, int]
"""Tenant, document, version, generation."""


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
            row = await connection.fetchrow(_CREATE_AND_LOCK, tenant, document)
            version = row["version"]
            rows = (
                await connection.fetch(_KEPT, tenant, document, incoming.submission, version)
                if version
                else ()  # a document without a number has nothing kept
            )
            last = next((r for r in rows if r["version"] == version and not r["unchanged"]), None)
            known = next((r for r in rows if r["id"] == incoming.submission), None)
            state = DocumentState(version, _position(row), _submission(last) if last else None)
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
            await connection.execute(_LOCK_MANY, [tenant], [document])
            status = await connection.execute(_KEEP_BLOB, tenant, document, submission, blob)
            return bool(status == "UPDATE 1")

    async def overtaken(self, tenant: str, document: str, version: int) -> bool:
        """True when a higher number has been given."""
        async with self._database.statements() as connection:
            highest = await connection.fetchval(
                "SELECT version FROM document WHERE tenant = $1 AND id = $2", tenant, document
            )
        return highest is not None and highest > version

    async def confirm(self, indexed: Sequence[Indexed]) -> list[str]:
        """Note what is searchable; the blobs of what came before it, which nothing needs now.

        They are to be deleted before `purge` forgets them.
        """
        columns = [list(column) for column in zip(*sorted(set(indexed)), strict=True)]
        async with self._database.transaction() as connection:
            await connection.execute(_LOCK_MANY, *columns[:2])
            await connection.execute(_CONFIRM, *columns)
            await connection.execute(_MARK_PURGED, *columns[:3])
            return [row["blob"] for row in await connection.fetch(_BLOBS, *columns[:3])]

    async def blobs_up_to(self, tenant: str, document: str, version: int) -> list[str]:
        """Blobs of a document up to a version; to be deleted before `purge` forgets them."""
        columns = ([tenant], [document], [version + 1])
        async with self._database.transaction() as connection:
            await connection.execute(_LOCK_MANY, *columns[:2])
            await connection.execute(_MARK_PURGED, *columns)
            return [row["blob"] for row in await connection.fetch(_BLOBS, *columns)]

    async def purge(self, tenant: str, document: str, version: int) -> None:
        """Forget the content up to a version: ids, versions and fingerprints stay."""
        async with self._database.transaction() as connection:
            await connection.execute(_LOCK_MANY, [tenant], [document])
            await connection.execute(_PURGE, tenant, document, version)


# Written even where it is there already: that locks the row and tells its state in one step.
_CREATE_AND_LOCK = """
INSERT INTO document (tenant, id) VALUES ($1, $2)
ON CONFLICT (tenant, id) DO UPDATE SET version = document.version
RETURNING version, collection, cluster, partition, "offset", appended
"""

_LOCK_MANY = """
SELECT 1 FROM document WHERE (tenant, id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
ORDER BY tenant, id FOR UPDATE
"""

# What is known of an id, and the submission that the highest number was given to.
_KEPT = """
SELECT id, version, fingerprint, generation, confirmed, unchanged, blob FROM submission
WHERE tenant = $1 AND document = $2 AND (id = $3 OR (version = $4 AND NOT unchanged))
"""

_KEEP = """
WITH kept AS (
    INSERT INTO submission (tenant, document, id, version, cluster, partition, "offset", appended,
        fingerprint, generation, unchanged, blob, title, filename, metadata, access)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16))
UPDATE document SET version = $4, collection = $17,
    cluster = $5, partition = $6, "offset" = $7, appended = $8
WHERE tenant = $1 AND id = $2
"""

_KEEP_BLOB = """
UPDATE submission SET blob = $4
WHERE tenant = $1 AND document = $2 AND id = $3 AND NOT purged
"""

_CONFIRM = """
UPDATE submission s SET confirmed = true
FROM unnest($1::text[], $2::text[], $3::int[], $4::int[]) AS u (tenant, document, version, generation)
WHERE (s.tenant, s.document, s.version, s.generation)
    = (u.tenant, u.document, u.version, u.generation) AND NOT s.unchanged
"""

# `purged` is set first, so that no blob can be noted after the list was read.
_MARK_PURGED = """
UPDATE submission s SET purged = true
FROM unnest($1::text[], $2::text[], $3::int[]) AS u (tenant, document, below)
WHERE (s.tenant, s.document) = (u.tenant, u.document) AND s.version < u.below
"""

_BLOBS = """
SELECT DISTINCT s.blob FROM submission s
JOIN unnest($1::text[], $2::text[], $3::int[]) AS u (tenant, document, below)
    USING (tenant, document)
WHERE s.version < u.below AND s.blob IS NOT NULL
"""

_PURGE = """
UPDATE submission SET purged = true, blob = NULL, title = NULL, filename = NULL, metadata = NULL,
    access = NULL
WHERE tenant = $1 AND document = $2 AND version <= $3
"""


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
        _KEEP,
        *(tenant, document, incoming.submission, decision.version, *place),
        *(incoming.fingerprint, incoming.generation, is_unchanged, blob, *content),
        collection,
    )


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
