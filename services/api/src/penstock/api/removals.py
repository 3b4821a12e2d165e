"""Deletes: our own copies go, every other owner of a store says so, the receipt is written."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg

from penstock.api.reports import Kind, Report
from penstock.api.states import Ended, Outcome
from penstock.api.views import STORES
from penstock.common import events as e
from penstock.common.envelope import Record

OWN_STORE = "answers"
GONE = "[removed: the document was deleted]"


async def begin(connection: asyncpg.Connection, record: Record[e.DocumentRemoved]) -> None:
    """The document is unretrievable: purge what answers hold of it, and note both."""
    tenant, body = record.envelope.tenant, record.value
    await connection.execute(
        """
        INSERT INTO receipt (tenant, document, version, job, removed_at, elapsed_ms)
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING
        """,
        tenant,
        body.document,
        body.version,
        record.envelope.job,
        body.at,
        body.elapsed_ms,
    )
    await purge_quotes(connection, tenant, body.document, body.version)
    await _note(connection, tenant, body.document, body.version, OWN_STORE, datetime.now(UTC))


async def note(connection: asyncpg.Connection, record: Record[e.DocumentPurged]) -> None:
    """What an owner of a store has announced, before or after `document.removed`."""
    tenant, body = record.envelope.tenant, record.value
    await _note(connection, tenant, body.document, body.version, body.store, body.at, body.note)


async def _note(
    connection: asyncpg.Connection,
    tenant: str,
    document: str,
    version: int,
    store: str,
    at: datetime,
    note: str | None = None,
) -> None:
    await connection.execute(
        "INSERT INTO receipt_store (tenant, document, version, store, purged_at, note) "
        "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        tenant,
        document,
        version,
        store,
        at,
        note,
    )


async def completed(
    connection: asyncpg.Connection,
    records: Sequence[Record[e.DocumentRemoved] | Record[e.DocumentPurged]],
) -> list[Report]:
    """The deletes among these (their documents locked) whose receipts are complete now."""
    keys = sorted({(r.envelope.tenant, r.value.document, r.value.version) for r in records})
    rows = await connection.fetch(
        """
        SELECT r.tenant, r.document, r.version, r.job FROM receipt r
        WHERE (tenant, document, version) IN
            (SELECT * FROM unnest($1::text[], $2::text[], $3::int[]))
        AND $4::text[] <@ array(SELECT store FROM receipt_store s
            WHERE (s.tenant, s.document, s.version) = (r.tenant, r.document, r.version))
        """,
        *(list(column) for column in zip(*keys, strict=True)),
        list(STORES),
    )
    return [
        Report(
            row["tenant"], row["job"], Kind.REMOVAL, row["document"], row["version"],
            ended=Ended(Outcome.REMOVED),
        )
        for row in rows
    ]  # fmt: skip


async def purge_quotes(
    connection: asyncpg.Connection, tenant: str, document: str, version: int
) -> None:
    """No answer that is kept holds text of the document any more, nor do the streamed sentences."""
    jobs = await connection.fetch(
        "SELECT DISTINCT job FROM quotation "
        "WHERE tenant = $1 AND document = $2 AND version <= $3 ORDER BY job",
        tenant,
        document,
        version,
    )
    names = [row["job"] for row in jobs]
    if not names:
        return
    answers = await connection.fetch(
        "SELECT job, result FROM answer WHERE tenant = $1 AND job = ANY($2) "
        "ORDER BY job FOR UPDATE",
        tenant,
        names,
    )
    for row in answers:
        await connection.execute(
            "UPDATE answer SET result = $3 WHERE tenant = $1 AND job = $2",
            tenant,
            row["job"],
            without(row["result"], document, version),
        )
    await connection.execute(
        "UPDATE job_event SET data = data - 'citations' || jsonb_build_object('text', $3::text) "
        "WHERE tenant = $1 AND job = ANY($2) AND kind = 'sentence' AND data->'citations' @> $4",
        tenant,
        names,
        GONE,
        [{"document_id": document}],
    )
    await connection.execute(
        "UPDATE webhook SET body = body #- '{data,result}' WHERE tenant = $1 AND job = ANY($2)",
        tenant,
        names,
    )
    await connection.execute(
        "DELETE FROM quotation WHERE tenant = $1 AND document = $2 AND version <= $3",
        tenant,
        document,
        version,
    )


def without(result: dict[str, Any], document: str, version: int) -> dict[str, Any]:
    """An answer without what it holds of a deleted document: text, quotes, titles, passages."""

    def of_it(item: dict[str, Any]) -> bool:
        return bool(item["document_id"] == document and item["version"] <= version)

    cited = any(of_it(citation) for citation in result["citations"])
    return result | {
        "text": GONE if cited else result["text"],
        "citations": [
            citation | {"quote": GONE, "title": None} if of_it(citation) else citation
            for citation in result["citations"]
        ],
        "passages": [passage for passage in result["passages"] if not of_it(passage)],
    }
