"""Schema `guard`: verdicts, what is held, and who decided."""

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
from pydantic import TypeAdapter

from penstock.common.db import Database
from penstock.common.envelope import Envelope, Record
from penstock.common.events import (
    ChunkBatch,
    DocumentCleared,
    DocumentEvent,
    Finding,
    Verdict,
)
from penstock.guard.quarantine import (
    BatchKey,
    Decision,
    DocumentKey,
    Known,
    State,
    VersionKey,
    batch_key,
)

FINDINGS = TypeAdapter(tuple[Finding, ...])
ENVELOPE = TypeAdapter(Envelope)
SLICE = 16
"""Held batches read at once: at most 200 KiB each."""

_LOCK_DOCUMENTS = """
    WITH wanted AS (SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) AS w(tenant, id))
    INSERT INTO document (tenant, id) SELECT tenant, id FROM wanted ORDER BY tenant, id
    ON CONFLICT DO NOTHING
"""
_READ_DOCUMENTS = """
    SELECT d.tenant, d.id, d.retired_version FROM document d
    JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) AS w(tenant, id)) w USING (tenant, id)
    ORDER BY d.tenant, d.id FOR UPDATE OF d
"""
_READ_QUARANTINE = """
    SELECT q.tenant, q.document, q.version, q.decided_by, q.state FROM quarantine q
    JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::text[], $3::int[])
          AS w(tenant, document, version)) w USING (tenant, document, version)
"""
_READ_VERDICTS = """
    SELECT v.tenant, v.document, v.version, v.generation, v.cut, v.k, v.held
    FROM document_verdict v
    JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::text[], $3::int[], $4::int[], $5::text[], $6::int[])
          AS w(tenant, document, version, generation, cut, k))
    w USING (tenant, document, version, generation, cut, k)
"""
_ADD_VERDICTS = """
    INSERT INTO document_verdict
        (tenant, document, version, generation, cut, k, n, held, policy, action, findings)
    SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::int[], $5::text[], $6::int[],
                         $7::int[], $8::bool[], $9::text[], $10::text[], $11::jsonb[])
    ON CONFLICT DO NOTHING
"""
_ADD_DIALOGUE = """
    INSERT INTO dialogue_verdict
        (tenant, question, gate, ask, round, sentence, final, collection, policy, action, findings)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class BatchVerdict:
    """What was decided about a batch."""

    key: BatchKey
    n: int
    held: bool
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A version before or after a person's decision."""

    id: UUID
    number: int
    tenant: str
    document: str
    version: int
    collection: str
    title: str | None
    n: int
    state: State
    event: DocumentEvent
    envelope: Envelope
    key: str
    decided_by: str | None
    decided_at: Any
    comment: str | None
    created_at: Any


@dataclass(frozen=True, slots=True)
class Held:
    envelope: Envelope
    key: str
    batch: DocumentCleared


