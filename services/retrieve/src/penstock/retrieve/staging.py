"""Batches of versions that are not complete yet."""

from collections.abc import Iterable, Sequence
from datetime import timedelta

import asyncpg

from penstock.common.envelope import Record
from penstock.common.events import DocumentEmbedded
from penstock.retrieve.versions import CutKey, Target, cut_of

LEFT_OVER_AFTER = timedelta(days=30)
"""Longer than any dead letter is kept: nothing can complete such a version any more."""

_STAGE = """
INSERT INTO staging (tenant, document, version, generation, cut, k, n, payload)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING
"""

_COMPLETE = """
SELECT s.tenant, s.document, s.generation, s.version, s.cut
FROM staging s
JOIN unnest($1::text[], $2::text[], $3::int[], $4::int[], $5::text[])
    AS wanted (tenant, document, generation, version, cut)
    USING (tenant, document, generation, version, cut)
GROUP BY 1, 2, 3, 4, 5 HAVING count(*) = max(s.n)
"""

_LOAD = """
SELECT payload FROM staging
WHERE tenant = $1 AND document = $2 AND generation = $3 AND version = $4 AND cut = $5
"""

_DROP = """
DELETE FROM staging s
USING unnest($1::text[], $2::text[], $3::int[], $4::int[])
    AS done (tenant, document, generation, version)
WHERE s.tenant = done.tenant AND s.document = done.document
    AND s.generation = done.generation AND s.version <= done.version
"""

_SWEEP = """
DELETE FROM staging WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM staging WHERE staged_at < now() - $1::interval
    LIMIT 1000 FOR UPDATE SKIP LOCKED))
"""


async def stage(
    connection: asyncpg.Connection, records: Iterable[Record[DocumentEmbedded]]
) -> None:
    """Keep batches as they came. One that is there already stays as it is."""
    rows = []
    for record in records:
        (target, version, cut), batch = cut_of(record), record.value
        payload = batch.model_dump_json().encode()
        rows.append((*target.key, version, target.generation, cut, batch.k, batch.n, payload))
    await connection.executemany(_STAGE, rows)


async def complete(connection: asyncpg.Connection, cuts: Sequence[CutKey]) -> list[CutKey]:
    """Those of `cuts` of which every batch is staged."""
    rows = await connection.fetch(
        _COMPLETE,
        [key.target.tenant for key in cuts],
        [key.target.document for key in cuts],
        [key.target.generation for key in cuts],
        [key.version for key in cuts],
        [key.cut for key in cuts],
    )
    return [
        CutKey(Target(r["tenant"], r["document"], r["generation"]), r["version"], r["cut"])
        for r in rows
    ]


async def load(connection: asyncpg.Connection, key: CutKey) -> list[DocumentEmbedded]:
    rows = await connection.fetch(_LOAD, *key.target, key.version, key.cut)
    return [DocumentEmbedded.model_validate_json(row["payload"]) for row in rows]


async def drop(connection: asyncpg.Connection, done: Sequence[CutKey]) -> None:
    """Forget what is staged of these documents, in their generation, up to these versions."""
    await connection.execute(
        _DROP,
        [key.target.tenant for key in done],
        [key.target.document for key in done],
        [key.target.generation for key in done],
        [key.version for key in done],
    )


async def sweep(connection: asyncpg.Connection) -> None:
    """Take away what nothing can complete any more."""
    await connection.execute(_SWEEP, LEFT_OVER_AFTER)
