"""Reads the dead-letter topics, a page at a time. Kafka is the truth, nothing is copied.

Pages go topic by topic, oldest first. A page looks at a bounded number of records, so a tenant
with few among many of others gets short pages and a cursor, never a long wait.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from penstock.common.batches import UNREADABLE
from penstock.common.deadletters import OMITTED, part_of
from penstock.common.events import QuestionEvent
from penstock.common.failures import TransientError
from penstock.common.kafka import connection
from penstock.common.settings import ServiceSettings
from penstock.common.topics import TOPICS, Topic

MOST_READ = 2_000
"""Records looked at for one page."""

Place = tuple[str, int, int]
"""(topic, partition, offset)"""

ID = re.compile(r"(?P<topic>[a-z0-9.\-]+\.dlq):(?P<partition>[0-9]{1,9}):(?P<offset>[0-9]{1,18})")
_COUNT = re.compile(r"[0-9]{1,6}")
"""A sender may write what it likes into its headers; no handler takes a larger one either."""


def id_of(place: Place) -> str:
    return f"{place[0]}:{place[1]}:{place[2]}"


def place_of(text: str) -> Place | None:
    """The place that an id names, when its topic is one of ours."""
    match = ID.fullmatch(text)
    if match is None or match["topic"] not in ALL:
        return None
    return match["topic"], int(match["partition"]), int(match["offset"])


ALL: dict[str, tuple[Topic[Any], str]] = {
    topic.dead_letters(group): (topic, group) for topic in TOPICS for group in topic.groups
}
"""Every dead-letter topic: what it is of, and whose."""


@dataclass(frozen=True, slots=True)
class DeadLetterRecord:
    """One dead letter as it lies in Kafka."""

    place: Place
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp: int

    def text(self, name: str, default: str = "") -> str:
        for header, value in self.headers:
            if header == name:
                return (value or b"").decode(errors="replace")
        return default

    @property
    def tenant(self) -> str:
        return self.text("ce_tenant")

    @property
    def job(self) -> str:
        return self.text("ce_job")

    @property
    def attempt(self) -> int:
        return self._count("ce_attempt")

    def _count(self, name: str) -> int:
        text = self.text(name, "1")
        return int(text) if _COUNT.fullmatch(text) else 1

    @property
    def about_question(self) -> bool:
        topic, _ = ALL[self.place[0]]
        return issubclass(topic.body, QuestionEvent) or topic.key == "tenant/question"

    @property
    def document(self) -> str:
        """Empty when it is about a question."""
        if self.about_question:
            return ""
        key = (self.key or b"").decode(errors="replace")
        return key.partition("/")[2] or key or self.text("ce_subject")

    @property
    def batch(self) -> int:
        """The batch `k` that it is, 0 where it is none or cannot be read."""
        topic, _ = ALL[self.place[0]]
        return part_of(topic, self.value).k

    def view(self, *, whole: bool = False) -> dict[str, Any]:
        """As the API shows it; `whole`: with headers and the value as text."""
        shown: dict[str, Any] = {
            "id": id_of(self.place),
            "topic": self.text("dlq-topic"),
            "group": self.text("dlq-group"),
            "tenant": self.tenant,
            "job": self.job,
            "document_id": self.document or None,
            "reason": self.text("dlq-reason"),
            "message": self.text("dlq-exception"),
            "attempts": self._count("dlq-attempts"),
            "attempt": self.attempt,
            "at_ms": self.timestamp,
        }
        if whole:
            shown["headers"] = {n: (v or b"").decode(errors="replace") for n, v in self.headers}
            value = self.value
            shown["value"] = value.decode(errors="replace") if value is not None else None
        return shown

    @property
    def why_not_redriven(self) -> str | None:
        """The record itself is not in every letter: it was too large, or could not be told apart."""
        if not any(name in (OMITTED, UNREADABLE) for name, _ in self.headers):
            return None
        where = ", ".join(
            f"{name} {self.text(f'dlq-{name}')}" for name in ("topic", "partition", "offset")
        )
        return f"the letter does not hold its record, which lies at {where}: publish it again"

    def redriven(self) -> list[tuple[str, bytes]]:
        """The headers of its next attempt: its own, one attempt more."""
        own = [(name, value) for name, value in self.headers if name != "ce_attempt"]
        return [*own, ("ce_attempt", str(self.attempt + 1).encode())]


@dataclass(frozen=True, slots=True)
class Page:
    records: list[DeadLetterRecord]
    next: Place | None


class DeadLetterReader:
    """One consumer without a group, started when it is first needed."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None
        self._turn = asyncio.Lock()

    async def stop(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None

    async def page(
        self, tenant: str | None, after: Place | None, limit: int, names: Sequence[str]
    ) -> Page:
        """
        The tenant's next dead letters (None: everybody's) in these topics beyond `after`.

        Raises:
            TransientError: the brokers are away.
        """
        found: list[DeadLetterRecord] = []
        looked_at = 0
        async with self._reading() as consumer:
            for partition, first, end in await self._waiting(consumer, names):
                here = (partition.topic, partition.partition)
                if after is not None and here < after[:2]:
                    continue
                start = max(first, after[2] + 1) if after and here == after[:2] else first
                async for record in _records(consumer, partition, start, end):
                    looked_at += 1
                    if tenant is None or record.tenant == tenant:
                        found.append(record)
                    if len(found) == limit or looked_at == MOST_READ:
                        return Page(found, record.place)
        return Page(found, None)

    async def one(self, place: Place) -> DeadLetterRecord | None:
        """
        Raises:
            TransientError: the brokers are away.
        """
        async with self._reading() as consumer:
            for partition, start, end in await self._waiting(consumer, [place[0]]):
                if partition.partition != place[1] or not start <= place[2] < end:
                    continue
                async for record in _records(consumer, partition, place[2], place[2] + 1):
                    return record
        return None

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AIOKafkaConsumer]:
        async with self._turn:
            try:
                if self._consumer is None:
                    consumer = AIOKafkaConsumer(
                        **connection(self._settings),
                        group_id=None,
                        enable_auto_commit=False,
                        # A fetch under way holds up the next: the default, 500 ms, once a page.
                        fetch_max_wait_ms=20,
                    )
                    await consumer.start()
                    self._consumer = consumer
                yield self._consumer
                self._consumer.unsubscribe()  # it would go on fetching what nobody reads
            except KafkaError as error:
                raise TransientError(f"Kafka is away: {error!r}") from error

    async def _waiting(
        self, consumer: AIOKafkaConsumer, names: Sequence[str]
    ) -> list[tuple[TopicPartition, int, int]]:
        """The partitions that hold anything, in order, with first and next offset."""
        partitions = await self._partitions(names)
        if not partitions:
            return []
        starts = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        return [(tp, starts[tp], ends[tp]) for tp in partitions if starts[tp] < ends[tp]]

    async def _partitions(self, names: Sequence[str]) -> list[TopicPartition]:
        """Those that exist of these topics, in order. A consumer knows only what it is assigned."""
        admin = AIOKafkaAdminClient(**connection(self._settings))
        await admin.start()
        try:
            described = await admin.describe_topics(list(names))
        finally:
            await admin.close()
        return sorted(
            TopicPartition(topic["topic"], partition["partition"])
            for topic in described
            if not topic["error_code"]
            for partition in topic["partitions"]
        )


async def _records(
    consumer: AIOKafkaConsumer, partition: TopicPartition, start: int, end: int
) -> AsyncIterator[DeadLetterRecord]:
    if start >= end:
        return
    consumer.assign([partition])
    consumer.seek(partition, start)
    while start < end:
        taken = await consumer.getmany(partition, timeout_ms=5_000, max_records=500)
        records = taken.get(partition, [])
        if not records:
            raise TransientError(f"{partition.topic} could not be read within 5 s; try again")
        for raw in records:
            if raw.offset >= end:
                return
            yield _dead_letter(raw)
        start = records[-1].offset + 1


def _dead_letter(raw: ConsumerRecord) -> DeadLetterRecord:
    return DeadLetterRecord(
        place=(raw.topic, raw.partition, raw.offset),
        key=raw.key,
        value=raw.value,
        headers=tuple(raw.headers),
        timestamp=raw.timestamp,
    )
