"""Documents in, chunks out; deletes ahead of everything."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import structlog

from penstock.common.blobs import BlobStore
from penstock.common.consumer import Stage
from penstock.common.envelope import Publication, Record, document_key, follow
from penstock.common.events import (
    CollectionConfigured,
    DocumentChunked,
    DocumentFailed,
    DocumentIndexed,
    DocumentPurged,
    DocumentRemoved,
    DocumentRetired,
    DocumentSubmitted,
    Failure,
    Position,
    ProgressState,
    RemovalRequested,
)
from penstock.common.events import Stage as StageName
from penstock.common.failures import PermanentError
from penstock.common.progress import progressed
from penstock.common.topics import (
    DOCUMENT_CHUNKED,
    DOCUMENT_FAILED,
    DOCUMENT_PURGED,
    DOCUMENT_RETIRED,
)
from penstock.ingest.failures import Unreadable
from penstock.ingest.jobs import Chunked, Job
from penstock.ingest.pool import ParsePool
from penstock.ingest.postgres import Submissions, TakenIn
from penstock.ingest.sources import UriReader, check
from penstock.ingest.takein import Incoming, Outcome, fingerprint

log = structlog.get_logger()

Publications = Sequence[Publication[Any]]


@dataclass(frozen=True, slots=True)
class _Taken:
    """A record with the version it was given: what every event about it says."""

    record: Record[Any]
    document: str
    submission: str
    position: Position
    version: int
    collection: str

    @property
    def fields(self) -> dict[str, Any]:
        return {
            "document": self.document,
            "collection": self.collection,
            "submission": self.submission,
            "position": self.position,
            "version": self.version,
        }

    @property
    def key(self) -> str:
        return document_key(self.record.envelope.tenant, self.document)

    def progress(self, state: ProgressState, *, error: Failure | None = None) -> Publication[Any]:
        return progressed(
            self.record,
            StageName.INGEST,
            state,
            document=self.document,
            version=self.version,
            position=self.position,
            error=error,
        )


@dataclass(frozen=True, slots=True)
class Ingest:
    """The handlers of the ingest process and what they work with."""

    stage: Stage
    submissions: Submissions
    blobs: BlobStore
    pool: ParsePool
    uris: UriReader
    max_bytes: int

    async def submitted(self, records: Sequence[Record[DocumentSubmitted]]) -> Publications:
        """
        Take a document in, read it, cut it, publish its chunks; a null value deletes it.

        Safe to repeat: the version is kept with the submission's id, and the same bytes make the
        same cut.
        """
        (record,) = records
        body, document = record.body, _document(record)
        if body is None:
            return await self._retire(record, document, record.envelope.id, record.position)
        check(body)
        collection = self.stage.collections.get(record.envelope.tenant, body.collection)
        taken_in = await self._take_in(record, body, document, collection)
        decision = taken_in.decision
        if decision.version is None or decision.outcome is Outcome.SUPERSEDED:
            return [_superseded(record, document, decision.version)]
        taken = _Taken(
            record, document, record.envelope.id, record.position, decision.version,
            body.collection,
        )  # fmt: skip
        if decision.outcome is Outcome.UNCHANGED:
            return [taken.progress(ProgressState.UNCHANGED)]
        await self.stage.publisher.publish(taken.progress(ProgressState.TAKEN_IN))
        return await self._work(taken, body, taken_in, collection)

    async def removal_requested(self, records: Sequence[Record[RemovalRequested]]) -> Publications:
        """Take a delete in ahead of the backlog; its null record gets the same number later."""
        (record,) = records
        body = record.value
        return await self._retire(record, body.document, body.submission, body.position)

    async def indexed(self, records: Sequence[Record[DocumentIndexed]]) -> Publications:
        """Note what is searchable, and drop the sources of what it replaced."""
        bodies = [(record.envelope.tenant, record.value) for record in records]
        await self._delete(
            await self.submissions.confirm(
                [(tenant, b.document, b.version, b.generation) for tenant, b in bodies]
            )
        )
        for tenant, body in bodies:
            if body.version > 1:
                await self.submissions.purge(tenant, body.document, body.version - 1)
        return []

    async def removed(self, records: Sequence[Record[DocumentRemoved]]) -> Publications:
        """Drop the sources of a removed document and say so; to be said again, should it recur."""
        publications: list[Publication[Any]] = []
        for record in records:
            body, tenant = record.value, record.envelope.tenant
            await self._delete(
                await self.submissions.blobs_up_to(tenant, body.document, body.version)
            )
            await self.submissions.purge(tenant, body.document, body.version)
            fields = {name: getattr(body, name) for name in type(body).model_fields}
            for store in ("blobs", "ingest"):
                purged = DocumentPurged.model_validate(
                    {**fields, "store": store, "at": datetime.now(UTC)}
                )
                publications.append(follow(record, DOCUMENT_PURGED, purged))
        return publications

    # ------------------------------------------------------------ taking in

    async def _take_in(
        self,
        record: Record[DocumentSubmitted],
        body: DocumentSubmitted,
        document: str,
        collection: CollectionConfigured,
    ) -> TakenIn:
        """The source becomes a blob first: once a row names it, a delete finds it."""
        tenant, submission = record.envelope.tenant, record.envelope.id
        blob = await self._own_blob(tenant, submission, body)
        incoming = Incoming(
            submission=submission,
            position=record.position,
            fingerprint=fingerprint(body, blob.rpartition("/")[2] if blob else body.uri or ""),
            generation=collection.generation,
            by_reference=body.uri is not None,
        )
        taken_in = await self.submissions.take_in(tenant, document, incoming, body, blob)
        if blob is not None and taken_in.blob != blob:
            await self.blobs.delete(blob)
        if taken_in.decision.outcome is Outcome.REUSED:
            raise _reused(submission)
        return taken_in

    async def _own_blob(self, tenant: str, submission: str, body: DocumentSubmitted) -> str | None:
        """The submission's blob: its text put there, or the one it names, which must be its own."""
        if body.text is not None:
            data = body.text.encode()
            return await self.blobs.put(tenant, submission, data, limit=len(data))
        if body.blob is None:
            return None
        owner = [unquote(part) for part in body.blob.removeprefix("blob:").split("/")[:2]]
        if owner != [tenant, submission]:
            raise PermanentError(
                f"{body.blob!r} is not a blob of this tenant and submission ({submission!r})"
            )
        self.blobs.path(body.blob)
        return body.blob

    async def _retire(
        self, record: Record[Any], document: str, submission: str, position: Position
    ) -> Publications:
        tenant = record.envelope.tenant
        incoming = Incoming(submission, position, fingerprint=None)
        taken_in = await self.submissions.take_in(tenant, document, incoming, None)
        decision = taken_in.decision
        if decision.outcome is Outcome.REUSED:
            raise _reused(submission)
        if decision.version is None:
            return [_superseded(record, document, None)]
        taken = _Taken(
            record, document, submission, position, decision.version, taken_in.collection
        )
        retired = DocumentRetired(**taken.fields, at=datetime.now(UTC))
        return [
            taken.progress(ProgressState.TAKEN_IN),
            follow(record, DOCUMENT_RETIRED, retired, key=taken.key),
        ]

    # ------------------------------------------------------------ working on it

    async def _work(
        self,
        taken: _Taken,
        body: DocumentSubmitted,
        taken_in: TakenIn,
        collection: CollectionConfigured,
    ) -> Publications:
        tenant = taken.record.envelope.tenant
        try:
            data = await self._read(taken, body, taken_in)
            name = body.filename or (body.uri or "").rpartition("/")[2] or None
            chunked = await self.pool.run(
                Job(data, name, collection.model, collection.chunk_tokens, collection.max_chunks)
            )
        except Unreadable as error:
            return _failed(taken, error)
        except PermanentError as error:
            overtaken = await self.submissions.overtaken(tenant, taken.document, taken.version)
            if error.type == "blob_missing" and overtaken:
                return [taken.progress(ProgressState.SUPERSEDED)]
            raise
        if await self.submissions.overtaken(tenant, taken.document, taken.version):
            return [taken.progress(ProgressState.SUPERSEDED)]
        log.info("document_chunked", document=taken.document, version=taken.version,
                 converter=chunked.converter, batches=len(chunked.batches))  # fmt: skip
        return _chunked(taken, body, chunked, taken_in.generation)

    async def _read(self, taken: _Taken, body: DocumentSubmitted, taken_in: TakenIn) -> bytes:
        """The bytes; what a uri held is kept as the submission's blob and not fetched again."""
        if body.text is not None:
            return body.text.encode()
        if taken_in.blob is not None:
            return await self.blobs.read(taken_in.blob)
        data = await self.uris.read(body.uri or "")
        tenant = taken.record.envelope.tenant
        blob = await self.blobs.put(tenant, taken.submission, data, limit=self.max_bytes)
        kept = await self.submissions.keep_blob(tenant, taken.document, taken.submission, blob)
        if not kept:
            await self.blobs.delete(blob)
        return data

    async def _delete(self, blobs: Sequence[str]) -> None:
        for blob in blobs:
            await self.blobs.delete(blob)


