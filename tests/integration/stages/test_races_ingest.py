"""What senders do to one document at once, and what ingest does when it is not alone."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4
from zlib import crc32

import psutil
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from penstock.common.envelope import document_key
from penstock.common.events import (
    DocumentIndexed,
    DocumentRemoved,
    DocumentSubmitted,
    ProgressState,
)
from penstock.common.topics import (
    DOCUMENT_CHUNKED,
    DOCUMENT_INDEXED,
    DOCUMENT_REMOVED,
    DOCUMENT_RETIRED,
    DOCUMENT_SUBMITTED,
    JOB_PROGRESSED,
)
from penstock.ingest.app import build
from penstock.ingest.settings import IngestSettings

pytestmark = pytest.mark.connected

A, B = DocumentSubmitted(text="Alpha pumps water."), DocumentSubmitted(text="Beta turns slowly.")
PARTITIONS = DOCUMENT_SUBMITTED.partitions


@pytest.fixture
def document() -> str:
    return f"race-{uuid4().hex[:8]}"


@pytest.fixture
async def ingest(world: Any, running: Any) -> AsyncIterator[None]:
    async with running(build(world.settings(IngestSettings, "ingest"))):
        yield


async def submit(world: Any, document: str, *bodies: DocumentSubmitted | None) -> list[str]:
    """One after the other, without waiting for what becomes of them; their ids."""
    ids = [uuid4().hex for _ in bodies]
    for id_, body in zip(ids, bodies, strict=True):
        await world.publisher.publish(world.event(DOCUMENT_SUBMITTED, document, body, id=id_))
    return ids


async def chunked(world: Any, log: Any, document: str, version: int) -> Any:
    """The batch of this version of a short document."""

    def found() -> Any:
        batches = log.bodies(DOCUMENT_CHUNKED, document_key(world.tenant, document))
        return next((batch for batch in batches if batch.version == version), None)

    return await log.until(found)


async def confirm(world: Any, batch: Any) -> None:
    """The indexer says that this is searchable, and ingest has heard of it."""
    fields = batch.model_dump(include={"document", "collection", "submission", "position"})
    body = DocumentIndexed(
        **fields, version=batch.version, generation=batch.generation, at=datetime.now(UTC), chunks=1
    )
    await world.publisher.publish(world.event(DOCUMENT_INDEXED, batch.document, body))
    await until_row(
        world, "SELECT confirmed FROM submission WHERE document = $1 AND version = $2",
        batch.document, batch.version,
    )  # fmt: skip


async def until_row(world: Any, query: str, *arguments: Any) -> None:
    async with asyncio.timeout(20):
        while await world.rows("ingest", query, *arguments) != [(True,)]:
            await asyncio.sleep(0.02)


async def versions(world: Any, document: str) -> dict[str, int]:
    query = "SELECT id, version FROM submission WHERE document = $1"
    return dict(await world.rows("ingest", query, document))


async def test_a_b_a_submitted_quickly_ends_as_a(
    world: Any, log: Any, ingest: None, document: str
) -> None:
    """The second A is not taken for the first, though that is searchable; a third one is."""
    [first] = await submit(world, document, A)
    await confirm(world, await chunked(world, log, document, 1))
    second, third = await submit(world, document, B, A)
    again = await chunked(world, log, document, 3)
    assert await versions(world, document) == {first: 1, second: 2, third: 3}
    assert again.chunks[0].text == A.text
    await confirm(world, again)
    [fourth] = await submit(world, document, A)
    words = await log.until(
        lambda: [
            body
            for body in log.bodies(JOB_PROGRESSED, document)
            if body.state is ProgressState.UNCHANGED
        ]
    )
    assert [word.version for word in words] == [3]
    assert (await versions(world, document))[fourth] == 3


async def test_the_same_bytes_after_a_delete_in_flight_are_a_document_again(
    world: Any, log: Any, ingest: None, document: str
) -> None:
    """Not `unchanged`; and when the delete has been seen to, only the older source goes."""
    key = document_key(world.tenant, document)
    [first] = await submit(world, document, A)
    await confirm(world, await chunked(world, log, document, 1))
    delete, second = await submit(world, document, None, A)
    await chunked(world, log, document, 3)
    assert await versions(world, document) == {first: 1, delete: 2, second: 3}
    (retired,) = log.bodies(DOCUMENT_RETIRED, key)
    assert retired.version == 2

    removed = DocumentRemoved(
        **retired.model_dump(exclude={"at"}), at=datetime.now(UTC), elapsed_ms=1
    )
    await world.publisher.publish(world.event(DOCUMENT_REMOVED, document, removed))
    await until_row(
        world, "SELECT purged FROM submission WHERE document = $1 AND version = 1", document
    )
    kept = {path.parent.name for path in (world.folder / "blobs").rglob("*") if path.is_file()}
    assert kept == {second}
    rows = await world.rows(
        "ingest", "SELECT purged FROM submission WHERE document = $1 AND version = 3", document
    )
    assert rows == [(False,)]


def workers() -> list[psutil.Process]:
    """The processes that read documents for us."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # one that has just ended
            if "penstock.ingest.worker" in child.cmdline():
                found.append(child)
    return found


