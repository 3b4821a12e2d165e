"""The parser changes while a document is half published: one cut of it becomes searchable, whole."""

from typing import Any
from uuid import uuid4

import pytest

from penstock.common.envelope import document_key
from penstock.common.events import DocumentSubmitted
from penstock.common.topics import (
    DOCUMENT_CHUNKED,
    DOCUMENT_EMBEDDED,
    DOCUMENT_INDEXED,
    DOCUMENT_SUBMITTED,
)
from penstock.embed.app import build as embed
from penstock.embed.settings import EmbedSettings
from penstock.guard.app import documents
from penstock.guard.settings import GuardSettings
from penstock.ingest.app import build as ingest
from penstock.ingest.settings import IngestSettings
from penstock.retrieve.app import indexer
from penstock.retrieve.settings import RetrieveSettings

pytestmark = pytest.mark.connected

TEXT = "\n\n".join(
    f"## Gauge {n}\n\n"
    + " ".join(f"On day {day} of month {n} somebody read gauge {n} at noon." for day in range(8))
    for n in range(66)
)
"""More sections than one batch has chunks, each with room for several smaller ones."""


async def test_ingest_dies_between_two_batches_and_comes_back_with_another_parser(
    world: Any, log: Any, doom: Any, running: Any
) -> None:
    """
    The chunking of the collection is changed meanwhile, which cuts anew as a new parser would.

    What the first cut left in the index goes; no chunk of it is ever searchable.
    """
    document = f"upgraded-{uuid4().hex[:6]}"
    key = document_key(world.tenant, document)
    reading = world.settings(IngestSettings, "ingest")
    beyond = [
        documents(world.settings(GuardSettings, "guard")),
        embed(world.settings(EmbedSettings)),
        indexer(world.settings(RetrieveSettings, "retrieve")),
    ]
    query = "SELECT text FROM chunk WHERE tenant = $1 ORDER BY ordinal"
    staged = "SELECT cut FROM staging WHERE tenant = $1"
    doom.comes([(document, DOCUMENT_CHUNKED)], sent=True)
    async with running(*beyond):
        async with running(ingest(reading)):
            body = DocumentSubmitted(text=TEXT)
            await world.publisher.publish(world.event(DOCUMENT_SUBMITTED, document, body))
            await doom.everywhere()
        [half] = await log.until(lambda: log.bodies(DOCUMENT_CHUNKED, key))
        assert half.n > 1, "it is one of several batches"
        await log.until(lambda: log.bodies(DOCUMENT_EMBEDDED, key))
        doom.passes()
        await world.configure(chunk_tokens=64)
        async with running(ingest(reading)):
            [indexed] = await log.until(lambda: log.bodies(DOCUMENT_INDEXED, key))
    batches = [b for b in log.bodies(DOCUMENT_CHUNKED, key) if b.cut != half.cut]
    assert [b.k for b in batches] == list(range(batches[0].n))
    chunks = [chunk for batch in batches for chunk in batch.chunks]
    assert (indexed.version, indexed.chunks) == (1, len(chunks))
    assert await world.rows("retrieve", query, world.tenant) == [(c.text,) for c in chunks]
    assert await world.rows("retrieve", staged, world.tenant) == []
