"""Drafts in Postgres.

A removal and a draft of the same document exclude each other by an advisory lock on the document:
whichever comes second sees the first, so no text of a removed document stays behind.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

import asyncpg

from penstock.common.db import Database
from penstock.common.events import AnswerDrafted, Passage, PassageRetrieved
from penstock.generate.ports import Found

_FIND = """
SELECT
    (SELECT sentences FROM draft
     WHERE tenant = $1 AND question = $2 AND ask = $3 AND round = $4) AS sentences,
    (SELECT jsonb_object_agg(document, version) FROM removed_document
     WHERE tenant = $1 AND document = ANY($5::text[])) AS removed
"""
_REMOVED = """
SELECT document, version FROM removed_document WHERE tenant = $1 AND document = ANY($2::text[])
"""
_KEEP = "SELECT keep_draft($1, $2, $3, $4, $5, $6, $7)"
_LOCK = """
SELECT pg_advisory_xact_lock(hashtextextended($1 || '/' || document, 0))
FROM unnest($2::text[]) AS document
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

    async def find(self, tenant: str, question: PassageRetrieved, job: str) -> Found:
        documents = list({passage.document_id for passage in question.passages})
        async with self._database.statements() as connection:
            row = await connection.fetchrow(
                _FIND, tenant, job, question.ask, question.round, documents
            )
        drafted = json.loads(row["sentences"] or "[]")
        removed = json.loads(row["removed"] or "{}")
        of_it = {"collection": question.collection}
        return Found(
            # The collection: drafts that an older release kept do not name it.
            [AnswerDrafted.model_validate(one | of_it) for one in drafted],
            _left(question.passages, removed),
        )

    async def live(self, tenant: str, passages: Sequence[Passage]) -> list[Passage]:
        documents = list({passage.document_id for passage in passages})
        async with self._database.statements() as connection:
            rows = await connection.fetch(_REMOVED, tenant, documents)
        return _left(passages, {row["document"]: row["version"] for row in rows})

    async def store(self, tenant: str, job: str, sentences: Sequence[AnswerDrafted]) -> bool:
        final = sentences[-1]
        sources = sorted({(p.document_id, p.version) for p in final.passages})
        body = f"[{','.join(sentence.model_dump_json() for sentence in sentences)}]"
        async with self._database.statements() as connection:
            kept = await connection.fetchval(
                _KEEP, tenant, job, final.ask, final.round, body,
                [d for d, _ in sources], [v for _, v in sources],
            )  # fmt: skip
        return bool(kept)

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


def _left(passages: Iterable[Passage], removed: Mapping[str, int]) -> list[Passage]:
    return [p for p in passages if p.version > removed.get(p.document_id, 0)]
