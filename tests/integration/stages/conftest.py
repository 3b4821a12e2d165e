"""Whole processes inside the test's own, so that it can end one at a point of its choosing.

Each is built by its composition root and runs on the run's Kafka and Postgres, all of it but the
operating system's process. `Doom` decides where one dies; the next one takes up what it left.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from pydantic import SecretStr

from penstock.common.envelope import Envelope, Publication, document_key
from penstock.common.events import CollectionConfigured, Event
from penstock.common.kafka import Publisher
from penstock.common.service import Service
from penstock.common.settings import ServiceSettings
from penstock.common.topics import COLLECTION_CONFIGURED, JOB_PROGRESSED, TOPICS, Topic
from penstock.local.stack import Servers

DIFFERENT = {"position", "at", "elapsed_ms", "timings_ms"}
"""Fields that differ between two documents, or two tellings, of which all else is the same."""


Point = tuple[str, str]
"""A document's or question's name, and a topic."""


@dataclass
class Doom:
    """Where processes die: about to send, or having sent, a record about a name to a topic.

    Who dies does nothing any more: the call never returns, and what else it would send about that
    name is not sent either. To be followed by the end of the process.
    """

    points: frozenset[Point] = frozenset()
    sent: bool = False
    """Die when the record has been sent (and its offset not committed), not before."""
    claimed: set[Point] = field(default_factory=set)
    dead: set[tuple[str, str]] = field(default_factory=set)
    """Processes, and the name about which each says nothing any more."""
    died: set[Point] = field(default_factory=set)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def comes(self, points: Iterable[tuple[str, Topic[Any]]], *, sent: bool) -> None:
        self.points, self.sent = frozenset((name, topic.name) for name, topic in points), sent
        self.claimed, self.died = set(), set()

    def passes(self) -> None:
        self.points = frozenset()
        self.dead = set()

    async def everywhere(self) -> None:
        """Returns when it has come to every point."""
        async with asyncio.timeout(30), self.changed:
            await self.changed.wait_for(lambda: self.died == self.points)

    def point(self, source: str, topic: str, key: bytes | None) -> Point | None:
        """Where this process is dying, or has died; None: it lives."""
        name = (key or b"").decode().rpartition("/")[2]
        if (name, topic) in self.points:
            self.dead.add((source, name))
        return (name, topic) if (source, name) in self.dead else None

    async def strike(self, point: Point) -> None:
        async with self.changed:
            self.died.add(point)
            self.changed.notify_all()
        await asyncio.Event().wait()


@pytest.fixture
def doom(monkeypatch: pytest.MonkeyPatch) -> Doom:
    """Under every publisher but the test's own."""
    made, send = Doom(), Publisher.send

    async def sending(self: Publisher, topic: str, key: bytes | None, *more: Any) -> Any:
        point = made.point(self._source, topic, key) if self._source != "test" else None
        if point is None:
            return await send(self, topic, key, *more)
        first = point in made.points - made.claimed  # of those that are sent together
        made.claimed.add(point)
        if first and made.sent:
            await send(self, topic, key, *more)
        return await (made.strike(point) if first else asyncio.Event().wait())

    monkeypatch.setattr(Publisher, "send", sending)
    return made


@asynccontextmanager
async def running(*services: Service) -> AsyncIterator[None]:
    """Up and ready; stopped in order at the end, what hangs is cancelled as on revocation."""
    lives = [service.app.router.lifespan_context(service.app) for service in services]
    for life in lives:
        await life.__aenter__()
    try:
        async with asyncio.timeout(60):
            for service in services:
                while reason := await service.why_not_ready():
                    assert not service.failed, reason
                    await asyncio.sleep(0.02)
        yield
    finally:
        for life in lives:
            await life.__aexit__(None, None, None)


@pytest.fixture(name="running")
def running_fixture() -> Callable[..., AbstractAsyncContextManager[None]]:
    return running