def _document(record: Record[Any]) -> str:
    document = record.envelope.subject
    if not document or len(document) > 1024:
        raise PermanentError(
            "the document id (after the key's first slash) needs 1 to 1024 characters"
        )
    return document


def _reused(submission: str) -> PermanentError:
    return PermanentError(
        f"the submission id {submission!r} was used before with other content; "
        "every submission needs an id of its own",
        type="id_reused",
    )


def _superseded(record: Record[Any], document: str, version: int | None) -> Publication[Any]:
    return progressed(
        record, StageName.INGEST, ProgressState.SUPERSEDED, document=document, version=version,
        position=record.position,
    )  # fmt: skip


def _failed(taken: _Taken, error: Unreadable) -> Publications:
    failure = error.failure()
    log.info("document_failed", document=taken.document, version=taken.version, type=error.type,
             error=str(error))  # fmt: skip
    event = DocumentFailed(**taken.fields, error=failure)
    return [
        follow(taken.record, DOCUMENT_FAILED, event, key=taken.key),
        taken.progress(ProgressState.FAILED, error=failure),
    ]


def _chunked(
    taken: _Taken, body: DocumentSubmitted, chunked: Chunked, generation: int
) -> Publications:
    """The batches, k of n, and one word of progress."""
    title = body.title or chunked.title or body.filename
    events = [
        DocumentChunked(
            **taken.fields,
            generation=generation,
            cut=chunked.cut,
            k=k,
            n=len(chunked.batches),
            title=title,
            metadata=body.metadata,
            access=body.access,
            chunks=chunks,
        )
        for k, chunks in enumerate(chunked.batches)
    ]
    return [
        *(follow(taken.record, DOCUMENT_CHUNKED, event, key=taken.key) for event in events),
        taken.progress(ProgressState.DONE),
    ]
