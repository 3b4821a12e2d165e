"""The indexer as it runs: from Kafka to Postgres and back to Kafka."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer
from pydantic import SecretStr

from penstock.common.envelope import Envelope, Publication, Record
from penstock.common.events import CollectionConfigured, Event
from penstock.common.kafka import Publisher
from penstock.common.topics import (
    COLLECTION_CONFIGURED,
    DOCUMENT_EMBEDDED,
    DOCUMENT_INDEXED,
    DOCUMENT_PURGED,
    DOCUMENT_REMOVED,
    DOCUMENT_RETIRED,
    Topic,
)
from penstock.local.stack import Servers
from penstock.retrieve.app import IndexerProcess
from penstock.retrieve.settings import RetrieveSettings

pytestmark = pytest.mark.connected


async def announced(servers: Servers, topic: Topic[Any], tenant: str, count: int = 1) -> list[Any]:
    """The first `count` bodies of a tenant on a topic."""
    consumer = AIOKafkaConsumer(
        topic.name, bootstrap_servers=servers.kafka, auto_offset_reset="earliest"
    )
    await consumer.start()
    found: list[Event] = []
    try:
        async with asyncio.timeout(30):
            while len(found) < count:
                raw = await consumer.getone()
                if (raw.key or b"").startswith(f"{tenant}/".encode()):
                    found.append(topic.body.model_validate_json(raw.value))
    finally:
        await consumer.stop()
    return found


def publication(topic: Topic[Any], record: Record[Any]) -> Publication[Any]:
    return Publication(topic, record.key, record.envelope, record.body)


async def test_a_document_is_indexed_removed_and_purged_over_kafka(
    servers: Servers, events: Any, seen: Any
) -> None:
    settings = RetrieveSettings(
        kafka=servers.kafka,
        database=SecretStr(servers.dsns["retrieve"]),
        service_secret=SecretStr("x" * 32),
    )
    tenant = events.tenant
    async with AsyncExitStack() as stack:
        publisher = Publisher("test", settings)
        await publisher.start()
        stack.push_async_callback(publisher.stop)
        envelope = Envelope(id=uuid4().hex, tenant=tenant, job="")
        await publisher.publish(
            Publication(
                COLLECTION_CONFIGURED, f"{tenant}/default", envelope, CollectionConfigured()
            )
        )
        process = IndexerProcess(settings)
        await stack.enter_async_context(process.resources())
        stack.push_async_callback(process.stage.drain)
        await process.stage.start()
        assert await process.ready() is None

        parts = [events.batch("d", 1, [f"text {k}"], k=k, n=2, first=k) for k in (1, 0)]
        bad = events.batch("bad", 1, ["x"], generation=9)
        good = [events.batch(f"g{i}", 1, ["neighbour"]) for i in range(5)]
        await publisher.publish(
            *(publication(DOCUMENT_EMBEDDED, r) for r in (parts[0], bad, *good, parts[1]))
        )
        indexed = await announced(servers, DOCUMENT_INDEXED, tenant, 6)
        assert {(b.document, b.chunks) for b in indexed} == {("d", 2)} | {
            (f"g{i}", 1) for i in range(5)
        }
        assert await seen.texts("d") == ["text 0", "text 1"]
        assert await seen.texts("bad") == []

        await publisher.publish(publication(DOCUMENT_RETIRED, events.retired("d", 2)))
        [removed] = await announced(servers, DOCUMENT_REMOVED, tenant)
        assert (removed.document, removed.version) == ("d", 2)
        assert await seen.texts("d") == []
        [purged] = await announced(servers, DOCUMENT_PURGED, tenant)
        assert (purged.document, purged.version, purged.store) == ("d", 2, "index")
        assert await seen.rows("SELECT FROM posting_block WHERE term = 'text'") == []