class Log:
    """Everything that has come to the topics since the test began."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self.records: list[ConsumerRecord] = []

    async def read(self) -> None:
        """All that lies there now."""
        assigned = self._consumer.assignment()
        ends = await self._consumer.end_offsets(assigned)
        while any([await self._consumer.position(tp) < end for tp, end in ends.items()]):
            for found in (await self._consumer.getmany(timeout_ms=50)).values():
                self.records += found

    def about(self, name: str, *topics: Topic[Any]) -> list[tuple[str, str]]:
        """(topic, body) of a document's or question's records, as those of any other would be."""
        wanted = {t.name for t in topics}
        return [
            (raw.topic, told(raw.value, name))
            for raw in self.records
            if (raw.key or b"").decode().rpartition("/")[2] == name
            and (not wanted or raw.topic in wanted)
        ]

    async def until(self, met: Callable[[], Any], timeout_s: float = 60) -> Any:
        """Read on until it is met."""
        async with asyncio.timeout(timeout_s):
            while True:
                await self.read()
                if answer := met():
                    return answer
                await asyncio.sleep(0.02)

    def bodies(self, topic: Topic[Any], name: str) -> list[Any]:
        """The bodies about a document (by key) on a topic."""
        return [
            topic.body.model_validate_json(raw.value)
            for raw in self.records
            if raw.topic == topic.name and raw.key == name.encode() and raw.value is not None
        ]


def told(value: bytes | None, name: str) -> str:
    """A body without its name and what differs anyhow."""
    if value is None:
        return ""
    return json.dumps(_plain(json.loads(value)), sort_keys=True).replace(name, "…")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k not in DIFFERENT}
    return [_plain(v) for v in value] if isinstance(value, list) else value


@pytest.fixture
async def log(servers: Servers) -> AsyncIterator[Log]:
    letters = [t.dead_letters(g) for t in TOPICS for g in t.groups]
    partitions = [TopicPartition(t.name, p) for t in TOPICS for p in range(t.partitions)]
    partitions += [TopicPartition(name, 0) for name in letters]
    consumer = AIOKafkaConsumer(bootstrap_servers=servers.kafka, fetch_max_wait_ms=20)
    await consumer.start()
    try:
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        yield Log(consumer)
    finally:
        await consumer.stop()


class World:
    """A tenant of the test's own, and a publisher in the place of the stages before."""

    def __init__(self, servers: Servers, publisher: Publisher, folder: Path) -> None:
        self.servers = servers
        self.publisher = publisher
        self.folder = folder
        self.tenant = f"races-{uuid4().hex[:8]}"

    def settings(self, kind: Any, schema: str | None = None, **more: Any) -> Any:
        """Of a service."""
        if schema is not None:
            more["database"] = SecretStr(self.servers.dsns[schema])
        if "blobs" in kind.model_fields:
            more["blobs"] = self.folder / "blobs"
        secret = SecretStr("x" * 32)
        return kind(kafka=self.servers.kafka, service_secret=secret, grace_s=0.2, **more)

    async def configure(self, **more: Any) -> None:
        envelope = Envelope(id=uuid4().hex, tenant=self.tenant, job="setup")
        body = CollectionConfigured(**more)
        await self.publisher.publish(
            Publication(COLLECTION_CONFIGURED, f"{self.tenant}/default", envelope, body)
        )

    def event(
        self,
        topic: Topic[Any],
        name: str,
        body: Event | None,
        *,
        id: str | None = None,  # noqa: A002
    ) -> Publication[Any]:
        """About the document or question `name`, whose job is called `name` too."""
        envelope = Envelope(id=id or f"id-{name}", tenant=self.tenant, job=name, subject=name)
        key = name if topic is JOB_PROGRESSED else document_key(self.tenant, name)
        return Publication(topic, key, envelope, body)

    async def rows(self, schema: str, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        settings = {"search_path": schema}
        connection = await asyncpg.connect(self.servers.dsns[schema], server_settings=settings)
        try:
            return [tuple(row) for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()


@pytest.fixture
async def world(servers: Servers, tmp_path: Path) -> AsyncIterator[World]:
    publisher = Publisher(
        "test", ServiceSettings(kafka=servers.kafka, service_secret=SecretStr("x" * 32))
    )
    await publisher.start()
    made = World(servers, publisher, tmp_path)
    await made.configure()
    yield made
    await publisher.stop()
