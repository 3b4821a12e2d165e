"""The indexer's SQL: documents, their chunks, vectors and new segments. COPY wherever rows are many."""

import asyncio
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from penstock.retrieve import segments
from penstock.retrieve.cuts import Cut, CutChunk, indexed_terms
from penstock.retrieve.versions import DocumentKey, Standing, Target

_CREATE = """
INSERT INTO document (tenant, id, collection)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) ON CONFLICT DO NOTHING
"""

_LOCK = """
SELECT d.tenant, d.id, d.removed_version, d.removed_at
FROM document d JOIN unnest($1::text[], $2::text[]) AS wanted (tenant, id) USING (tenant, id)
ORDER BY d.tenant COLLATE "C", d.id COLLATE "C" FOR UPDATE OF d
"""

_INDEXED = """
SELECT i.tenant, i.document, i.generation, i.version, i.chunks, i.at
FROM indexed i JOIN unnest($1::text[], $2::text[]) AS wanted (tenant, document)
    USING (tenant, document)
"""

_STORED = """
SELECT c.tenant, c.document, c.generation, c.id, c.chunk_id
FROM chunk c JOIN unnest($1::text[], $2::text[], $3::int[])
    AS wanted (tenant, document, generation) USING (tenant, document, generation)
"""

_KEEP = """
UPDATE chunk c SET version = $1, collection = $2, metadata = $3, access = $4,
    ordinal = kept.ordinal, kind = kept.kind, page = kept.page,
    span_start = kept.span_start, span_end = kept.span_end, findings = kept.findings
FROM unnest($5::bigint[], $6::int[], $7::text[], $8::int[], $9::int[], $10::int[], $11::jsonb[])
    AS kept (id, ordinal, kind, page, span_start, span_end, findings)
WHERE c.id = kept.id
"""

_BURY = """
WITH gone AS (
    DELETE FROM chunk WHERE id = ANY ($1::bigint[]) RETURNING id, tenant, generation, document)
INSERT INTO dead_chunk (chunk, tenant, generation, document) SELECT * FROM gone
"""

_MARK_DOCUMENT = """
UPDATE document SET state = 'searchable', version = greatest(version, $3), collection = $4,
    title = $5, chunks = $6, position = $7, updated_at = $8
WHERE tenant = $1 AND id = $2
"""

_MARK_INDEXED = """
INSERT INTO indexed (tenant, document, generation, version, chunks, at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant, document, generation) DO UPDATE
SET version = excluded.version, chunks = excluded.chunks, at = excluded.at
"""

_SEGMENT = """
INSERT INTO segment (tenant, generation, base, chunks, total_length, members)
VALUES ($1, $2, $3, $4, $5, $6) RETURNING id
"""

_CHUNK_COLUMNS = (
    "id", "chunk_id", "tenant", "generation", "collection", "document", "version", "ordinal",
    "text", "kind", "page", "heading_path", "span_start", "span_end", "title", "metadata",
    "access", "findings", "length",
)  # fmt: skip

_POSTING_COLUMNS = ("tenant", "generation", "term", "segment", "chunks", "tfs", "lengths")


@dataclass(frozen=True, slots=True)
class Removal:
    """What a document's row says about its last delete. Version 0: never."""

    version: int
    at: datetime | None


async def setup(connection: asyncpg.Connection) -> None:
    """Vectors go in as the bytes that Postgres expects: twice as fast as pgvector's own codec."""
    await connection.set_type_codec(
        "halfvec", schema="public", encoder=bytes, decoder=bytes, format="binary"
    )


async def lock(
    connection: asyncpg.Connection, keys: Iterable[DocumentKey]
) -> dict[DocumentKey, Removal]:
    """Lock the rows of those documents that have one, in the one order everybody uses."""
    tenants, documents = _columns(sorted(set(keys)), 2)
    rows = await connection.fetch(_LOCK, tenants, documents)
    return {
        DocumentKey(r["tenant"], r["id"]): Removal(r["removed_version"], r["removed_at"])
        for r in rows
    }


async def create_and_lock(
    connection: asyncpg.Connection, collections: Mapping[DocumentKey, str]
) -> dict[DocumentKey, Removal]:
    """Give every document a row, then lock them all. Nothing else is touched before."""
    keys = sorted(collections)
    tenants, documents = _columns(keys, 2)
    await connection.execute(_CREATE, tenants, documents, [collections[key] for key in keys])
    return await lock(connection, keys)


async def standings(
    connection: asyncpg.Connection,
    targets: Iterable[Target],
    removals: Mapping[DocumentKey, Removal],
) -> dict[Target, Standing]:
    """How far locked documents are. To be read after the lock, never before."""
    found = {t: Standing(removed=removals[t.key].version) for t in targets}
    tenants, documents = _columns(sorted(removals), 2)
    for row in await connection.fetch(_INDEXED, tenants, documents):
        target = Target(row["tenant"], row["document"], row["generation"])
        if target in found:
            removed = removals[target.key].version
            found[target] = Standing(row["version"], row["chunks"], row["at"], removed)
    return found


