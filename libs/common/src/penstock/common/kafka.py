"""Kafka: connection settings, the publisher, and the tables every process reads whole."""

import asyncio
import ssl
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.structs import RecordMetadata

from penstock.common import batches
from penstock.common.envelope import Publication, Record, headers, read
from penstock.common.events import MAX_EVENT_BYTES, CollectionConfigured
from penstock.common.failures import PermanentError, TransientError
from penstock.common.settings import KafkaSettings
from penstock.common.telemetry import PUBLISHED
from penstock.common.topics import COLLECTION_CONFIGURED, JOB_CANCELLED, Topic

log = structlog.get_logger()

batches.install()


def connection(settings: KafkaSettings) -> dict[str, Any]:
    """What every client needs to reach the brokers, for aiokafka's constructors."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka.split(","),
        "security_protocol": settings.kafka_security,
    }
    if settings.kafka_security.endswith("SSL"):
        options["ssl_context"] = ssl.create_default_context(
            cafile=str(settings.kafka_ca) if settings.kafka_ca else None
        )
    if settings.kafka_security.startswith("SASL"):
        password = settings.kafka_password
        options |= {
            "sasl_mechanism": settings.kafka_mechanism,
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": password.get_secret_value() if password else None,
        }
    return options


async def cluster_id(settings: KafkaSettings) -> str:
    """The cluster's own id: part of a submission's position."""
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        return str((await admin.describe_cluster())["cluster_id"])
    finally:
        await admin.close()


class Publisher:
    """Publishes events; returns when the brokers have acknowledged them all."""

    def __init__(self, source: str, settings: KafkaSettings) -> None:
        self._source = source
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        self._producer = AIOKafkaProducer(
            **connection(self._settings), acks="all", enable_idempotence=True, linger_ms=0
        )
        await self._producer.start()

    async def stop(self) -> None:
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None

    async def publish(self, *publications: Publication[Any]) -> list[RecordMetadata]:
        """
        Send all of them together, in order per partition.

        Raises:
            TransientError: the brokers are away.
            PermanentError: an event is larger than `MAX_EVENT_BYTES`.
        """
        encoded = [(p, p.body.model_dump_json().encode() if p.body else None) for p in publications]
        for publication, value in encoded:
            if value is not None and len(value) > MAX_EVENT_BYTES:
                raise PermanentError(
                    f"an event for {publication.topic.name} has {len(value)} bytes; "
                    f"the limit is {MAX_EVENT_BYTES}",
                    type="event_too_large",
                )
        return await asyncio.gather(
            *(
                self.send(p.topic.name, p.key.encode(), value, headers(p, self._source))
                for p, value in encoded
            )
        )

    async def send(
        self, topic: str, key: bytes | None, value: bytes | None, raw: list[tuple[str, bytes]]
    ) -> RecordMetadata:
        """Send one record as it is (dead letters, redrives)."""
        if self._producer is None:
            raise TransientError("the publisher is not started")
        try:
            delivery = await self._producer.send(topic, value=value, key=key, headers=raw)
            metadata = await delivery
        except MessageSizeTooLargeError as error:
            raise PermanentError(f"{topic}: {error}", type="event_too_large") from error
        except KafkaError as error:
            raise TransientError(f"Kafka is away: {error!r}") from error
        PUBLISHED.labels(topic).inc()
        return metadata


class Collections:
    """The collections of all tenants, as configured; the default tenant has one from the start."""

    def __init__(self, default_tenant: str) -> None:
        self._default_tenant = default_tenant
        self._configured: dict[tuple[str, str], CollectionConfigured] = {}

    def apply(self, tenant: str, name: str, configured: CollectionConfigured | None) -> None:
        if configured is None:
            self._configured.pop((tenant, name), None)
        else:
            self._configured[tenant, name] = configured

    def knows(self, tenant: str) -> bool:
        return tenant == self._default_tenant or any(t == tenant for t, _ in self._configured)

    def get(self, tenant: str, name: str) -> CollectionConfigured:
        found = self._configured.get((tenant, name))
        if found is not None:
            return found
        if name == "default" and self.knows(tenant):
            return CollectionConfigured()
        raise PermanentError(
            f"collection {name!r} is not configured for tenant {tenant!r}; "
            "create it with POST /v1/collections or leave the field out",
            type="unknown_collection",
        )

    def of(self, tenant: str) -> dict[str, CollectionConfigured]:
        found = {name: c for (t, name), c in self._configured.items() if t == tenant}
        return {"default": CollectionConfigured()} | found if self.knows(tenant) else found


class Cancellations:
    """Jobs that were cancelled within the topic's retention."""

    def __init__(self) -> None:
        self._jobs: set[tuple[str, str]] = set()

    def apply(self, tenant: str, job: str) -> None:
        self._jobs.add((tenant, job))

    def __contains__(self, tenant_and_job: tuple[str, str]) -> bool:
        return tenant_and_job in self._jobs


