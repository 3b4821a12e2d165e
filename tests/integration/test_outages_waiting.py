"""While a dependency is away a group takes no more than it holds, whoever joins it, and says why."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from starlette.routing import Route
from starlette.testclient import TestClient

from penstock.common.bootstrap.topics import create_topics
from penstock.common.consumer import Stage
from penstock.common.envelope import Envelope, Publication, Record
from penstock.common.events import JobCancelled
from penstock.common.failures import PermanentError, TransientError
from penstock.common.http import JSON
from penstock.common.service import Service
from penstock.common.settings import ServiceSettings
from penstock.common.topics import Topic
from penstock.local.stack import Servers

pytestmark = pytest.mark.connected

GROUP = "g"
PARTITIONS = 4
RECORDS = 1_200


class Dependency:
    """What every record needs; `handle` notes whom it served, and how many asked in vain."""

    def __init__(self) -> None:
        self.away = True
        self.refused = 0
        self.served: list[str] = []

    async def handle(self, records: Sequence[Record[JobCancelled]]) -> list[Publication[Any]]:
        if self.away:
            self.refused += 1
            raise TransientError("the dependency is away")
        self.served += [record.value.reason for record in records]
        return []


@pytest.fixture
def settings(servers: Servers) -> ServiceSettings:
    return ServiceSettings(kafka=servers.kafka, service_secret="x" * 32, grace_s=5)


@pytest.fixture
async def topic(settings: ServiceSettings) -> Topic[JobCancelled]:
    made: Topic[Any] = Topic(
        f"test.{uuid4().hex[:8]}.v1", JobCancelled, "test", (), (GROUP,), "document",
        partitions=PARTITIONS,
    )  # fmt: skip
    await create_topics(settings, [made])
    return made


@asynccontextmanager
async def member(
    settings: ServiceSettings, topic: Topic[JobCancelled], dependency: Dependency
) -> AsyncIterator[Stage]:
    stage = Stage(GROUP, settings)
    stage.on(topic, dependency.handle, batch=8, concurrency=4)
    await stage.start()
    try:
        yield stage
    finally:
        await stage.drain()


async def until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


async def publish(stage: Stage, topic: Topic[JobCancelled], names: Sequence[str]) -> None:
    envelope = Envelope(id=uuid4().hex, tenant="default", job="j")
    await stage.publisher.publish(
        *(Publication(topic, f"default/{n}", envelope, JobCancelled(reason=n)) for n in names)
    )


def held(stage: Stage) -> int:
    return max(route.held for route in stage._routes.values())


def paused(stage: Stage) -> bool:
    """All that it was assigned of the topic: nothing more is fetched."""
    assert stage._consumer is not None
    return bool(stage._consumer.paused() == stage._consumer.assignment() != set())


async def more_attempts(dependency: Dependency) -> None:
    """Long enough for a fetch that is not held back: a pause or more."""
    asked = dependency.refused
    await until(lambda: dependency.refused > asked + 6)


async def ends(servers: Servers, topic: str, partitions: int) -> int:
    """How many records lie in a topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=servers.kafka)
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for number in range(partitions)]
        return sum((await consumer.end_offsets(places)).values())
    finally:
        await consumer.stop()


async def test_a_group_that_waits_is_paused_and_stays_so_when_a_member_joins_or_leaves(
    servers: Servers, settings: ServiceSettings, topic: Topic[JobCancelled]
) -> None:
    """Every record is handled once the dependency is back; not one became a dead letter.

    The pauses between two attempts grow to their limit meanwhile, as they do in an outage of a
    minute: from there on every further attempt is like the last.
    """
    dependency = Dependency()
    async with member(settings, topic, dependency) as first:
        names = [f"r{number}" for number in range(RECORDS)]
        await publish(first, topic, names[:200])
        await until(lambda: paused(first))
        await publish(first, topic, names[200:400])
        await more_attempts(dependency)
        assert held(first) <= 200, "a paused partition brings nothing more"
        async with member(settings, topic, dependency) as second:
            await until(lambda: paused(first) and paused(second))
            await publish(second, topic, names[400:])
            await more_attempts(dependency)
            assert held(first) + held(second) <= 400
            await until(lambda: None not in (first.waits.longest(), second.waits.longest()))
        await until(lambda: paused(first) and first.waits.longest() is not None)
        assert not dependency.served
        dependency.away = False
        await until(lambda: set(dependency.served) == set(names))
        assert first.waits.longest() is None
        assert first.why_not_ready() is None
    assert await ends(servers, topic.dead_letters(GROUP), 1) == 0


@pytest.mark.parametrize("doors", [False, True])
async def test_readyz_names_what_is_away(
    settings: ServiceSettings, topic: Topic[JobCancelled], doors: bool
) -> None:
    """A process without doors is not ready, so a rollout with a wrong address stops; one with doors
    goes on serving what it can, and says what its records wait for."""
    dependency = Dependency()
    door = [Route("/door", lambda _: JSON({}))] if doors else []
    async with member(settings, topic, dependency) as stage:
        service = Service("p", settings, stage=stage, routes=door)
        service._started = True
        client = TestClient(service.app)
        assert client.get("/readyz").status_code == 200
        await publish(stage, topic, ["one"])
        await until(lambda: stage.waits.longest() is not None)
        answer = client.get("/readyz")
        assert answer.status_code == (200 if doors else 503)
        assert answer.json()["waits_for"] == f"{topic.name} waits: the dependency is away"
        dependency.away = False
        await until(lambda: dependency.served == ["one"])
        assert client.get("/readyz").json() == {
            "process": "p", "ready": True, "reason": None, "waits_for": None,
        }  # fmt: skip


async def test_a_wait_does_not_use_up_the_look_at_a_collection_made_a_moment_ago(
    servers: Servers, settings: ServiceSettings, topic: Topic[JobCancelled]
) -> None:
    """Postgres was away, then the collection was unknown: the tables are read again all the same."""
    answers: list[Exception | None] = [
        TransientError("away"), PermanentError("unknown", type="unknown_collection"), None,
    ]  # fmt: skip
    calls = 0

    async def handle(records: Sequence[Record[JobCancelled]]) -> list[Publication[Any]]:
        nonlocal calls
        calls += 1
        if (answer := answers[calls - 1]) is not None:
            raise answer
        return []

    stage = Stage(GROUP, settings)
    stage.on(topic, handle)
    await stage.start()
    try:
        await publish(stage, topic, ["one"])
        await until(lambda: calls == 3)
    finally:
        await stage.drain()
    assert await ends(servers, topic.dead_letters(GROUP), 1) == 0
