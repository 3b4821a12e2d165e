"""How far a consumer is behind, as a metric."""

import asyncio
from collections.abc import Mapping

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from penstock.common.offsets import Progress
from penstock.common.telemetry import LAG

log = structlog.get_logger()

EVERY_S = 1.0


async def measure_lag(
    consumer: AIOKafkaConsumer, group: str, progress: Mapping[TopicPartition, Progress]
) -> None:
    """For ever. Asked of the brokers: a paused partition is not fetched, and hears of no new end."""
    while True:
        await asyncio.sleep(EVERY_S)
        try:
            ends = await consumer.end_offsets(list(progress))
        except KafkaError as error:
            log.warning("lag_unknown", group=group, error=repr(error))
            continue
        for partition, end in ends.items():
            mine = progress.get(partition)
            if mine is not None and mine.committable is not None:
                behind = end - mine.committable
                LAG.labels(partition.topic, group, partition.partition).set(behind)
