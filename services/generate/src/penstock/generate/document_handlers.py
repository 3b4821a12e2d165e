"""Drafts follow the documents: what was written from an older or a deleted version goes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from penstock.common.envelope import Publication, Record, follow
from penstock.common.events import DocumentIndexed, DocumentPurged, DocumentRemoved
from penstock.common.topics import DOCUMENT_PURGED
from penstock.generate.postgres import PostgresDrafts

STORE = "drafts"


class DraftUpkeep:
    def __init__(self, drafts: PostgresDrafts) -> None:
        self._drafts = drafts

    async def replaced(self, records: Sequence[Record[DocumentIndexed]]) -> list[Publication[Any]]:
        """A version became searchable: drafts from lower ones go. Safe to repeat: deletes only."""
        await self._drafts.forget(
            {(r.envelope.tenant, r.value.document, r.value.version - 1) for r in records}
        )
        return []

    async def removed(self, records: Sequence[Record[DocumentRemoved]]) -> list[Publication[Any]]:
        """Purge and say so. Safe to repeat: a second time purges nothing and says it again."""
        for record in records:
            body = record.value
            await self._drafts.purge(record.envelope.tenant, body.document, body.version)
        return [follow(record, DOCUMENT_PURGED, _purged(record.value)) for record in records]


def _purged(body: DocumentRemoved) -> DocumentPurged:
    return DocumentPurged(
        document=body.document,
        collection=body.collection,
        submission=body.submission,
        position=body.position,
        version=body.version,
        store=STORE,
        at=datetime.now(UTC),
    )
