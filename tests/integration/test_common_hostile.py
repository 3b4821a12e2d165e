"""Records that only a hostile publisher writes: each becomes a dead letter, the next one is read."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from odd_records import MOST, NoText, batch_of

from penstock.common import batches, unpacking
from penstock.common.bootstrap.topics import create_topics
from penstock.common.consumer import Stage
from penstock.common.envelope import Publication, Record
from penstock.common.events import JobCancelled
from penstock.common.events import Stage as StageName
from penstock.common.settings import KafkaSettings, ServiceSettings
from penstock.common.topics import Topic
from penstock.local.stack import Servers

pytestmark = pytest.mark.connected

GOOD = b'{"reason": "good"}'
HOSTILE: dict[str, tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]] = {
    "an endless trace": (b"default/x", b"{", [("traceparent", b"a" * (MOST - 150))]),
    "an endless trace of a good record": (b"default/x", GOOD, [("traceparent", b"a" * (MOST - 200))]),
    "an endless job": (b"default/x", GOOD, [("ce_job", b"a" * (MOST - 200))]),
    "an endless name of a header": (b"default/x", b"{", [("a" * (MOST - 150), b"")]),
    "headers without values": (b"default/x", b"{", [("ce_id", None), ("ce_job", None), ("x", None)]),
    "thousands of headers": (b"default/x", b"{", [(f"h{n}", b"v") for n in range(30_000)]),
    "a name twice": (b"default/x", b"{", [("ce_tenant", b"default"), ("ce_tenant", b"other")]),
    "our own headers": (b"default/x", b"{", [("dlq-offset", b"x"), ("dlq-attempts", b"x")]),
    "no UTF-8": (b"\xff\xfe", b"\xff", [("ce_id", b"\xff")]),
    "a deadline before time": (
        b"default/x", b"{", [("ce_deadline", b"0001-01-01T00:00:00+23:59")]),
    "an endless key": (b"default/" + b"x" * 900_000, b"{", []),
    "nothing at all": (None, None, []),
    "bottomless JSON": (b"default/x", b"[" * 900_000, []),
}  # fmt: skip


class Noting:
    def __init__(self) -> None:
        self.seen: list[str | None] = []

    async def __call__(self, records: Sequence[Record[JobCancelled]]) -> list[Publication[Any]]:
        self.seen += [record.value.reason for record in records]
        return []


@pytest.fixture
async def stage(servers: Servers) -> AsyncIterator[tuple[Stage, Topic[Any], Noting]]:
    name = f"test.{uuid4().hex[:8]}.v1"
    topic: Topic[Any] = Topic(name, JobCancelled, "test", (), ("g",), "document", partitions=1)
    await create_topics(KafkaSettings(kafka=servers.kafka), [topic])
    made = Stage("g", ServiceSettings(kafka=servers.kafka, service_secret="x" * 32, grace_s=5))
    noting = Noting()
    made.on(topic, noting, stage=StageName.EMBED)
    await made.start()
    yield made, topic, noting
    await made.drain()


async def good_one_after(
    servers: Servers, stage: tuple[Stage, Topic[Any], Noting], batch: Any
) -> None:
    """A good record behind the hostile one is handled, and the process is ready."""
    running, topic, noting = stage
    async with AIOKafkaProducer(bootstrap_servers=servers.kafka) as producer:
        future = await producer.send_batch(batch, topic.name, partition=0)
        await future
        await producer.send_and_wait(topic.name, b'{"reason": "last"}', b"default/y", partition=0)
    async with asyncio.timeout(20):
        while "last" not in noting.seen:
            assert running.why_not_ready() is None
            await asyncio.sleep(0.02)
    assert running.why_not_ready() is None


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_record_stops_nobody(
    servers: Servers, stage: tuple[Stage, Topic[Any], Noting], kind: str
) -> None:
    key, value, headers = HOSTILE[kind]
    async with AIOKafkaProducer(
        bootstrap_servers=servers.kafka, max_batch_size=2 * MOST, max_request_size=4 * MOST
    ) as producer:
        batch = producer.create_batch()
        assert batch.append(key=key, value=value, timestamp=None, headers=headers)
    await good_one_after(servers, stage, batch)


async def letters_of(servers: Servers, topic: Topic[Any], count: int) -> list[ConsumerRecord]:
    """The dead letters of a topic, once there are so many."""
    async with AIOKafkaConsumer(
        topic.dead_letters("g"), bootstrap_servers=servers.kafka, auto_offset_reset="earliest"
    ) as consumer:
        async with asyncio.timeout(20):
            return [await consumer.getone() for _ in range(count)]


async def test_a_header_whose_name_is_no_text_costs_its_record_alone(
    servers: Servers, stage: tuple[Stage, Topic[Any], Noting]
) -> None:
    """Nothing beside it in its batch is lost; it lies among the dead letters and can be redriven."""
    _, topic, noting = stage
    async with AIOKafkaProducer(bootstrap_servers=servers.kafka) as producer:
        batch = batch_of(producer)
        for value, name in ((GOOD, "before"), (b"{}", NoText("x")), (GOOD, "behind")):
            headers = [(name, b"v"), ("ce_job", b"j")]
            assert batch.append(key=b"default/x", value=value, timestamp=None, headers=headers)
        await good_one_after(servers, stage, batch)
        assert noting.seen == ["good", "good", "last"]
        (letter,) = await letters_of(servers, topic, 1)
        said = dict(letter.headers)
        assert (said["dlq-reason"], said["dlq-offset"], said["ce_job"]) == (b"invalid", b"1", b"j")
        assert b"the name of a header, b'\\xff\\xfe', is not UTF-8" in said["dlq-exception"]
        assert (letter.key, letter.value, said["\\xff\\xfe"]) == (b"default/x", b"{}", b"v")
        await producer.send_and_wait(
            topic.retries("g"), letter.value, letter.key, headers=list(letter.headers)
        )
        async with asyncio.timeout(20):
            while len(noting.seen) < 4:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("codec", [unpacking.GZIP, unpacking.LZ4, unpacking.ZSTD])
async def test_a_batch_that_unpacks_to_far_more_than_was_sent_is_a_dead_letter(
    servers: Servers, stage: tuple[Stage, Topic[Any], Noting], codec: int
) -> None:
    """It is never unpacked whole; the letter says where it lies."""
    _, topic, noting = stage
    async with AIOKafkaProducer(
        bootstrap_servers=servers.kafka, max_batch_size=256 * MOST, max_request_size=4 * MOST
    ) as producer:
        batch = batch_of(producer, codec)
        for value in (GOOD, bytes(3 * unpacking.MOST_UNPACKED)):
            assert batch.append(key=b"default/x", value=value, timestamp=None, headers=[])
    await good_one_after(servers, stage, batch)
    assert noting.seen == ["last"]
    (letter,) = await letters_of(servers, topic, 1)
    said = dict(letter.headers)
    assert (said["dlq-reason"], said["dlq-offset"]) == (b"unreadable", b"1")
    assert b"unpacks to more than 32 MiB, the limit (offsets 0 to 1 of" in said["dlq-exception"]


async def test_what_unpacks_to_much_within_the_bound_arrives_whole_and_once(
    servers: Servers, stage: tuple[Stage, Topic[Any], Noting]
) -> None:
    """A fetch of it is handed over in parts; what lies behind a part is fetched again."""
    noting = stage[2]
    reasons = [f"{number:02}" + "." * 400_000 for number in range(75)]
    assert len("".join(reasons)) > 3 * batches.MOST_AT_ONCE
    async with AIOKafkaProducer(
        bootstrap_servers=servers.kafka, max_batch_size=256 * MOST, max_request_size=4 * MOST
    ) as producer:
        batch = batch_of(producer, unpacking.ZSTD)
        for reason in reasons:
            value = JobCancelled(reason=reason).model_dump_json().encode()
            assert batch.append(key=b"default/x", value=value, timestamp=None, headers=[])
    await good_one_after(servers, stage, batch)
    assert [seen[:2] for seen in noting.seen if seen] == [reason[:2] for reason in reasons] + ["la"]
