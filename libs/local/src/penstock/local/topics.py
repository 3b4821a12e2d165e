"""Create every registered topic, with the dead letters and retries of each of its groups."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from penstock.common.events import Event
from penstock.common.topics import DAY_MS, TOPICS, Topic
from penstock.local.failures import StackError

DEAD_LETTER_DAYS = 30
_DOCUMENT_KEY = "tenant/document"


def wanted(topics: Iterable[Topic[Event]], replication: int = 1) -> list[NewTopic]:
    """Every topic to create: those registered, then `.dlq` and `.retry` of each of their groups."""
    created = []
    kept = {"retention.ms": str(DEAD_LETTER_DAYS * DAY_MS)}
    for topic in topics:
        names = [f(group) for group in topic.groups for f in (topic.dead_letters, topic.retries)]
        created += [
            NewTopic(topic.name, topic.partitions, replication, topic_configs=_settings(topic)),
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
    bootstrap: str, topics: Iterable[Topic[Event]] = TOPICS, *, replication: int = 1
) -> list[str]:
    """Create what is missing, in one request; the names that were created. Idempotent.

    An existing topic is left as it is. `StackError` names a topic that the broker refuses.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=30_000)
    try:
        await admin.start()
        have = set(await admin.list_topics())
        everything = wanted(topics, replication)
        missing = [topic for topic in everything if topic.name not in have]
        refused = (await admin.create_topics(missing)).topic_errors if missing else []
    except KafkaError as error:
        raise StackError(f"The topics could not be created on {bootstrap}: {error}") from error
    finally:
        await admin.close()
    for name, code, *message in refused:
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise StackError(
                f"Kafka refuses the topic {name}: {message or for_code(code).__name__}"
            )
    await _until_led(bootstrap, everything)
    return [topic.name for topic in missing]


async def _until_led(bootstrap: str, topics: list[NewTopic]) -> None:
    """Wait until every partition answers: after a creation, as after a start, the broker is up
    before it leads them, and the first records would bounce."""
    partitions = [TopicPartition(t.name, n) for t in topics for n in range(t.num_partitions)]
    with silenced("aiokafka.cluster", "aiokafka.consumer.fetcher"):
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
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