_TABLES = tuple(TopicPartition(t.name, 0) for t in (COLLECTION_CONFIGURED, JOB_CANCELLED))


class TableReader:
    """Keeps `Collections` and `Cancellations` up to date: reads both topics from their start.

    No group: every process sees every record. Ready once it has seen what was there at start.
    """

    def __init__(
        self, settings: KafkaSettings, collections: Collections, cancelled: Cancellations
    ) -> None:
        self._settings = settings
        self._collections = collections
        self._cancelled = cancelled
        self._task: asyncio.Task[None] | None = None
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> None:
        partitions = list(_TABLES)
        consumer = AIOKafkaConsumer(
            **connection(self._settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        await consumer.start()
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            await self._read(consumer, 200)
        self._consumer = consumer
        self._task = asyncio.create_task(self._follow(consumer), name="tables")

    async def catch_up(self) -> None:
        """Return when everything that lies in the tables' topics now has been seen.

        To be awaited before something is refused for not being in a table: whoever wrote it there
        a moment ago is not to be told that it does not exist.
        """
        if self._consumer is None:
            return
        try:
            ends = await self._consumer.end_offsets(list(_TABLES))
            for partition, end in ends.items():
                await self._seen(partition, end)
        except KafkaError as error:
            raise TransientError(f"Kafka is away: {error!r}") from error

    async def _seen(self, partition: TopicPartition, end: int) -> None:
        assert self._consumer is not None
        while True:
            if await self._consumer.position(partition) >= end:
                return
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        try:
            while True:
                try:
                    await self._read(consumer, 1000)
                except KafkaError as error:
                    log.warning("tables_not_read", error=repr(error))
                    await asyncio.sleep(1)
        finally:
            await consumer.stop()

    async def _read(self, consumer: AIOKafkaConsumer, timeout_ms: int) -> None:
        for records in (await consumer.getmany(timeout_ms=timeout_ms)).values():
            for raw in records:
                self._apply(raw)

    def _apply(self, raw: ConsumerRecord) -> None:
        """One record of either table; an unreadable one is logged and left out."""
        try:
            if raw.topic == JOB_CANCELLED.name:
                cancelled = self._read_record(raw, JOB_CANCELLED).envelope
                self._cancelled.apply(cancelled.tenant, cancelled.subject)
            else:
                tenant, name, body = self._collection(raw)
                self._collections.apply(tenant, name, body)
        except (PermanentError, UnicodeDecodeError) as error:
            log.error(
                "table_record_unreadable", topic=raw.topic, offset=raw.offset, error=str(error)
            )

    def _read_record(self, raw: ConsumerRecord, topic: Topic[Any]) -> Record[Any]:
        return read(raw, topic, cluster="", default_tenant=self._settings.default_tenant)

    def _collection(self, raw: ConsumerRecord) -> tuple[str, str, CollectionConfigured | None]:
        tenant, _, name = (raw.key or b"").decode().partition("/")
        if raw.value is None:
            return tenant, name, None
        return tenant, name, self._read_record(raw, COLLECTION_CONFIGURED).body
