"""Create every registered topic, with the dead letters and retries of each of its groups."""

import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from penstock.common.events import Event
from penstock.common.failures import PermanentError, TransientError
from penstock.common.kafka import connection
from penstock.common.settings import KafkaSettings
from penstock.common.topics import DAY_MS, TOPICS, Topic

DEAD_LETTER_DAYS = 30
_DOCUMENT_KEY = "tenant/document"
_TABLES = {topic.name for topic in TOPICS if topic.readers}
"""Read from partition 0 alone; any other topic may have more partitions than registered."""
_COPIES = 3
"""Of each partition, where there are so many brokers: one may be away and nothing is lost."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A topic that is there otherwise than registered; it is left as it is."""

    topic: str
    setting: str
    found: str
    registered: str
    harmful: bool
    """Penstock does not work with it; False: an operator's choice."""

    def __str__(self) -> str:
        return f"{self.topic}: {self.setting} is {self.found}, registered is {self.registered}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a cluster lacks."""

    missing: tuple[NewTopic, ...]
    differences: tuple[Difference, ...] = ()


def wanted(topics: Iterable[Topic[Event]], replication: int = 1) -> list[NewTopic]:
    """Every topic to create: those registered, then `.dlq` and `.retry` of each of their groups."""
    created = []
    safety = {"min.insync.replicas": "2"} if replication >= _COPIES else {}
    kept = {"retention.ms": str(DEAD_LETTER_DAYS * DAY_MS)} | safety
    for topic in topics:
        names = [f(group) for group in topic.groups for f in (topic.dead_letters, topic.retries)]
        settings = _settings(topic) | safety
        created += [
            NewTopic(topic.name, topic.partitions, replication, topic_configs=settings),
            *(NewTopic(name, 1, replication, topic_configs=kept) for name in names),
        ]
    return created


def _settings(topic: Topic[Event]) -> dict[str, str]:
    settings = {"retention.ms": str(topic.retention_ms)}
    if topic.compacted:
        settings = {"cleanup.policy": "compact", "segment.ms": str(DAY_MS)}
    if topic.key == _DOCUMENT_KEY:
        # Positions compare append times: the broker's clock, not each producer's.
        settings["message.timestamp.type"] = "LogAppendTime"
    return settings


async def create_topics(
    settings: KafkaSettings,
    topics: Iterable[Topic[Event]] = TOPICS,
    *,
    replication: int | None = None,
    dry_run: bool = False,
) -> Plan:
    """Create what is missing, in one request; what was missing. Idempotent.

    An existing topic is left as it is. `replication`: copies of each partition; None: three, or
    as many as there are brokers.

    Raises:
        TransientError: the brokers cannot be reached.
        PermanentError: they refuse a topic.
    """
    async with administration(settings) as admin:
        brokers = len((await admin.describe_cluster())["brokers"])
        everything = wanted(topics, replication or min(_COPIES, brokers))
        plan = await _plan(admin, everything)
        if dry_run:
            return plan
        refused = (
            (await admin.create_topics(list(plan.missing))).topic_errors if plan.missing else []
        )
        for name, code, *message in refused:
            if code and for_code(code) is not TopicAlreadyExistsError:
                why = " ".join(filter(None, message)) or for_code(code).__name__
                raise PermanentError(f"Kafka refuses the topic {name}: {why}")
        made = {topic.name: topic.num_partitions for topic in plan.missing}
        there = [topic.name for topic in everything if topic.name not in made]
        # Of those made just now a broker may not have heard: it describes them without partitions.
        found = await admin.describe_topics(there) if there else []
    made |= {topic["topic"]: len(topic["partitions"]) for topic in found}
    await _until_led(
        settings, [TopicPartition(t, n) for t, count in made.items() for n in range(count)]
    )
    return plan


async def _plan(admin: AIOKafkaAdminClient, everything: Sequence[NewTopic]) -> Plan:
    have = set(await admin.list_topics())
    there = [topic for topic in everything if topic.name in have]
    if not there:
        return Plan(tuple(everything))
    described = await admin.describe_topics([topic.name for topic in there])
    partitions = {found["topic"]: len(found["partitions"]) for found in described}
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in there]
    configured = {
        name: {entry[0]: str(entry[1]) for entry in entries}
        for response in await admin.describe_configs(resources)
        for _, _, _, name, entries in response.resources
    }
    return Plan(
        missing=tuple(topic for topic in everything if topic.name not in have),
        differences=tuple(
            difference
            for topic in there
            for difference in differences(topic, partitions[topic.name], configured[topic.name])
        ),
    )


def differences(
    topic: NewTopic, partitions: int, configured: Mapping[str, str]
) -> Iterator[Difference]:
    """Where a topic that is there is not as registered."""
    compacted = topic.topic_configs.get("cleanup.policy") == "compact"
    if partitions != topic.num_partitions:
        registered = str(topic.num_partitions)
        yield Difference(
            topic.name, "partitions", str(partitions), registered, topic.name in _TABLES
        )
    for name, value in topic.topic_configs.items():
        found = configured.get(name, value)
        if found != value:
            must = name == "message.timestamp.type" or (name == "cleanup.policy" and compacted)
            yield Difference(topic.name, name, found, value, must)


@asynccontextmanager
async def administration(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """
    Raises:
        TransientError: the brokers cannot be reached, or refuse who asks.
    """
    admin = AIOKafkaAdminClient(**connection(settings), request_timeout_ms=30_000)
    try:
        await admin.start()
        yield admin
    except KafkaError as error:
        raise TransientError(
            f"Kafka at {settings.kafka} ({settings.kafka_security}) cannot be used: {error}"
        ) from error
    finally:
        await admin.close()


async def _until_led(settings: KafkaSettings, partitions: Sequence[TopicPartition]) -> None:
    """Wait until every partition answers: after a creation, as after a start, the broker is up
    before it leads them, and the first records would bounce."""
    with silenced("aiokafka.cluster", "aiokafka.consumer.fetcher"):
        async with AIOKafkaConsumer(**connection(settings)) as consumer:
            consumer.assign(partitions)  # their metadata in one request, not one for each
            await consumer.end_offsets(partitions)


@contextmanager
def silenced(*loggers: str) -> Iterator[None]:
    """A topic that is not there yet is what is waited for, not worth an error a partition."""
    levels = {name: logging.getLogger(name).level for name in loggers}
    for name in loggers:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