async def swap(connection: asyncpg.Connection, cuts: Sequence[Cut], at: datetime) -> None:
    """
    Make each cut what is searchable of its document, in its generation.

    Chunks that are in the document already stay, with number, vector and postings; the rest of
    the old ones goes, the rest of the new ones comes.
    """
    stored = await _stored(connection, [cut.key.target for cut in cuts])
    fresh: list[tuple[Cut, CutChunk]] = []
    gone: list[int] = []
    for cut in cuts:
        old = stored.get(cut.key.target, {})
        kept = [(old.pop(c.chunk_id), c) for c in cut.chunks if c.chunk_id in old]
        kept_ids = {c.chunk_id for _, c in kept}
        await _keep(connection, cut, kept)
        gone += old.values()
        fresh += [(cut, c) for c in cut.chunks if c.chunk_id not in kept_ids]
    await connection.execute(_BURY, gone)
    await _add(connection, fresh)
    await _mark(connection, cuts, at)


async def _stored(
    connection: asyncpg.Connection, targets: Collection[Target]
) -> dict[Target, dict[UUID, int]]:
    """The numbers of the chunks of these documents, by chunk id."""
    found: dict[Target, dict[UUID, int]] = {}
    for row in await connection.fetch(_STORED, *_columns(targets, 3)):
        target = Target(row["tenant"], row["document"], row["generation"])
        found.setdefault(target, {})[row["chunk_id"]] = row["id"]
    return found


async def _keep(
    connection: asyncpg.Connection, cut: Cut, kept: Sequence[tuple[int, CutChunk]]
) -> None:
    """What stays follows the new version in all that neither vector nor postings depend on."""
    if not kept:
        return
    await connection.execute(
        _KEEP,
        cut.key.version,
        cut.head.collection,
        json.dumps(cut.head.metadata),
        cut.head.access,
        [number for number, _ in kept],
        [c.chunk.ordinal for _, c in kept],
        [c.chunk.kind for _, c in kept],
        [c.chunk.page for _, c in kept],
        [c.chunk.span.start for _, c in kept],
        [c.chunk.span.end for _, c in kept],
        [_findings(c) for _, c in kept],
    )


async def _add(connection: asyncpg.Connection, fresh: Sequence[tuple[Cut, CutChunk]]) -> None:
    if not fresh:
        return
    rows = await connection.fetch(
        "SELECT nextval('chunk_number') AS id FROM generate_series(1, $1)", len(fresh)
    )
    ids = [row["id"] for row in rows]
    terms, built = await asyncio.to_thread(_built, ids, fresh)
    lengths = [len(found) for found in terms]
    await connection.copy_records_to_table(
        "chunk",
        records=[_row(*row) for row in zip(ids, fresh, lengths, strict=True)],
        columns=_CHUNK_COLUMNS,
    )
    await connection.copy_records_to_table(
        "embedding_1",
        records=[
            (number, cut.key.target.tenant, c.halfvec)
            for number, (cut, c) in zip(ids, fresh, strict=True)
        ],
        columns=("chunk", "tenant", "vector"),
    )
    for (tenant, generation), segment in built.items():
        await write_segment(connection, tenant, generation, segment)


def _built(
    ids: Sequence[int], fresh: Sequence[tuple[Cut, CutChunk]]
) -> tuple[list[list[str]], dict[tuple[str, int], segments.Built]]:
    """The terms of each chunk, and one segment for each tenant and generation."""
    found = [indexed_terms(cut.head.title, c.chunk) for cut, c in fresh]
    groups: dict[tuple[str, int], list[int]] = {}
    for i, (cut, _) in enumerate(fresh):
        groups.setdefault((cut.key.target.tenant, cut.key.target.generation), []).append(i)
    return found, {
        group: segments.build([ids[i] for i in where], [found[i] for i in where])
        for group, where in groups.items()
    }


def _row(number: int, fresh: tuple[Cut, CutChunk], length: int) -> tuple[Any, ...]:
    cut, c = fresh
    target, head, chunk = cut.key.target, cut.head, c.chunk
    return (
        number, c.chunk_id, target.tenant, target.generation, head.collection, target.document,
        cut.key.version, chunk.ordinal, chunk.text, chunk.kind, chunk.page, chunk.heading_path,
        chunk.span.start, chunk.span.end, head.title, json.dumps(head.metadata), head.access,
        _findings(c), length,
    )  # fmt: skip


def _findings(c: CutChunk) -> str:
    return json.dumps([finding.model_dump(mode="json") for finding in c.chunk.findings])


async def write_segment(
    connection: asyncpg.Connection, tenant: str, generation: int, built: segments.Built
) -> None:
    segment = await connection.fetchval(
        _SEGMENT, tenant, generation, built.base, built.chunks, built.total_length, built.members
    )
    await connection.copy_records_to_table(
        "posting_block",
        records=[
            (tenant, generation, p.term, segment, p.chunks, p.tfs, p.lengths)
            for p in built.postings
        ],
        columns=_POSTING_COLUMNS,
    )


async def _mark(connection: asyncpg.Connection, cuts: Sequence[Cut], at: datetime) -> None:
    documents, indexed = [], []
    for cut in cuts:
        (key, version, _), head, chunks = cut.key, cut.head, len(cut.chunks)
        position = head.position.model_dump_json()
        documents.append((*key.key, version, head.collection, head.title, chunks, position, at))
        indexed.append((*key, version, chunks, at))
    await connection.executemany(_MARK_DOCUMENT, documents)
    await connection.executemany(_MARK_INDEXED, indexed)


def _columns(rows: Collection[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Rows as parallel arrays, for unnest."""
    return [[row[i] for row in rows] for i in range(width)]
