"""Documents: publish, look at, delete, read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import ValidationError

from penstock.api import jobs
from penstock.api.access import Caller, Keeper, Publisher, Reader
from penstock.api.collections import require
from penstock.api.documents import Document, view
from penstock.api.errors import Problem
from penstock.api.jobs import Once, Submission
from penstock.api.models import (
    MOST_DOCUMENTS,
    MOST_METADATA_BYTES,
    DocumentBody,
    FileFields,
    JobBody,
    NewDocument,
    NewDocuments,
)
from penstock.api.postgres import DOCUMENT_COLUMNS
from penstock.api.problems import invalid
from penstock.api.proxy import pass_on
from penstock.api.resources import Resources, resources
from penstock.api.routes.answering import (
    MOST_PER_PAGE,
    IdempotencyKey,
    Prefer,
    answer_job,
    cursor,
    read_cursor,
)
from penstock.api.uploads import Part, parts
from penstock.api.webhooks import check_callback
from penstock.common.envelope import MOST_SUBJECT_BYTES
from penstock.common.events import MAX_INLINE_TEXT_BYTES, DocumentSubmitted
from penstock.common.http import JSON

router = APIRouter(tags=["documents"])
Shared = Annotated[Resources, Depends(resources)]

_BODIES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": NewDocuments.model_json_schema()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        **FileFields.model_json_schema()["properties"],
                    },
                }
            },
        },
    }
}


@router.post("/v1/documents", status_code=202, response_model=JobBody, openapi_extra=_BODIES)
async def publish(
    request: Request,
    caller: Publisher,
    shared: Shared,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Publish documents: JSON, or files as multipart. The job ends when each of them has ended."""
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    job = jobs.new_id()
    async with _stored(shared) as stored:
        if kind == "application/json":
            callback, once, submissions = await _from_json(
                request, caller, shared, idempotency_key, stored
            )
        elif kind == "multipart/form-data":
            callback, once, submissions = await _from_files(
                request, content_type, caller, shared, idempotency_key, stored
            )
        else:
            raise Problem(
                "unsupported_media_type",
                "send application/json, or multipart/form-data with files=@…",
            )
        made = await jobs.submit_documents(
            shared, caller, job, submissions, callback_url=callback, once=once
        )
        if made == job:
            stored.clear()  # they belong to the submissions now
    return await answer_job(shared, caller, made, prefer)


Taken = tuple[str | None, Once | None, list[Submission]]


@asynccontextmanager
async def _stored(shared: Resources) -> AsyncIterator[list[str]]:
    """Blobs that were stored for a request that then came to nothing are deleted."""
    stored: list[str] = []
    try:
        yield stored
    finally:
        for ref in stored:
            await shared.blobs.delete(ref)


async def _from_json(
    request: Request, caller: Caller, shared: Resources, key: str | None, stored: list[str]
) -> Taken:
    raw = await read_body(request, shared.settings.max_document_bytes)
    try:
        body = NewDocuments.model_validate_json(raw)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_input=False)) from error
    check_callback(shared.settings, body.callback_url)
    await require(shared, caller.tenant, body.collection)
    submissions = []
    for index, document in enumerate(body.documents):
        _check_metadata(document.metadata, f"documents.{index}.metadata")
        submissions.append(await _submission(document, body.collection, caller, shared, stored))
    _check_distinct(submissions)
    return body.callback_url, Once.of(key, raw), submissions


async def _submission(
    document: NewDocument, collection: str, caller: Caller, shared: Resources, stored: list[str]
) -> Submission:
    """Text that is too long for an event goes by way of a blob."""
    submission = jobs.new_id()
    text, blob = document.text, None
    if text is not None and len(text) * 4 > MAX_INLINE_TEXT_BYTES:
        content = text.encode()
        if len(content) > MAX_INLINE_TEXT_BYTES:
            limit = shared.settings.max_document_bytes
            blob = await shared.blobs.put(caller.tenant, submission, content, limit=limit)
            stored.append(blob)
            text = None
    body = DocumentSubmitted(
        text=text,
        uri=document.uri,
        blob=blob,
        title=document.title,
        filename=document.filename,
        metadata=document.metadata,
        access=document.access,
        collection=collection,
    )
    return Submission(submission, document.id or jobs.new_id(), body)


async def _from_files(
    request: Request,
    content_type: str,
    caller: Caller,
    shared: Resources,
    key: str | None,
    stored: list[str],
) -> Taken:
    texts: dict[str, Any] = {}
    files: list[tuple[str, str, str]] = []
    async for part in parts(content_type, request.stream()):
        if part.name != "files":
            texts[part.name] = await part.text()
            continue
        files.append(await _store(part, caller, shared, stored))
        if len(files) > MOST_DOCUMENTS:
            raise Problem("invalid", f"files: at most {MOST_DOCUMENTS} in one request")
    if not files:
        raise Problem("invalid", "files: send at least one, as files=@PATH")
    fields = _fields(texts)
    check_callback(shared.settings, fields.callback_url)
    await require(shared, caller.tenant, fields.collection)
    _check_metadata(fields.metadata, "metadata")
    submissions = [
        Submission(
            submission,
            name,
            DocumentSubmitted(
                blob=blob,
                filename=name,
                title=fields.title,
                metadata=fields.metadata,
                access=fields.access,
                collection=fields.collection,
            ),
        )
        for submission, name, blob in files
    ]
    _check_distinct(submissions)
    told_apart = [f"{name}\0{blob.rpartition('/')[2]}".encode() for _, name, blob in files]
    once = Once.of(key, orjson.dumps(texts, option=orjson.OPT_SORT_KEYS), *told_apart)
    return fields.callback_url, once, submissions


