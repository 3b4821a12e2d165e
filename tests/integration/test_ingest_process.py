"""The ingest process on real servers: records in, batches of chunks, failures and receipts out."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer
from service_process import service_process

from penstock.common.blobs import BlobStore
from penstock.common.envelope import Envelope, Publication, document_key, read
from penstock.common.events import (
    DocumentIndexed,
    DocumentRemoved,
    DocumentSubmitted,
    Position,
    ProgressState,
    RemovalRequested,
)
from penstock.common.kafka import Publisher
from penstock.common.settings import ServiceSettings
from penstock.common.topics import (
    BY_NAME,
    DOCUMENT_CHUNKED,
    DOCUMENT_FAILED,
    DOCUMENT_INDEXED,
    DOCUMENT_PURGED,
    DOCUMENT_REMOVED,
    DOCUMENT_RETIRED,
    DOCUMENT_SUBMITTED,
    JOB_PROGRESSED,
    REMOVAL_REQUESTED,
)
from penstock.local.stack import Servers

pytestmark = pytest.mark.connected

TENANT = "default"
SECRET = "x" * 32
AT = Position(cluster="c", partition=0, offset=0, at=0)
DLQ = DOCUMENT_SUBMITTED.dead_letters("ingest")


@dataclass
class World:
    """The process, its publisher, and everything it has published."""

    publisher: Publisher
    blobs: Path
    folder: Path
    database: str
    seen: list[tuple[str, str, Any]] = field(default_factory=list)
    """Topic, document, body (of a dead letter: its headers)."""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, count: int, matches: Callable[[str, str, Any], bool]) -> list[Any]:
        """The bodies of the first `count` events that match, as soon as they are there."""
        found: list[Any] = []

        def enough() -> bool:
            found[:] = [body for topic, name, body in self.seen if matches(topic, name, body)]
            return len(found) >= count

        async with asyncio.timeout(60), self.changed:
            await self.changed.wait_for(enough)
        return found

    async def event(self, topic: str, document: str, count: int = 1) -> list[Any]:
        return await self.until(count, lambda t, d, _: (t, d) == (topic, document))

    async def state(self, document: str, state: ProgressState, count: int = 1) -> list[Any]:
        name = JOB_PROGRESSED.name
        return await self.until(
            count, lambda t, d, b: (t, d) == (name, document) and b.state is state
        )

    async def submit(
        self,
        document: str,
        body: DocumentSubmitted | None,
        *,
        id: str | None = None,  # noqa: A002
    ) -> str:
        id = id or uuid4().hex  # noqa: A001
        key = document_key(TENANT, document)
        envelope = Envelope(id=id, tenant=TENANT, job=id, subject=document)
        await self.publisher.publish(Publication(DOCUMENT_SUBMITTED, key, envelope, body))
        return id

    async def tell(self, topic: Any, document: str, body: Any) -> None:
        envelope = Envelope(id=uuid4().hex, tenant=TENANT, job="j", subject=document)
        key = document_key(TENANT, document)
        await self.publisher.publish(Publication(topic, key, envelope, body))

    async def row(self, query: str, *arguments: Any) -> Any:
        connection = await asyncpg.connect(self.database, server_settings={"search_path": "ingest"})
        try:
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()


async def follow_outputs(servers: Servers, world: World) -> None:
    topics = (DOCUMENT_CHUNKED, DOCUMENT_FAILED, DOCUMENT_RETIRED, DOCUMENT_PURGED, JOB_PROGRESSED)
    consumer = AIOKafkaConsumer(
        *(topic.name for topic in topics), DLQ,
        bootstrap_servers=servers.kafka, auto_offset_reset="earliest",
    )  # fmt: skip
    await consumer.start()
    try:
        async for raw in consumer:
            if raw.topic == DLQ:
                name = (raw.key or b"").decode().partition("/")[2]
                body: Any = {key: value.decode() for key, value in raw.headers}
            else:
                body = read(raw, BY_NAME[raw.topic], cluster="c", default_tenant="x").value
                name = body.document
            async with world.changed:
                world.seen.append((raw.topic, name, body))
                world.changed.notify_all()
    finally:
        await consumer.stop()


@pytest.fixture(scope="module")
async def world(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("ingest")
    publisher = Publisher("test", ServiceSettings(kafka=servers.kafka, service_secret=SECRET))
    await publisher.start()
    made = World(publisher, folder / "blobs", folder / "docs", servers.dsns["ingest"])
    made.folder.mkdir()
    environment = {
        "PENSTOCK_KAFKA": servers.kafka,
        "PENSTOCK_DATABASE": servers.dsns["ingest"],
        "PENSTOCK_SERVICE_SECRET": SECRET,
        "PENSTOCK_BLOBS": str(made.blobs),
        "PENSTOCK_URI_PREFIXES": f"file://{made.folder}",
    }
    following = asyncio.create_task(follow_outputs(servers, made))
    try:
        async with service_process(
            folder / "ingest.log", "penstock.ingest.app", settings=environment
        ):
            yield made
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await publisher.stop()


@pytest.fixture
def document() -> str:
    return f"ingest-{uuid4().hex[:10]}"


async def test_a_document_leaves_as_batches_of_one_cut_that_cover_its_text(
    world: World, document: str
) -> None:
    text = "".join(
        f"Turbine {n} turns at {n} rpm. It is oiled on day {n}.\n\n" for n in range(1500)
    )
    body = DocumentSubmitted(text=text, metadata={"site": "north"}, filename="turbines.txt")
    submission = await world.submit(document, body)
    (first, *_) = await world.event(DOCUMENT_CHUNKED.name, document)
    batches = await world.event(DOCUMENT_CHUNKED.name, document, first.n)
    assert first.n > 1
    assert [batch.k for batch in batches] == list(range(first.n))
    assert {(b.cut, b.version, b.submission, b.title) for b in batches} == {
        (first.cut, 1, submission, "turbines.txt")
    }
    chunks = [chunk for batch in batches for chunk in batch.chunks]
    assert "".join("".join(c.text for c in chunks).split()) == "".join(text.split())
    (taken,) = await world.state(document, ProgressState.TAKEN_IN)
    assert (taken.version, taken.position) == (1, first.position)
    await world.state(document, ProgressState.DONE)


async def test_a_redelivery_makes_the_same_version_and_cut(world: World, document: str) -> None:
    body = DocumentSubmitted(text="# Pump\n\nIt pumps water.")
    submission = await world.submit(document, body)
    await world.submit(document, body, id=submission)
    one, two = await world.event(DOCUMENT_CHUNKED.name, document, 2)
    assert (one.version, one.cut) == (two.version, two.cut) == (1, one.cut)
    assert one.title == "Pump"


async def test_json_without_any_header_is_a_document(world: World, document: str) -> None:
    await world.publisher.send(
        DOCUMENT_SUBMITTED.name, f"default/{document}".encode(), b'{"text": "It pumps."}', []
    )
    (batch,) = await world.event(DOCUMENT_CHUNKED.name, document)
    assert batch.chunks[0].text == "It pumps."


async def test_what_is_searchable_already_costs_nothing(world: World, document: str) -> None:
    body = DocumentSubmitted(text="It pumps water.", title="Pump")
    await world.submit(document, body)
    (batch,) = await world.event(DOCUMENT_CHUNKED.name, document)
    indexed = DocumentIndexed(
        document=document, collection="default", submission=batch.submission, version=1,
        position=batch.position, at=datetime.now(UTC), generation=batch.generation, chunks=1,
    )  # fmt: skip
    await world.tell(DOCUMENT_INDEXED, document, indexed)
    query = "SELECT confirmed FROM submission WHERE document = $1 AND version = 1"
    async with asyncio.timeout(20):
        while not await world.row(query, document):
            await asyncio.sleep(0.02)
    again = await world.submit(document, body)
    (unchanged,) = await world.state(document, ProgressState.UNCHANGED)
    assert unchanged.version == 1
    await world.submit(document, body.model_copy(update={"title": "Water pump"}))
    changed = (await world.event(DOCUMENT_CHUNKED.name, document, 2))[-1]
    assert (changed.version, changed.title) == (2, "Water pump")
    assert not list(world.blobs.rglob(f"{again}/*")), "the repeat keeps no source"


async def test_a_delete_is_announced_and_its_sources_are_gone(world: World, document: str) -> None:
    marker = f"marker-{uuid4().hex}"
    await world.submit(document, DocumentSubmitted(text=marker, metadata={"m": marker}))
    await world.event(DOCUMENT_CHUNKED.name, document)
    assert any(marker in path.read_text() for path in world.blobs.rglob("*") if path.is_file())
    await world.submit(document, None)
    (retired,) = await world.event(DOCUMENT_RETIRED.name, document)
    assert retired.version == 2
    removed = DocumentRemoved(
        **retired.model_dump(exclude={"at"}), at=datetime.now(UTC), elapsed_ms=1
    )
    for announcement in (1, 2):
        await world.tell(DOCUMENT_REMOVED, document, removed)
        purged = await world.event(DOCUMENT_PURGED.name, document, 2 * announcement)
        assert {each.store for each in purged} == {"blobs", "ingest"}
    assert not any(marker in path.read_text() for path in world.blobs.rglob("*") if path.is_file())
    query = "SELECT string_agg(s::text, ',') FROM submission s WHERE document = $1"
    assert marker not in await world.row(query, document)


async def test_a_removal_overtakes_and_its_null_record_gets_the_same_number(
    world: World, document: str
) -> None:
    await world.submit(document, DocumentSubmitted(text="It pumps."))
    (batch,) = await world.event(DOCUMENT_CHUNKED.name, document)
    null = uuid4().hex
    ahead = batch.position.model_copy(update={"offset": batch.position.offset + 1_000_000})
    removal = RemovalRequested(document=document, submission=null, position=ahead)
    await world.tell(REMOVAL_REQUESTED, document, removal)
    await world.event(DOCUMENT_RETIRED.name, document)
    await world.submit(document, DocumentSubmitted(text="Waited in the backlog."))
    await world.state(document, ProgressState.SUPERSEDED)
    await world.submit(document, None, id=null)
    one, two = await world.event(DOCUMENT_RETIRED.name, document, 2)
    assert one.version == two.version == 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (DocumentSubmitted(text=" "), "empty"),
        (DocumentSubmitted(text="WEBVTT", filename="a.vtt"), "no_text"),
        (DocumentSubmitted(uri="file:///etc/passwd"), "uri_refused"),
        (DocumentSubmitted(uri="https://example.org/"), "uri_refused"),
    ],
)
async def test_what_cannot_be_read_fails_with_a_reason_and_no_dead_letter(
    world: World, document: str, body: DocumentSubmitted, reason: str
) -> None:
    await world.submit(document, body)
    (failed,) = await world.event(DOCUMENT_FAILED.name, document)
    (word,) = await world.state(document, ProgressState.FAILED)
    assert failed.error == word.error
    assert failed.error.type == reason
    assert not any(topic == DLQ and name == document for topic, name, _ in world.seen)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (DocumentSubmitted(text="a", uri="b"), "exactly one of text, uri and blob"),
        (DocumentSubmitted(text="a", collection="nowhere"), "collection 'nowhere'"),
        (DocumentSubmitted(blob=f"blob:other/s/{'0' * 64}"), "not a blob of this tenant"),
    ],
)
async def test_what_contradicts_itself_is_dead_lettered_by_name(
    world: World, document: str, body: DocumentSubmitted, reason: str
) -> None:
    await world.submit(document, body)
    (letter,) = await world.event(DLQ, document)
    assert reason in " ".join(letter.values())


async def test_an_id_used_for_other_content_is_dead_lettered(world: World, document: str) -> None:
    submission = await world.submit(document, DocumentSubmitted(text="One."))
    await world.submit(document, DocumentSubmitted(text="Two."), id=submission)
    (letter,) = await world.event(DLQ, document)
    assert "used before with other content" in " ".join(letter.values())
    (batch,) = await world.event(DOCUMENT_CHUNKED.name, document)
    assert batch.chunks[0].text == "One."


async def test_a_file_by_uri_and_one_by_blob_are_read(world: World, document: str) -> None:
    (world.folder / "prices.csv").write_text("Model,Price\nX-200,40 EUR\n")
    await world.submit(document, DocumentSubmitted(uri=f"file://{world.folder}/prices.csv"))
    (by_uri,) = await world.event(DOCUMENT_CHUNKED.name, document)
    assert by_uri.chunks[0].text == "Model: X-200 | Price: 40 EUR"
    submission = uuid4().hex
    blob = await BlobStore(world.blobs).put(TENANT, submission, b"It pumps.", limit=100)
    await world.submit(f"{document}-2", DocumentSubmitted(blob=blob), id=submission)
    (by_blob,) = await world.event(DOCUMENT_CHUNKED.name, f"{document}-2")
    assert by_blob.chunks[0].text == "It pumps."
