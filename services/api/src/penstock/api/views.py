"""Jobs and receipts as clients see them, read from their rows."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from penstock.common.topics import DAY_MS, DOCUMENT_SUBMITTED

JOB_COLUMNS = (
    "id, kind, state, attempt, progress, error, documents, key, created_at, finished_at, deadline"
)

DEAD_LETTER_RETENTION_MS = 30 * DAY_MS
"""Of the `.dlq` and `.retry` topics, as the stack creates them."""

STORES = ("index", "blobs", "ingest", "quarantine", "drafts", "answers")
"""Who must have purged a deleted document before its receipt is complete."""


def job_view(row: Mapping[str, Any], result: Any = None) -> dict[str, Any]:
    """A job without its result, unless that was read too."""
    return {
        "id": row["id"],
        "kind": row["kind"],
        "state": row["state"],
        "attempt": row["attempt"],
        "progress": row["progress"] or {"done": 0, "total": 1},
        "result": result,
        "error": row["error"],
        "created_at": row["created_at"],
        "finished_at": row["finished_at"],
        "deadline": row["deadline"],
    }


async def read_row(connection: asyncpg.Connection, tenant: str, job: str) -> asyncpg.Record | None:
    """The job's row, with the answer if it is a question that has one; for `with_result`."""
    return await connection.fetchrow(
        f"""
        SELECT {JOB_COLUMNS}, tenant,
            (SELECT result FROM answer a WHERE (a.tenant, a.job) = (j.tenant, j.id)) AS answer
        FROM job j WHERE tenant = $1 AND id = $2
        """,  # noqa: S608
        tenant,
        job,
    )


async def with_result(connection: asyncpg.Connection, row: asyncpg.Record) -> dict[str, Any]:
    """The whole job with its result."""
    if row["kind"] == "question":
        return job_view(row, row["answer"])
    read = {"document": _documents, "removal": _receipt}[row["kind"]]
    return job_view(row, await read(connection, row["tenant"], row["id"]))


async def _documents(
    connection: asyncpg.Connection, tenant: str, job: str
) -> dict[str, Any] | None:
    """Every document of the job that has been heard of, with what became of it so far."""
    rows = await connection.fetch(
        "SELECT document, version, outcome, ended, failure, blocked FROM part "
        "WHERE tenant = $1 AND job = $2 ORDER BY ordinal, document",
        tenant,
        job,
    )
    return {"documents": [_document(row) for row in rows]} if rows else None


def _document(row: asyncpg.Record) -> dict[str, Any]:
    state = row["outcome"] if row["ended"] else "failed" if row["blocked"] else "pending"
    return {
        "document_id": row["document"],
        "version": row["version"],
        "state": state,
        "error": row["failure"] or row["blocked"],
    }


async def _receipt(connection: asyncpg.Connection, tenant: str, job: str) -> dict[str, Any] | None:
    """The receipt of a delete, as far as it is written."""
    head = await connection.fetchrow(
        "SELECT document, version, removed_at, elapsed_ms FROM receipt "
        "WHERE tenant = $1 AND job = $2 ORDER BY version DESC LIMIT 1",
        tenant,
        job,
    )
    if head is None:
        return None
    stores = await connection.fetch(
        "SELECT store, purged_at, note FROM receipt_store "
        "WHERE tenant = $1 AND document = $2 AND version = $3 ORDER BY store",
        tenant,
        head["document"],
        head["version"],
    )
    return receipt(head, stores)


def receipt(head: Mapping[str, Any], stores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How long until it was unretrievable, and of every store what became of it."""
    purged = {
        row["store"]: {"purged_at": row["purged_at"]}
        | ({"note": row["note"]} if row["note"] else {})
        for row in stores
    }
    return {
        "document_id": head["document"],
        "version": head["version"],
        "unretrievable_after_ms": head["elapsed_ms"],
        "stores": {name: purged.get(name) for name in STORES}
        | purged
        | {
            "topics": _gone_by(head["removed_at"], DOCUMENT_SUBMITTED.retention_ms),
            "dead_letters": _gone_by(head["removed_at"], DEAD_LETTER_RETENTION_MS),
        },
    }


def _gone_by(at: datetime | None, retention_ms: int) -> dict[str, Any] | None:
    return {"gone_by": at + timedelta(milliseconds=retention_ms)} if at else None
