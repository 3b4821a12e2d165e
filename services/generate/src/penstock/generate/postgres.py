"""Drafts in Postgres.

A removal and a draft of the same document exclude each other by an advisory lock on the document:
whichever comes second sees the first, so no text of a removed document stays behind.
"""

import json
from collections.abc import Iterable, Sequence

import asyncpg

from penstock.common.db import Database
from penstock.common.events import AnswerDrafted, Passage, PassageRetrieved

_FIND = """
SELECT sentences FROM draft WHERE tenant = $1 AND question = $2 AND ask = $3 AND round = $4
"""
_REMOVED = """
SELECT document, version FROM removed_document WHERE tenant = $1 AND document = ANY($2::text[])
"""
_LOCK = """
SELECT pg_advisory_xact_lock(hashtextextended($1 || '/' || document, 0))
FROM unnest($2::text[]) AS document
"""
_STORE = """
WITH stored AS (
    INSERT INTO draft (tenant, question, ask, round, sentences) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT DO NOTHING
)
INSERT INTO draft_source (tenant, document, version, question, ask, round)
SELECT $1, document, version, $2, $3, $4
FROM unnest($6::text[], $7::int[]) AS source (document, version)
ON CONFLICT DO NOTHING
"""
_RETIRE = """
INSERT INTO removed_document (tenant, document, version) VALUES ($1, $2, $3)
ON CONFLICT (tenant, document)
DO UPDATE SET version = greatest(removed_document.version, excluded.version)
"""
_FORGET = """
DELETE FROM draft USING draft_source AS source
WHERE source.tenant = $1 AND source.document = $2 AND source.version <= $3
  AND (draft.tenant, draft.question, draft.ask, draft.round)
    = (source.tenant, source.question, source.ask, source.round)
"""


class PostgresDrafts:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, tenant: str, question: PassageRetrieved, job: str) -> list[AnswerDrafted]:
        async with self._database.statements() as connection:
            stored = await connection.fetchval(_FIND, tenant, job, question.ask, question.round)
        return [AnswerDrafted.model_validate(one) for one in json.loads(stored)] if stored else []

    async def live(self, tenant: str, passages: Sequence[Passage]) -> list[Passage]:
        async with self._database.statements() as connection:
            removed = await _removed(connection, tenant, {p.document_id for p in passages})
        return [p for p in passages if p.version > removed.get(p.document_id, 0)]

    async def store(self, tenant: str, job: str, sentences: Sequence[AnswerDrafted]) -> bool:
        final = sentences[-1]
        sources = sorted({(p.document_id, p.version) for p in final.passages})
        documents = sorted({document for document, _ in sources})
        body = f"[{','.join(sentence.model_dump_json() for sentence in sentences)}]"
        async with self._database.transaction() as connection:
            await connection.execute(_LOCK, tenant, documents)
            removed = await _removed(connection, tenant, documents)
            if any(version <= removed.get(document, 0) for document, version in sources):
                return False
            await connection.execute(
                _STORE, tenant, job, final.ask, final.round, body,
                [d for d, _ in sources], [v for _, v in sources],
            )  # fmt: skip
        return True

    async def forget(self, documents: Iterable[tuple[str, str, int]]) -> None:
        """Drop the drafts written from these (tenant, document, version) or a lower version."""
        async with self._database.transaction() as connection:
            await _flush(connection)
            await connection.executemany(_FORGET, sorted(documents))

    async def purge(self, tenant: str, document: str, version: int) -> None:
        """Drop what was written from the document up to this version, now and from here on."""
        async with self._database.transaction() as connection:
            await _flush(connection)
            await connection.execute(_LOCK, tenant, [document])
            await connection.execute(_RETIRE, tenant, document, version)
            await connection.execute(_FORGET, tenant, document, version)


async def _flush(connection: asyncpg.Connection) -> None:
    """What is gone must be gone after a crash of Postgres too."""
    await connection.execute("SET LOCAL synchronous_commit = on")


async def _removed(
    connection: asyncpg.Connection, tenant: str, documents: Iterable[str]
) -> dict[str, int]:
    rows = await connection.fetch(_REMOVED, tenant, list(documents))
    return {row["document"]: row["version"] for row in rows}