class Documents:
    """Statements about documents, within the caller's transaction."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._sql = connection

    async def lock(self, documents: Iterable[DocumentKey]) -> dict[DocumentKey, int]:
        """Lock the documents' rows in their order; their highest retired versions."""
        tenants, ids = _columns(set(documents), 2)
        await self._sql.execute(_LOCK_DOCUMENTS, tenants, ids)
        rows = await self._sql.fetch(_READ_DOCUMENTS, tenants, ids)
        return {(row["tenant"], row["id"]): row["retired_version"] for row in rows}

    async def known(self, keys: Sequence[BatchKey]) -> Known:
        """Everything that decides about batches with these keys, under their documents' locks."""
        retired = await self.lock((key[0], key[1]) for key in keys)
        columns = _columns(keys, 6)
        quarantined = await self._sql.fetch(_READ_QUARANTINE, *columns[:3])
        verdicts = await self._sql.fetch(_READ_VERDICTS, *columns)
        return Known(
            retired=retired,
            states={_version(row): State(row["state"]) for row in quarantined},
            actors={_version(row): row["decided_by"] or "" for row in quarantined},
            held={tuple(row.values())[:6]: row["held"] for row in verdicts},
        )

    async def add_verdicts(self, verdicts: Sequence[BatchVerdict]) -> None:
        """Keep what was decided; what is there already stays as it is."""
        rows = [
            (*v.key, v.n, v.held, v.verdict.policy, v.verdict.action.value, _findings(v.verdict))
            for v in verdicts
        ]
        await self._sql.execute(_ADD_VERDICTS, *_columns(rows, 11))

    async def quarantine(self, id: UUID, record: Record[Any], batch: ChunkBatch) -> None:  # noqa: A002
        event = batch.model_dump_json(include=set(DocumentEvent.model_fields))
        await self._sql.execute(
            """INSERT INTO quarantine
                 (id, tenant, document, version, collection, title, n, event, envelope, key)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING""",
            id, record.envelope.tenant, batch.document, batch.version, batch.collection,
            batch.title, batch.n, event, _envelope(record.envelope), record.key,
        )  # fmt: skip

    async def hold(self, record: Record[Any], batch: DocumentCleared) -> None:
        await self._sql.execute(
            """INSERT INTO held
                 (tenant, document, version, generation, cut, k, envelope, key, batch)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING""",
            *batch_key(record.envelope.tenant, batch),
            _envelope(record.envelope), record.key, batch.model_dump_json(),
        )  # fmt: skip

    async def screened(self, version: VersionKey) -> dict[tuple[int, str], int]:
        """How many batches of each (generation, cut) of a version have a verdict."""
        rows = await self._sql.fetch(
            """SELECT generation, cut, count(*) AS many FROM document_verdict
               WHERE tenant = $1 AND document = $2 AND version = $3 GROUP BY generation, cut""",
            *version,
        )
        return {(row["generation"], row["cut"]): row["many"] for row in rows}

    async def findings(self, version: VersionKey) -> tuple[Finding, ...]:
        """Of all batches of a version, the worst first, at most a hundred."""
        rows = await self._sql.fetch(
            """SELECT f FROM document_verdict, jsonb_array_elements(findings) AS f
               WHERE tenant = $1 AND document = $2 AND version = $3
               ORDER BY (f->>'action' = 'quarantine') DESC, (f->>'score')::float8 DESC, k LIMIT 100""",
            *version,
        )
        return tuple(dict.fromkeys(Finding.model_validate_json(row["f"]) for row in rows))

    async def wait_for_decision(self, version: VersionKey) -> None:
        await self._sql.execute(
            """UPDATE quarantine SET state = 'waiting'
               WHERE tenant = $1 AND document = $2 AND version = $3 AND state = 'reading'""",
            *version,
        )

    async def retire(self, tenant: str, document: str, version: int) -> None:
        """Forget everything up to `version`, and remember only that it is retired."""
        await self.lock([(tenant, document)])
        await self._sql.execute(
            """UPDATE document SET retired_version = greatest(retired_version, $3)
               WHERE tenant = $1 AND id = $2""",
            tenant, document, version,
        )  # fmt: skip
        for table in ("held", "quarantine", "document_verdict"):
            await self._sql.execute(
                f"DELETE FROM {table} WHERE tenant = $1 AND document = $2 AND version <= $3",  # noqa: S608
                tenant, document, version,
            )  # fmt: skip

    async def do_not_wait_for_disk(self) -> None:
        """This transaction's loss in a crash of Postgres costs less than waiting for its commit."""
        await self._sql.execute("SET LOCAL synchronous_commit = off")


