"""The schema's rows: how they are read and written. What they mean is decided elsewhere."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from penstock.api.documents import Document, columns

SCHEMA = "api"
MIGRATIONS = Path(__file__).parent / "migrations"

JOB_CHANNEL = "api_job"
OUTBOX_CHANNEL = "api_outbox"
WEBHOOK_CHANNEL = "api_webhook"

Key = tuple[str, str]
"""(tenant, id): how every row of a tenant is found, and the order in which rows are locked."""


_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def encode(value: object) -> str:
    """JSON as Postgres takes it: jsonb knows no NUL, which extracted text may hold."""
    text = orjson.dumps(value).decode()
    return _NUL.sub(r"\1\\ufffd", text) if "\\u0000" in text else text


async def prepare(connection: asyncpg.Connection) -> None:
    """jsonb travels as Python values."""
    await connection.set_type_codec(
        "jsonb",
        encoder=encode,
        decoder=orjson.loads,
        schema="pg_catalog",
    )


def job_signal(tenant: str, job: str) -> str:
    """What NOTIFY carries for a job: short, whatever its id is."""
    return hashlib.sha1(f"{tenant}/{job}".encode(), usedforsecurity=False).hexdigest()


def end_signal(tenant: str, job: str) -> str:
    """The same for whoever waits for nothing but the job's end."""
    return f"{job_signal(tenant, job)}/end"


async def notify(connection: asyncpg.Connection, channel: str, *payloads: str) -> None:
    """Wake every listening process once the transaction commits."""
    await connection.execute(
        "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload",
        channel,
        list(payloads) or [""],
    )


DOCUMENT_COLUMNS = ", ".join(columns(Document("", "")))


async def lock_documents(
    connection: asyncpg.Connection, keys: Iterable[Key]
) -> dict[Key, Document]:
    """The documents' rows, made where they are missing, locked in the order (tenant, id)."""
    ordered = sorted(set(keys))
    rows = await connection.fetch(
        f"SELECT {DOCUMENT_COLUMNS} FROM lock_documents($1, $2)",  # noqa: S608
        [key[0] for key in ordered],
        [key[1] for key in ordered],
    )
    return {(row["tenant"], row["id"]): Document(**row) for row in rows}


async def save_documents(connection: asyncpg.Connection, documents: Sequence[Document]) -> None:
    """Write rows that `lock_documents` locked."""
    if not documents:
        return
    await connection.execute(
        """
        UPDATE document d SET
            collection = r.collection, latest_version = r.latest_version,
            latest_state = r.latest_state, latest_error = nullif(r.latest_error, 'null'),
            searchable_version = r.searchable_version, removed_version = r.removed_version,
            chunks = r.chunks, position = nullif(r.position, 'null'),
            searchable_position = nullif(r.searchable_position, 'null'),
            searchable_at = r.searchable_at, removed_at = r.removed_at,
            updated_at = clock_timestamp()
        FROM jsonb_to_recordset($1) AS r(
            tenant text, id text, collection text, latest_version int, latest_state text,
            latest_error jsonb, searchable_version int, removed_version int, chunks int,
            position jsonb, searchable_position jsonb, searchable_at timestamptz,
            removed_at timestamptz)
        WHERE d.tenant = r.tenant AND d.id = r.id
        """,
        [columns(document) for document in documents],
    )


async def read_documents(
    connection: asyncpg.Connection, tenant: str, ids: Iterable[str]
) -> dict[str, Document]:
    rows = await connection.fetch(
        f"SELECT {DOCUMENT_COLUMNS} FROM document WHERE tenant = $1 AND id = ANY($2)",  # noqa: S608
        tenant,
        list(ids),
    )
    return {row["id"]: Document(**row) for row in rows}


def rows_as_dicts(rows: Iterable[asyncpg.Record]) -> list[dict[str, Any]]:
    return [dict(row) for row in rows]