async def _store(
    part: Part, caller: Caller, shared: Resources, stored: list[str]
) -> tuple[str, str, str]:
    """Submission, file name and blob of one file, streamed to the blob store."""
    name = (part.filename or "").strip()
    if not name or len(name) > 512 or not name.isprintable():
        raise Problem(
            "invalid", "files: each needs a printable file name of at most 512 characters"
        )
    submission = jobs.new_id()
    blob = await shared.blobs.put(
        caller.tenant, submission, part.pieces, limit=shared.settings.max_document_bytes
    )
    stored.append(blob)
    return submission, name, blob


def _fields(texts: dict[str, Any]) -> FileFields:
    for name in ("metadata", "access"):
        if name in texts:
            try:
                texts[name] = orjson.loads(texts[name])
            except orjson.JSONDecodeError as error:
                raise Problem("invalid", f"{name}: it must be JSON ({error})") from error
    try:
        return FileFields.model_validate(texts)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_input=False)) from error


def _check_distinct(submissions: list[Submission]) -> None:
    seen: set[str] = set()
    for submission in submissions:
        if submission.document in seen:
            raise Problem(
                "invalid",
                f"the id {submission.document!r} comes twice; a request takes each document once",
            )
        seen.add(submission.document)


def _check_metadata(metadata: dict[str, Any], where: str) -> None:
    size = len(orjson.dumps(metadata))
    if size > MOST_METADATA_BYTES:
        raise Problem(
            "invalid", f"{where}: it has {size} bytes as JSON, the limit is {MOST_METADATA_BYTES}"
        )


async def read_body(request: Request, limit: int) -> bytes:
    """
    The body, at most `limit` bytes of it in memory.

    Raises:
        Problem: it is longer.
    """
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise Problem(
                "too_large", f"the body has more than {limit} bytes; split it, or send files"
            )
        pieces.append(piece)
    return b"".join(pieces)


@router.get("/v1/documents")
async def list_documents(
    caller: Keeper,
    shared: Shared,
    cursor_: Annotated[str | None, Query(alias="cursor")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_PER_PAGE)] = 50,
) -> Response:
    """The tenant's documents by id, a page at a time."""
    after = read_cursor(cursor_, str)
    async with shared.database.request(caller.tenant) as connection:
        rows = await connection.fetch(
            f"SELECT {DOCUMENT_COLUMNS}, created_at, updated_at FROM document "  # noqa: S608
            "WHERE tenant = $1 AND ($2::text IS NULL OR id > $2) ORDER BY id LIMIT $3",
            caller.tenant,
            after[0] if after else None,
            limit + 1,
        )
    shown = [_view(dict(row)) for row in rows[:limit]]
    more = len(rows) > limit
    return JSON({"documents": shown, "next": cursor(shown[-1]["id"]) if more else None})


@router.get("/v1/documents/{document:path}/text")
async def text(document: str, caller: Reader, shared: Shared) -> Response:
    """The extracted text of a searchable version, redactions applied."""
    return await pass_on(shared, caller, "searcher", "GET", ("v1", "documents", document, "text"))


@router.get("/v1/documents/{document:path}", response_model=DocumentBody)
async def show(document: str, caller: Keeper, shared: Shared) -> Response:
    """One document: its state, its versions, and where it lies in the log."""
    async with shared.database.request(caller.tenant) as connection:
        row = await connection.fetchrow(
            f"SELECT {DOCUMENT_COLUMNS}, created_at, updated_at FROM document "  # noqa: S608
            "WHERE tenant = $1 AND id = $2",
            caller.tenant,
            document,
        )
    if row is None:
        raise Problem("not_found", f"there is no document {document!r}")
    return JSON(_view(dict(row)))


def _view(row: dict[str, Any]) -> dict[str, Any]:
    times = {name: row.pop(name) for name in ("created_at", "updated_at")}
    return view(Document(**row), times)


@router.delete("/v1/documents/{document:path}", status_code=202, response_model=JobBody)
async def remove(
    document: str,
    caller: Publisher,
    shared: Shared,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Delete a document everywhere. The job's result is the receipt."""
    if not document or len(document.encode()) > MOST_SUBJECT_BYTES:
        raise Problem("invalid", f"a document's id has 1 to {MOST_SUBJECT_BYTES} bytes")
    once = Once.of(idempotency_key, b"DELETE", document.encode())
    job = await jobs.remove_document(shared, caller, document, once)
    return await answer_job(shared, caller, job, prefer)
