"""The index as its writer sees it: batches in, removals in, what is to be announced out.

Every method is one effect, safe to repeat: documents are locked first, in one order, then decided
by version (docs/architecture.md, rules 1 and 4), and only then is anything written.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import structlog

from penstock.common.db import Database
from penstock.common.envelope import Publication, Record, follow
from penstock.common.events import (
    DocumentEmbedded,
    DocumentRejected,
    DocumentRemoved,
    DocumentRetired,
)
from penstock.common.topics import DOCUMENT_REMOVED
from penstock.retrieve import removing, staging, writing
from penstock.retrieve.cuts import Cut, assemble, check
from penstock.retrieve.versions import (
    CutKey,
    DocumentKey,
    Fate,
    Standing,
    announcements,
    cut_of,
    fate,
    newest,
    target_of,
)

log = structlog.get_logger()

TRANSACTION_CHUNKS = 2048
"""About three seconds of writing at most: so long may a delete of one of its documents wait."""

Batches = dict[CutKey, dict[int, Record[DocumentEmbedded]]]


class Index:
    """Schema `retrieve`, written. `untidy` is set when postings of something removed remain."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.untidy = asyncio.Event()

    async def write(self, records: Sequence[Record[DocumentEmbedded]]) -> list[Publication[Any]]:
        """
        Store batches; what is complete becomes searchable.

        Raises:
            PermanentError: a batch that this index cannot hold; nothing of its transaction is kept.
            TransientError: Postgres is away or the transaction lost a race.
        """
        for record in records:
            check(record.value)
        publications: list[Publication[Any]] = []
        for some in _slices(records):
            publications += await self._write(some)
        return publications

    async def _write(self, records: Sequence[Record[DocumentEmbedded]]) -> list[Publication[Any]]:
        collections = {target_of(r).key: r.value.collection for r in records}
        targets = {target_of(r) for r in records}
        async with self._database.transaction() as connection:
            removals = await writing.create_and_lock(connection, collections)
            before = await writing.standings(connection, targets, removals)
            accepted = [r for r in records if _accepted(r, before[target_of(r)])]
            cuts = await _complete(connection, accepted)
            if cuts:
                await writing.swap(connection, cuts, datetime.now(UTC))
                await staging.drop(connection, [cut.key for cut in cuts])
            after = await writing.standings(connection, targets, removals)
        if cuts:
            chunks = sum(len(cut.chunks) for cut in cuts)
            log.info("indexed", documents=len(cuts), chunks=chunks, batches=len(records))
        return announcements(records, after)

    async def retire(
        self, records: Sequence[Record[DocumentRetired]]
    ) -> list[Publication[DocumentRemoved]]:
        """Make documents unretrievable up to a version. A repeat announces the same again."""
        collections = {_key(r): r.value.collection for r in records}
        now = datetime.now(UTC)
        async with self._database.transaction() as connection:
            removals = await writing.create_and_lock(connection, collections)
            versions = _due(records, removals)
            if versions:
                await removing.retire(connection, versions, now)
            await removing.owe_purge(connection, records)
        self.untidy.set()
        done = datetime.now(UTC)
        log.info("removed", documents=len(versions))
        return [_removed(r, removals[_key(r)], done) for r in records]

    async def reject(self, records: Sequence[Record[DocumentRejected]]) -> list[Publication[Any]]:
        """Drop the staging of rejected versions and nothing else. Nothing to announce."""
        async with self._database.transaction() as connection:
            keys = (DocumentKey(r.envelope.tenant, r.value.document) for r in records)
            await writing.lock(connection, keys)
            await removing.reject(connection, records)
        return []


def _slices(
    records: Sequence[Record[DocumentEmbedded]],
) -> Iterator[Sequence[Record[DocumentEmbedded]]]:
    """Consecutive records of about one transaction's worth of chunks."""
    some: list[Record[DocumentEmbedded]] = []
    chunks = 0
    for record in records:
        some.append(record)
        chunks += len(record.value.chunks)
        if chunks >= TRANSACTION_CHUNKS:
            yield some
            some, chunks = [], 0
    if some:
        yield some


def _accepted(record: Record[DocumentEmbedded], standing: Standing) -> bool:
    return fate(record.value.version, standing) is Fate.ACCEPTED


async def _complete(
    connection: asyncpg.Connection, records: Iterable[Record[DocumentEmbedded]]
) -> list[Cut]:
    """
    The cuts to swap in, newest of each document. Batches of cuts still incomplete are staged.

    A cut whose batches are all in this call never sees the staging table.
    """
    batches: Batches = {}
    for record in records:
        batches.setdefault(cut_of(record), {}).setdefault(record.value.k, record)
    whole = {key for key, held in batches.items() if _is_whole(held)}
    partial = [key for key in batches if key not in whole]
    if partial:
        await staging.stage(connection, [r for key in partial for r in batches[key].values()])
        staged = await staging.complete(connection, partial)
    else:
        staged = []
    chosen = newest([key for key in batches if key in whole or key in staged])
    return [
        assemble(key, [r.value for r in batches[key].values()])
        if key in whole
        else assemble(key, await staging.load(connection, key))
        for key in chosen.values()
    ]


def _is_whole(held: Mapping[int, Record[DocumentEmbedded]]) -> bool:
    return len(held) == next(iter(held.values())).value.n


def _key(record: Record[DocumentRetired]) -> DocumentKey:
    return DocumentKey(record.envelope.tenant, record.value.document)


def _due(
    records: Iterable[Record[DocumentRetired]], removals: Mapping[DocumentKey, writing.Removal]
) -> dict[DocumentKey, int]:
    """The highest version to retire of each document that is not retired so far already."""
    due: dict[DocumentKey, int] = {}
    for record in records:
        key, version = _key(record), record.value.version
        if version > max(removals[key].version, due.get(key, 0)):
            due[key] = version
    return due


def _removed(
    record: Record[DocumentRetired], before: writing.Removal, done: datetime
) -> Publication[DocumentRemoved]:
    event = record.value
    at = before.at if before.at is not None and before.version == event.version else done
    body = DocumentRemoved(
        document=event.document,
        collection=event.collection,
        submission=event.submission,
        position=event.position,
        version=event.version,
        at=at,
        elapsed_ms=max(0, round(at.timestamp() * 1000) - event.position.at),
    )
    return follow(record, DOCUMENT_REMOVED, body)