def on_every_partition(tenant: str) -> list[str]:
    """A document for each partition of `document.submitted`."""
    found: dict[int, str] = {}
    for n in range(1000):
        name = f"slow-{uuid4().hex[:6]}-{n}"
        found.setdefault(partition_of(document_key(tenant, name)), name)
        if len(found) == PARTITIONS:
            return list(found.values())
    raise AssertionError("no hash is that uneven")


def partition_of(key: str) -> int:
    """As the Java client does, and this project's."""
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % PARTITIONS)


async def test_a_second_ingest_takes_over_what_the_first_is_still_reading(
    world: Any, log: Any, running: Any
) -> None:
    """Slow files hold up no rebalance: their tasks are cancelled, and nothing is lost or doubled."""
    settings = world.settings(IngestSettings, "ingest", parse_workers=2)
    names = on_every_partition(world.tenant)
    warm: list[str] = []

    def read_of(wanted: list[str]) -> list[str]:
        return [
            name
            for name in wanted
            for _ in log.bodies(DOCUMENT_CHUNKED, document_key(world.tenant, name))
        ]

    def taken_in() -> bool:
        return all(log.bodies(JOB_PROGRESSED, name) for name in names)

    async with running(build(settings)):
        while len(workers()) < settings.parse_workers:  # they are started when needed
            warm.extend(f"warm-{uuid4().hex[:6]}-{n}" for n in range(4))
            await asyncio.gather(*(submit(world, name, A) for name in warm[-4:]))
            await log.until(lambda: len(read_of(warm)) == len(warm))
        stopped = workers()
        for process in stopped:
            process.suspend()
        try:
            for name in names:
                await submit(world, name, A)
            await log.until(taken_in)
            assert read_of(names) == []
            async with running(build(settings)):
                theirs = await log.until(lambda: len(read_of(names)) >= PARTITIONS / 2 and read_of(names))  # fmt: skip
                assert len(theirs) == PARTITIONS / 2, "the other half still waits for the first one"
                for process in stopped:
                    process.resume()
                await log.until(lambda: len(read_of(names)) >= PARTITIONS)
        finally:
            for process in stopped:
                process.resume()
    await log.read()
    assert sorted(read_of(names)) == sorted(names)
    for name in names:
        assert list((await versions(world, name)).values()) == [1]
        states = [body.state for body in log.bodies(JOB_PROGRESSED, name)]
        assert states.count(ProgressState.DONE) == 1
        assert set(states) == {ProgressState.TAKEN_IN, ProgressState.DONE}


def round_robin() -> Callable[[bytes], int]:
    turns = iter(range(10_000))
    return lambda _: next(turns) % PARTITIONS


async def test_clients_that_hash_differently_agree_on_who_came_last(
    world: Any, log: Any, running: Any
) -> None:
    """
    One document in several partitions, read by two processes: its last record is its last version.

    murmur2 is Java's, crc32 that of librdkafka's `consistent_random`; some clients take turns.
    """
    clients: list[Callable[[bytes], int]] = [
        lambda key: partition_of(key.decode()),
        lambda key: crc32(key) % PARTITIONS,
        round_robin(),
    ]
    names = [f"hashed-{uuid4().hex[:6]}-{n}" for n in range(12)]
    appended: dict[str, list[str]] = {name: [] for name in names}
    producer = AIOKafkaProducer(bootstrap_servers=world.servers.kafka)
    async with producer:
        for turn in range(6):
            for n, name in enumerate(names):
                key = document_key(world.tenant, name).encode()
                id_ = f"{name}/{turn}"
                deletes = turn == 5 and n % 4 == 0
                value = None if deletes else b'{"text": "Text %d of %s."}' % (turn, name.encode())
                partition = clients[(turn * 7 + n) % 3](key)
                sent = await producer.send_and_wait(
                    DOCUMENT_SUBMITTED.name, value, key=key, partition=partition,
                    headers=[("ce_id", id_.encode())],
                )  # fmt: skip
                appended[name].append(id_)
            while time.time() * 1000 <= sent.timestamp + 1:
                await asyncio.sleep(0.001)

    settings = world.settings(IngestSettings, "ingest")
    last = {name: ids[-1] for name, ids in appended.items()}

    async def ends_with(name: str) -> str | None:
        given = await versions(world, name)
        return max(given, key=given.__getitem__, default=None)

    async with running(build(settings), build(settings)):
        for name in names:
            async with asyncio.timeout(30):
                while await ends_with(name) != last[name]:
                    await asyncio.sleep(0.02)
    for name in names:
        given = await versions(world, name)
        in_order = [given[id_] for id_ in appended[name] if id_ in given]
        assert in_order == list(range(1, len(in_order) + 1)), "numbers follow the append times"
        assert await ends_with(name) == last[name]
    await log.read()
    some = [len(await versions(world, name)) for name in names]
    assert min(some) < 6, "nobody was overtaken: this proves nothing"
