"""How far each consumer group is behind: records between its committed offsets and the ends."""

from collections.abc import Iterable, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

from penstock.common.events import Event
from penstock.common.topics import TOPICS, Topic
from penstock.local.failures import StackError


def topics_of_groups(topics: Iterable[Topic[Event]]) -> dict[str, list[str]]:
    """By group: the topics that it reads, its retries included."""
    found: dict[str, list[str]] = {}
    for topic in topics:
        for group in topic.groups:
            found.setdefault(group, []).extend([topic.name, topic.retries(group)])
    return found


def behind(
    committed: Mapping[TopicPartition, int],
    first: Mapping[TopicPartition, int],
    end: Mapping[TopicPartition, int],
) -> int:
    """Records not processed yet. Where nothing was committed a group starts at the first one; an
    offset that retention has passed counts from the first one that is left."""
    return sum(max(0, end[p] - max(committed.get(p, 0), first[p])) for p in end)


async def lag(bootstrap: str, topics: Iterable[Topic[Event]] = TOPICS) -> dict[str, int]:
    """Records behind, by group. `StackError` when the broker does not answer."""
    groups = topics_of_groups(topics)
    names = sorted({name for read in groups.values() for name in read})
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5000)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, request_timeout_ms=5000)
    try:
        await admin.start()
        await consumer.start()
        described = await admin.describe_topics(names)
        partitions = {
            topic["topic"]: [
                TopicPartition(topic["topic"], p["partition"]) for p in topic["partitions"]
            ]
            for topic in described
        }
        everything = [p for found in partitions.values() for p in found]
        consumer.assign(everything)
        first = await consumer.beginning_offsets(everything)
        end = await consumer.end_offsets(everything)
        result = {}
        for group, read in groups.items():
            committed = await _committed(admin, group)
            theirs = {p: end[p] for name in read for p in partitions.get(name, [])}
            result[group] = behind(committed, first, theirs)
    except KafkaError as error:
        raise StackError(f"Kafka at {bootstrap} does not answer: {error}") from error
    finally:
        await admin.close()
        await consumer.stop()
    return result


async def _committed(admin: AIOKafkaAdminClient, group: str) -> dict[TopicPartition, int]:
    try:
        stored = await admin.list_consumer_group_offsets(group)
    except GroupCoordinatorNotAvailableError:
        return {}  # the broker makes its offsets topic with the first group: none has committed
    return {p: o.offset for p, o in stored.items() if o.offset >= 0}
