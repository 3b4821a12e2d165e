"""The loop under every process, on a real broker: nothing lost, nothing stuck, neighbours unharmed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from topic_reading import everything

from penstock.common import topics
from penstock.common.bootstrap.topics import create_topics
from penstock.common.consumer import Stage
from penstock.common.envelope import Envelope, Publication, Record
from penstock.common.events import JobCancelled, JobProgressed, ProgressState
from penstock.common.events import Stage as StageName
from penstock.common.failures import PermanentError, TransientError
from penstock.common.settings import KafkaSettings, ServiceSettings
from penstock.common.topics import Topic
from penstock.local.stack import Servers

pytestmark = pytest.mark.connected

Body = JobCancelled
"""The smallest body there is: one text."""


@pytest.fixture
def settings(servers: Servers) -> ServiceSettings:
    return ServiceSettings(kafka=servers.kafka, service_secret="x" * 32, grace_s=5)


@pytest.fixture
async def topic(servers: Servers) -> Topic[Body]:
    name = f"test.{uuid4().hex[:8]}.v1"
    made: Topic[Any] = Topic(name, Body, "test", (), ("g",), "document", partitions=2)
    await create_topics(KafkaSettings(kafka=servers.kafka), [made])
    return made


@asynccontextmanager
async def running(
    settings: ServiceSettings, topic: Topic[Body], handler: Any, **how: Any
) -> AsyncIterator[Stage]:
    stage = Stage("g", settings)
    stage.on(topic, handler, stage=StageName.EMBED, **how)
    await stage.start()
    try:
        yield stage
    finally:
        await stage.drain()


async def publish(stage: Stage, topic: Topic[Body], *texts: str, job: str = "") -> None:
    await stage.publisher.publish(
        *(
            Publication(
                topic,
                f"default/{text}",
                Envelope(id=uuid4().hex, tenant="default", job=job or text),
                Body(reason=text),
            )
            for text in texts
        )
    )


async def until(condition: Callable[[], bool | Awaitable[bool]], timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            met = condition()
            if met if isinstance(met, bool) else await met:
                return
            await asyncio.sleep(0.02)


async def records_of(servers: Servers, name: str, partitions: int) -> list[Any]:
    """Everything in a topic, now."""
    return await everything(servers.kafka, [TopicPartition(name, p) for p in range(partitions)])


async def committed(servers: Servers, topic: Topic[Body]) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.kafka)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets("g")
        return sum(o.offset for tp, o in offsets.items() if tp.topic == topic.name)
    finally:
        await admin.close()


class Seen:
    """A handler that notes what it was given, and does as it is told."""

    def __init__(self, act: Callable[[str], Awaitable[None]] | None = None) -> None:
        self.texts: list[str] = []
        self.calls: list[int] = []
        self.attempts: list[int] = []
        self._act = act

    async def __call__(self, records: Sequence[Record[Body]]) -> list[Publication[Any]]:
        self.calls.append(len(records))
        for record in records:
            if self._act is not None:
                await self._act(record.value.reason)
            self.texts.append(record.value.reason)
            self.attempts.append(record.envelope.attempt)
        return []


async def test_a_restart_goes_on_where_the_last_one_stopped(
    servers: Servers, settings: ServiceSettings, topic: Topic[Body]
) -> None:
    first, second = Seen(), Seen()
    async with running(settings, topic, first, batch=10) as stage:
        await publish(stage, topic, *(f"a{n}" for n in range(30)))
        await until(lambda: len(first.texts) == 30)
    assert await committed(servers, topic) == 30
    async with running(settings, topic, second) as stage:
        await publish(stage, topic, "b")
        await until(lambda: second.texts == ["b"])


async def test_a_bad_record_fails_alone(
    servers: Servers, settings: ServiceSettings, topic: Topic[Body]
) -> None:
    async def act(text: str) -> None:
        if text == "bad":
            raise PermanentError("it is bad", type="too_bad")

    seen = Seen(act)
    async with running(settings, topic, seen, batch=50) as stage:
        await stage.publisher.send(topic.name, b"default/x", b"{no json", [])
        await stage.publisher.send(topic.name, b"default/y", b"{}", [("ce_id", b"\xff")])
        await publish(stage, topic, "one", "bad", "two", job="job-of-bad")
        await until(lambda: {"one", "two"} <= set(seen.texts))
        await until(
            lambda: stage._progress != {} and all(p.news is None for p in stage._progress.values())
        )
    letters = await records_of(servers, topic.dead_letters("g"), 1)
    reasons = sorted(dict(r.headers)["dlq-reason"].decode() for r in letters)
    assert reasons == ["invalid", "invalid", "too_bad"]
    assert {r.value for r in letters} >= {b"{no json", b"{}"}
    progress = await records_of(servers, topics.JOB_PROGRESSED.name, 8)
    mine = [JobProgressed.model_validate_json(r.value) for r in progress if r.key == b"job-of-bad"]
    assert [p.state for p in mine] == [ProgressState.DEAD_LETTERED]
    assert mine[0].error is not None
    assert mine[0].error.message == "it is bad"


async def test_a_dependency_that_is_away_is_waited_for_and_nothing_is_dead_lettered(
    servers: Servers, settings: ServiceSettings, topic: Topic[Body]
) -> None:
    attempts = 0

    async def act(text: str) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 6:
            raise TransientError("away")

    seen = Seen(act)
    async with running(settings, topic, seen) as stage:
        await publish(stage, topic, "patient")
        await until(lambda: seen.texts == ["patient"])
    assert await records_of(servers, topic.dead_letters("g"), 1) == []


async def test_a_bug_gets_three_attempts(
    servers: Servers, settings: ServiceSettings, topic: Topic[Body]
) -> None:
    attempts: list[str] = []

    async def act(text: str) -> None:
        if text == "bug":
            attempts.append(text)
            raise ZeroDivisionError

    seen = Seen(act)
    async with running(settings, topic, seen) as stage:
        await publish(stage, topic, "bug", "fine")

        async def dead() -> bool:
            return len(await records_of(servers, topic.dead_letters("g"), 1)) == 1

        await until(dead)
        await until(lambda: seen.texts == ["fine"])
    assert len(attempts) == 3


async def test_bad_code_does_not_drain_the_topic_into_its_dead_letters(
    servers: Servers, settings: ServiceSettings, topic: Topic[Body]
) -> None:
    broken = True

    async def act(text: str) -> None:
        if broken:
            raise ZeroDivisionError

    seen = Seen(act)
    async with running(settings, topic, seen, concurrency=32) as stage:
        await publish(stage, topic, *(f"r{n}" for n in range(60)))
        await until(lambda: stage.why_not_ready() is not None, 60)
        broken = False
        await until(lambda: stage.why_not_ready() is None, 60)

        async def all_accounted_for() -> bool:
            dead = len(await records_of(servers, topic.dead_letters("g"), 1))
            return dead + len(seen.texts) == 60

        await until(all_accounted_for, 60)
    dead = len(await records_of(servers, topic.dead_letters("g"), 1))
    assert 20 <= dead <= 52


async def test_a_slow_record_delays_no_other(settings: ServiceSettings, topic: Topic[Body]) -> None:
    release = asyncio.Event()

    async def act(text: str) -> None:
        if text == "slow":
            await release.wait()

    seen = Seen(act)
    async with running(settings, topic, seen, concurrency=2) as stage:
        await publish(stage, topic, "slow", *(f"f{n}" for n in range(200)))
        await until(lambda: len(seen.texts) == 200)
        assert "slow" not in seen.texts
        release.set()
        await until(lambda: len(seen.texts) == 201)


async def test_a_second_member_takes_over_and_nothing_is_lost(
    settings: ServiceSettings, topic: Topic[Body]
) -> None:
    taken_over = asyncio.Event()

    async def stall(text: str) -> None:
        if len(one.texts) >= 20:
            await taken_over.wait()

    async def take_over(text: str) -> None:
        taken_over.set()

    one, two = Seen(stall), Seen(take_over)
    async with running(settings, topic, one, concurrency=4) as stage:
        await publish(stage, topic, *(f"x{n}" for n in range(300)))
        await until(lambda: len(one.texts) >= 20)
        async with running(settings, topic, two, concurrency=4):
            await until(lambda: len(set(one.texts) | set(two.texts)) == 300, 60)
    assert two.texts


async def test_an_orderly_stop_finishes_what_is_in_hand(
    servers: Servers, settings: ServiceSettings, topic: Topic[Body]
) -> None:
    started = asyncio.Event()

    async def act(text: str) -> None:
        started.set()
        await asyncio.sleep(0.3)

    seen = Seen(act)
    async with running(settings, topic, seen) as stage:
        await publish(stage, topic, "last")
        await started.wait()
    assert seen.texts == ["last"]
    assert await committed(servers, topic) == 1


async def test_a_redriven_record_reaches_the_same_handler_as_the_next_attempt(
    settings: ServiceSettings, topic: Topic[Body]
) -> None:
    seen = Seen()
    async with running(settings, topic, seen) as stage:
        await stage.publisher.send(
            topic.retries("g"), b"default/a", b'{"reason": "again"}', [("ce_attempt", b"2")]
        )
        await until(lambda: seen.texts == ["again"])
    assert seen.attempts == [2]


async def test_records_of_cancelled_jobs_and_unknown_tenants_are_not_worked_on(
    servers: Servers, settings: ServiceSettings, topic: Topic[Body]
) -> None:
    seen = Seen()
    async with running(settings, topic, seen) as stage:
        job = uuid4().hex
        await stage.publisher.publish(
            Publication(
                topics.JOB_CANCELLED,
                f"default/{job}",
                Envelope(id="c", tenant="default", job=job, subject=job),
                JobCancelled(),
            )
        )
        await until(lambda: ("default", job) in stage.cancelled)
        assert ("other", job) not in stage.cancelled
        await publish(stage, topic, "cancelled", job=job)
        await stage.publisher.send(topic.name, b"nobody/x", b'{"reason": "stranger"}', [])
        await publish(stage, topic, "mine")
        await until(lambda: seen.texts == ["mine"])

        async def one_letter() -> bool:
            return len(await records_of(servers, topic.dead_letters("g"), 1)) == 1

        await until(one_letter)
    assert seen.texts == ["mine"]


@pytest.mark.parametrize("what", ["value", "job", "key", "message"])
async def test_a_record_larger_than_may_be_sent_again_is_no_stone_in_the_pipe(
    servers: Servers, settings: ServiceSettings, topic: Topic[Body], what: str
) -> None:
    """A compressed batch passes the broker's limit and comes out as megabytes."""

    async def refuse(reason: str) -> None:
        if len(reason) > 100_000:
            raise PermanentError(f"no room for {reason}")

    seen = Seen(refuse)
    large = b"x" * 3_000_000
    value = b'{"reason": "%s"}' % (large if what == "value" else large[:300_000])
    headers = [("ce_job", large if what == "job" else b"j1")]
    key = b"default/" + (large if what == "key" else b"a")
    producer = AIOKafkaProducer(
        bootstrap_servers=servers.kafka, compression_type="gzip", max_request_size=10_000_000
    )
    async with running(settings, topic, seen) as stage, producer:
        await producer.send_and_wait(topic.name, value, key=key, partition=0, headers=headers)
        await publish(stage, topic, "after", "it", "comes", "more")
        await until(lambda: len(seen.texts) >= 4)
        await until(lambda: letters_are_there(servers, topic))
        assert stage.why_not_ready() is None
    (letter,) = await records_of(servers, topic.dead_letters("g"), 1)
    told = dict(letter.headers)
    assert int(told["dlq-offset"]) == 0
    assert (letter.value == value) == ("dlq-omitted" not in told)


async def letters_are_there(servers: Servers, topic: Topic[Body]) -> bool:
    return bool(await records_of(servers, topic.dead_letters("g"), 1))