class Quarantines:
    """Statements behind the doors; run under row-level security, within one transaction."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._sql = connection

    async def page(self, state: State | None, after: int | None, limit: int) -> list[Quarantined]:
        """Newest first, from below the number `after`."""
        rows = await self._sql.fetch(
            """SELECT * FROM quarantine WHERE ($1::text IS NULL OR state = $1)
               AND ($2::bigint IS NULL OR number < $2) ORDER BY number DESC LIMIT $3""",
            state, after, limit,
        )  # fmt: skip
        return [_quarantined(row) for row in rows]

    async def get(self, id: UUID, *, lock: bool = False) -> Quarantined | None:  # noqa: A002
        """With `lock`, the document's row and then this one are locked, as every writer does."""
        if lock:
            await self._sql.execute(
                """SELECT FROM document d JOIN quarantine q ON (q.tenant, q.document) = (d.tenant, d.id)
                   WHERE q.id = $1 FOR UPDATE OF d""",
                id,
            )
        row = await self._sql.fetchrow(
            f"SELECT * FROM quarantine WHERE id = $1{' FOR UPDATE' if lock else ''}",  # noqa: S608
            id,
        )
        return None if row is None else _quarantined(row)

    async def held(self, item: Quarantined) -> AsyncIterator[list[Held]]:
        """The held batches in order, a few at a time."""
        after: tuple[int, str, int] = (-1, "", -1)
        while True:
            rows = await self._sql.fetch(
                """SELECT generation, cut, k, envelope, key, batch FROM held
                   WHERE tenant = $1 AND document = $2 AND version = $3
                   AND (generation, cut, k) > ($4, $5, $6) ORDER BY generation, cut, k LIMIT $7""",
                item.tenant, item.document, item.version, *after, SLICE,
            )  # fmt: skip
            if not rows:
                return
            yield [
                Held(
                    ENVELOPE.validate_json(row["envelope"]),
                    row["key"],
                    DocumentCleared.model_validate_json(row["batch"]),
                )
                for row in rows
            ]
            after = (rows[-1]["generation"], rows[-1]["cut"], rows[-1]["k"])

    async def decide(self, item: Quarantined, decision: Decision, by: str, comment: str) -> None:
        """Write down who decided, and let go of what was held."""
        state = State.RELEASED if decision is Decision.RELEASE else State.REJECTED
        await self._sql.execute(
            """UPDATE quarantine SET state = $2, decided_by = $3, comment = $4, decided_at = now()
               WHERE id = $1""",
            item.id, state, by, comment or None,
        )  # fmt: skip
        await self._sql.execute(
            "DELETE FROM held WHERE tenant = $1 AND document = $2 AND version = $3",
            item.tenant, item.document, item.version,
        )  # fmt: skip

    async def findings(self, item: Quarantined) -> tuple[Finding, ...]:
        return await Documents(self._sql).findings((item.tenant, item.document, item.version))


class Dialogues:
    """Verdicts on questions and answers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self,
        envelope: Envelope,
        verdict: Verdict,
        *,
        ask: int,
        round: int,  # noqa: A002
        sentence: int = 0,
        final: bool = True,
        collection: str | None = None,
    ) -> None:
        """Keep a verdict; one that is there already stays as it is."""
        async with self._database.statements() as connection:
            await connection.execute(
                _ADD_DIALOGUE, envelope.tenant, envelope.job, verdict.gate, ask, round, sentence,
                final, collection, verdict.policy, verdict.action, _findings(verdict),
            )  # fmt: skip

    async def collection(self, envelope: Envelope) -> str:
        """Of the question that an answer belongs to; the default when it was never admitted."""
        async with self._database.statements() as connection:
            found = await connection.fetchval(
                """SELECT collection FROM dialogue_verdict
                   WHERE tenant = $1 AND question = $2 AND gate = 'question' LIMIT 1""",
                envelope.tenant,
                envelope.job,
            )
        return str(found or "default")


def _findings(verdict: Verdict) -> str:
    return FINDINGS.dump_json(verdict.findings).decode()


def _envelope(envelope: Envelope) -> str:
    return ENVELOPE.dump_json(envelope).decode()


def _columns(rows: Iterable[Sequence[Any]], width: int) -> list[list[Any]]:
    columns: list[list[Any]] = [[] for _ in range(width)]
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return columns


def _version(row: asyncpg.Record) -> VersionKey:
    return (row["tenant"], row["document"], row["version"])


def _quarantined(row: asyncpg.Record) -> Quarantined:
    values = dict(row)
    values["state"] = State(values["state"])
    values["event"] = DocumentEvent.model_validate(json.loads(values["event"]))
    values["envelope"] = ENVELOPE.validate_json(values["envelope"])
    return Quarantined(**values)
