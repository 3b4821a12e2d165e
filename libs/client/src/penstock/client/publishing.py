"""Publishing straight to the topic, and following what becomes of it, without the API."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError

from penstock.client.errors import UnreachableError
from penstock.common import topics
from penstock.common.blobs import BlobStore
from penstock.common.envelope import Envelope, Publication, document_key, read
from penstock.common.events import (
    DocumentFailed,
    DocumentSubmitted,
    Failure,
    JobProgressed,
    ProgressState,
    Stage,
)
from penstock.common.failures import PermanentError
from penstock.common.kafka import Publisher, connection
from penstock.common.settings import BlobSettings, KafkaSettings

STAGES = (Stage.INGEST, Stage.GUARD, Stage.EMBED, Stage.INDEX)

STALLED_S = 20.0
"""No word from any stage for so long deserves a hint."""

_OUTCOMES = {
    topics.DOCUMENT_INDEXED.name: "searchable",
    topics.DOCUMENT_REMOVED.name: "removed",
    topics.DOCUMENT_FAILED.name: "failed",
    topics.DOCUMENT_QUARANTINED.name: "quarantined",
}


@dataclass(slots=True)
class Followed:
    """What became of one submission so far."""

    document: str
    done: dict[Stage, set[int]] = field(default_factory=dict)
    batches: int = 1
    outcome: str | None = None
    error: Failure | None = None

    def stage_done(self, stage: Stage) -> bool:
        if self.outcome is not None and self.outcome != "failed":
            return True
        return len(self.done.get(stage, ())) >= (1 if stage is Stage.INGEST else self.batches)


class TopicPublisher:
    """Writes `document.submitted` and reads the progress of what it wrote."""

    def __init__(self, settings: KafkaSettings, blobs: BlobSettings, tenant: str) -> None:
        self._settings = settings
        self._tenant = tenant
        self._blobs = BlobStore(blobs.blobs)
        self._limit = blobs.max_document_bytes
        self._publisher = Publisher("penstock/publish", settings)
        self._consumer: AIOKafkaConsumer | None = None
        self.followed: dict[str, Followed] = {}

    async def __aenter__(self) -> Self:
        """
        Raises:
            UnreachableError: no broker answers.
        """
        try:
            await self._connect()
        except KafkaError as error:
            await self._close()
            raise UnreachableError(
                f"no answer from Kafka at {self._settings.kafka}; is it running? "
                "`penstock status` tells, `penstock up` starts it"
            ) from error
        except BaseException:  # Ctrl-C
            await self._close()
            raise
        return self

    async def _connect(self) -> None:
        await self._publisher.start()
        self._consumer = AIOKafkaConsumer(
            *(topics.JOB_PROGRESSED.name, *_OUTCOMES),
            **connection(self._settings),
            group_id=None,
            enable_auto_commit=False,
        )
        await self._consumer.start()
        partitions = self._consumer.assignment()  # all there are: an operator may have added some
        await self._consumer.seek_to_end(*partitions)
        for partition in partitions:
            await self._consumer.position(partition)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()
        await self._publisher.stop()

    async def submit(self, document: str, path: Path, **fields: Any) -> str:
        """
        Put the file into the blob store, then announce it. Returns the submission's id.

        A file that is too large or cannot be opened has failed already, and stops no other.

        Raises:
            TransientError: the blob store or the broker is away.
        """
        submission = uuid4().hex
        try:
            with await asyncio.to_thread(path.open, "rb") as file:
                ref = await self._blobs.put(
                    self._tenant, submission, _pieces(file), limit=self._limit
                )
        except PermanentError as error:
            self._refuse(submission, document, error.type, str(error))
        except OSError as error:
            self._refuse(submission, document, "unreadable", f"{path}: {error.strerror}")
        else:
            body = DocumentSubmitted(blob=ref, filename=path.name, **fields)
            await self._announce(document, submission, body)
        return submission

    def _refuse(self, submission: str, document: str, kind: str, message: str) -> None:
        error = Failure(type=kind, message=message)
        self.followed[submission] = Followed(document, outcome="failed", error=error)

    async def delete(self, document: str) -> str:
        submission = uuid4().hex
        await self._announce(document, submission, None)
        return submission

    async def follow(
        self, changed: Callable[[], None], stalled: Callable[[], None] = lambda: None
    ) -> None:
        """Read progress until every submission has an outcome.

        `stalled` is called once for every `STALLED_S` seconds in which nothing was heard.
        """
        assert self._consumer is not None
        heard = time.monotonic()
        while any(f.outcome is None for f in self.followed.values()):
            taken = await self._consumer.getmany(timeout_ms=500)
            if taken:
                heard = time.monotonic()
            elif time.monotonic() - heard > STALLED_S:
                heard = time.monotonic()
                stalled()
            for records in taken.values():
                for raw in records:
                    self._apply(raw)
            if taken:
                changed()

    async def _announce(
        self, document: str, submission: str, body: DocumentSubmitted | None
    ) -> None:
        self.followed[submission] = Followed(document)
        envelope = Envelope(id=submission, tenant=self._tenant, job=submission, subject=document)
        key = document_key(self._tenant, document)
        await self._publisher.publish(Publication(topics.DOCUMENT_SUBMITTED, key, envelope, body))

    def _apply(self, raw: ConsumerRecord) -> None:
        topic = topics.BY_NAME[raw.topic]
        try:
            record = read(raw, topic, cluster="", default_tenant=self._tenant)
        except PermanentError:
            return  # not ours: everything this follows was written by Penstock itself
        followed = self.followed.get(record.envelope.job)
        if followed is None or record.envelope.tenant != self._tenant:
            return
        body = record.value
        if isinstance(body, JobProgressed):
            _progress(followed, body)
        else:
            followed.outcome = _OUTCOMES[raw.topic]
            if isinstance(body, DocumentFailed):
                followed.error = body.error


def _progress(followed: Followed, body: JobProgressed) -> None:
    match body.state:
        case ProgressState.DONE:
            followed.done.setdefault(body.stage, set()).add(body.k)
            if body.stage is not Stage.INGEST:
                followed.batches = max(followed.batches, body.n)
        case ProgressState.UNCHANGED | ProgressState.SUPERSEDED:
            followed.outcome = body.state.value
        case ProgressState.FAILED | ProgressState.DEAD_LETTERED:
            followed.outcome, followed.error = "failed", body.error
        case ProgressState.TAKEN_IN:
            pass


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, 1 << 20):
        yield piece
