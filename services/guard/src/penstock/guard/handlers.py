"""The document gate: batches of chunks in, what may pass out, the rest held for a person."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import structlog

from penstock.common.db import Database
from penstock.common.envelope import Publication, Record, follow
from penstock.common.events import (
    CollectionConfigured,
    DocumentChunked,
    DocumentEvent,
    DocumentPurged,
    DocumentQuarantined,
    DocumentRejected,
    DocumentRetired,
    ProgressState,
    Stage,
    Verdict,
)
from penstock.common.progress import progressed
from penstock.common.topics import (
    DOCUMENT_CLEARED,
    DOCUMENT_PURGED,
    DOCUMENT_QUARANTINED,
    DOCUMENT_REJECTED,
)
from penstock.guard.documents import Screened, screen
from penstock.guard.engine import Engine, Engines
from penstock.guard.postgres import BatchVerdict, Documents
from penstock.guard.quarantine import Fate, Known, State, VersionKey, batch_key, complete, fate

log = structlog.get_logger()

STORE = "quarantine"
ConfigurationOf = Callable[[str, str], CollectionConfigured]
"""Tenant and name of a collection -> its configuration."""


class DocumentGate:
    def __init__(self, database: Database, engines: Engines, configured: ConfigurationOf) -> None:
        self._database = database
        self._engines = engines
        self._configured = configured

    async def screen(
        self, records: Sequence[Record[DocumentChunked]]
    ) -> Sequence[Publication[Any]]:
        """
        Screen batches; publish, hold or drop each.

        Safe to repeat: a batch's verdict is kept under its key, and one that comes again meets
        the fate it had and is announced again.
        """
        engines = [self._engine(record) for record in records]
        screened = await asyncio.to_thread(_screened, records, engines)
        async with self._database.transaction() as connection:
            return await _settle(Documents(connection), screened)

    async def retire(
        self, records: Sequence[Record[DocumentRetired]]
    ) -> Sequence[Publication[Any]]:
        """Forget what is held of deleted versions. Safe to repeat: nothing is left to forget."""
        publications: list[Publication[Any]] = []
        for record in records:
            body = record.value
            async with self._database.transaction() as connection:
                await Documents(connection).retire(
                    record.envelope.tenant, body.document, body.version
                )
            purged = DocumentPurged(**_identity(body), store=STORE, at=datetime.now(UTC))
            publications.append(follow(record, DOCUMENT_PURGED, purged))
        return publications

    def _engine(self, record: Record[DocumentChunked]) -> Engine:
        configured = self._configured(record.envelope.tenant, record.value.collection)
        return self._engines.get(configured.guard_policy)


def _screened(
    records: Sequence[Record[DocumentChunked]], engines: Sequence[Engine]
) -> list[tuple[Record[DocumentChunked], Screened, Verdict]]:
    """Takes milliseconds a record: for a thread."""
    found = []
    for record, engine in zip(records, engines, strict=True):
        one = screen(record.value, engine)
        found.append((record, one, engine.verdict("document", one.findings)))
    return found


async def _settle(
    documents: Documents,
    screened: Sequence[tuple[Record[DocumentChunked], Screened, Verdict]],
) -> list[Publication[Any]]:
    """Decide about every batch under its document's lock, and write it down."""
    keys = [batch_key(record.envelope.tenant, record.value) for record, *_ in screened]
    known = await documents.known(keys)
    publications: list[Publication[Any]] = []
    verdicts: list[BatchVerdict] = []
    holding: dict[VersionKey, Record[DocumentChunked]] = {}
    for key, (record, one, verdict) in zip(keys, screened, strict=True):
        version = key[:3]
        decided = fate(key, verdict.action, known)
        if decided is Fate.HOLD:
            await _hold(documents, record, one, version, known)
            holding[version] = record
        if decided in (Fate.PASS, Fate.HOLD):
            held = decided is Fate.HOLD
            verdicts.append(BatchVerdict(key, record.value.n, held, verdict))
            known.held.setdefault(key, held)
        publications += _announced(decided, record, one, known.actors.get(version, ""))
    if verdicts:
        await documents.add_verdicts(verdicts)
    for version, record in holding.items():
        publications += await _quarantined(documents, record, version)
    if not holding:
        await documents.do_not_wait_for_disk()
    return publications


async def _hold(
    documents: Documents,
    record: Record[DocumentChunked],
    screened: Screened,
    version: VersionKey,
    known: Known,
) -> None:
    if version not in known.states:
        await documents.quarantine(uuid4(), record, record.value)
        known.states[version] = State.READING
        log.info("document_held", document=version[1], version=version[2])
    await documents.hold(record, screened.cleared)


async def _quarantined(
    documents: Documents, record: Record[DocumentChunked], version: VersionKey
) -> list[Publication[Any]]:
    """One announcement when every batch has its verdict; again when the last comes again."""
    batch = record.value
    counts = await documents.screened(version)
    if not complete(counts, batch.generation, batch.cut, batch.n):
        return []
    await documents.wait_for_decision(version)
    body = DocumentQuarantined(
        **_identity(batch), findings=await documents.findings(version), n=batch.n
    )
    return [follow(record, DOCUMENT_QUARANTINED, body)]


def _announced(
    decided: Fate, record: Record[DocumentChunked], screened: Screened, actor: str
) -> list[Publication[Any]]:
    batch = record.value
    if decided is Fate.SUPERSEDED:
        return [progressed(record, Stage.GUARD, ProgressState.SUPERSEDED, k=batch.k, n=batch.n)]
    done: list[Publication[Any]] = [progressed(record, Stage.GUARD, k=batch.k, n=batch.n)]
    if decided is Fate.PASS:
        return [follow(record, DOCUMENT_CLEARED, screened.cleared), *done]
    if decided is Fate.REJECTED:
        body = DocumentRejected(**_identity(batch), findings=screened.findings, actor=actor)
        return [follow(record, DOCUMENT_REJECTED, body), *done]
    return done


def _identity(body: DocumentEvent) -> dict[str, Any]:
    return {name: getattr(body, name) for name in DocumentEvent.model_fields}
