"""The loop of every consuming process: tasks, backpressure, retries, dead letters, commits.

FastStream makes and supervises the consumer; its handlers, acknowledgement and batch loop are
not used, see docs/adr/0001. What a handler returns is published before its offset counts as done:
effect, then publish, then commit.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker

from penstock.common import events
from penstock.common.deadletters import DeadLetters
from penstock.common.envelope import Record, read
from penstock.common.failures import DlqLimit, PermanentError
from penstock.common.kafka import (
    Cancellations,
    Collections,
    Publisher,
    TableReader,
    cluster_id,
)
from penstock.common.lag import measure_lag
from penstock.common.logging import bind_call
from penstock.common.offsets import Progress
from penstock.common.pacing import MOMENT_S, PATIENT, PROMPT, Pace
from penstock.common.routes import Handler, Route
from penstock.common.security import faststream_security
from penstock.common.settings import ServiceSettings
from penstock.common.telemetry import (
    HANDLING,
    IN_FLIGHT,
    LAG,
    RECORDS,
    RETRIES,
    set_traceparent,
)
from penstock.common.topics import Topic
from penstock.common.waits import RETRY, Waits

log = structlog.get_logger()

Body = TypeVar("Body", bound=events.Event)

COMMIT_EVERY_S = 0.5
"""Committing per record costs a factor of ten (measured); this is the longest a done record waits."""


class Stage:
    """A process's place in the pipeline: one consumer group over its topics and their retries.

    Each fetch costs the consumer and the broker some 10 us for every partition, whether or not
    anything is in it. `patient`: every record waits up to 100 ms for others to come with it.
    `pace`: records come at once, but a steady stream of them is polled only so often. Neither: with
    records in hand the next poll waits for them, `MOMENT_S` at most (docs/adr/0007).
    """

    def __init__(
        self,
        group: str,
        settings: ServiceSettings,
        *,
        patient: bool = False,
        pace: Pace | None = None,
    ) -> None:
        self.group = group
        self._pace = pace
        self.publisher = Publisher(f"penstock/{group}", settings)
        self.collections = Collections(settings.default_tenant)
        self.cancelled = Cancellations()
        self.limit = DlqLimit()
        self._settings = settings
        self._fetch = PATIENT if patient else PROMPT
        self._tables = TableReader(settings, self.collections, self.cancelled)
        self._routes: dict[str, Route] = {}
        self._progress: dict[TopicPartition, Progress] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.waits = Waits(group)
        self._loops: list[asyncio.Task[None]] = []
        self._probe = asyncio.Lock()
        self._consumer: AIOKafkaConsumer | None = None
        self._broker: KafkaBroker | None = None
        self._cluster = ""
        self._stopping = False
        self._stuck: str | None = None

    def on(
        self,
        topic: Topic[Body],
        handler: Handler[Body],
        *,
        batch: int = 1,
        concurrency: int = 1,
        in_key_order: bool = False,
        stage: events.Stage | None = None,
        cancellable: bool = True,
    ) -> None:
        """
        Handle a topic, and its retries, with `handler`.

        Args:
            batch: most records in one call; a failed call is repeated record by record.
            concurrency: calls at once.
            in_key_order: records of one key one after the other (needs batch=1).
            stage: named in `job.progressed` when a record is dead-lettered.
            cancellable: skip records of cancelled jobs.
        """
        if in_key_order and batch != 1:
            raise ValueError("in_key_order needs batch=1")
        route = Route(topic, handler, batch, concurrency, in_key_order, stage, cancellable)
        self._routes[topic.name] = route
        self._routes[topic.retries(self.group)] = route

    async def start(self) -> None:
        await self.publisher.start()
        await self._tables.start()
        if not self._routes:
            return
        self._broker = KafkaBroker(
            self._settings.kafka.split(","),
            security=faststream_security(self._settings),
            consumer_only=True,
            allow_auto_create_topics=False,
            logger=None,
        )
        subscriber = self._broker.subscriber(
            *self._routes,
            group_id=self.group,
            batch=True,
            ack_policy=AckPolicy.MANUAL,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=self._fetch.wait_ms,
            fetch_min_bytes=self._fetch.min_bytes,
            session_timeout_ms=10_000,  # so long a killed member's partitions lie idle
            heartbeat_interval_ms=1_000,
            listener=_Listener(self),
        )
        await self._broker.start()
        assert subscriber.consumer is not None
        self._consumer = subscriber.consumer
        self._cluster = await cluster_id(self._settings)
        self._loops = [
            asyncio.create_task(self._poll(), name="poll"),
            asyncio.create_task(self._commit_regularly(), name="commit"),
            asyncio.create_task(
                measure_lag(self._consumer, self.group, self._progress), name="lag"
            ),
        ]

    async def drain(self) -> None:
        """Take nothing more, finish what is in hand within the grace, commit, leave the group."""
        self._stopping = True
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._settings.grace_s)
        await self.abandon()
        if self._broker is not None:
            await self._broker.stop()
        await self._tables.stop()
        await self.publisher.stop()

    async def abandon(self) -> None:
        """Cancel unfinished work and commit the finished: the partitions go to somebody else."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._commit()
        for partition in self._progress:  # whoever has it next says how far behind it is
            LAG.labels(partition.topic, self.group, partition.partition).set(0)
        self._progress.clear()
        for route in self._routes.values():
            route.forget()
            IN_FLIGHT.labels(route.topic.name, self.group).set(0)

    def why_not_ready(self) -> str | None:
        if self.limit.reached:
            return "nearly every record fails; probing one at a time (see the log and the DLQ)"
        for loop in self._loops:
            if loop.done():
                return f"the {loop.get_name()} loop has ended"
        return self._stuck

    # ------------------------------------------------------------ the loop

    async def _poll(self) -> None:
        assert self._consumer is not None
        while True:
            try:
                taken = await self._consumer.getmany(timeout_ms=1000)
            except KafkaError as error:
                log.warning("poll_failed", group=self.group, error=repr(error))
                await asyncio.sleep(1)
                continue
            for partition, records in taken.items():
                self._take(partition, records)
            for name in {partition.topic for partition in taken}:  # partitions share batches
                self._dispatch(self._routes[name])
            if taken:
                await self._gather()

    async def _gather(self) -> None:
        """Let what arrives meanwhile come together: a steady stream by its pace; where questions
        crowd, until those in hand are done, for a moment at most. One alone delays nobody."""
        if self._pace is not None:
            await asyncio.sleep(self._pace.pause(time.monotonic()))
        elif self._tasks:
            await asyncio.wait(self._tasks, timeout=MOMENT_S)

    def _take(self, partition: TopicPartition, records: Sequence[ConsumerRecord]) -> None:
        assert self._consumer is not None
        route = self._routes[partition.topic]
        progress = self._progress.setdefault(partition, Progress())
        for raw in records:
            progress.taken(raw.offset)
            route.take(raw)
        if route.held >= route.high_water:
            self._consumer.pause(*self._partitions_of(route))
        IN_FLIGHT.labels(route.topic.name, self.group).set(route.held)

    def _dispatch(self, route: Route) -> None:
        while batch := route.next_batch():
            route.active += 1
            task = asyncio.create_task(self._work(route, batch))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Nothing may be raised here: its records would stay unfinished, and be found by nobody."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._stuck = f"a record is stuck by a bug, see the log: {error!r}"[:500]
            log.error("record_stuck", group=self.group, exc_info=error)

    async def _work(self, route: Route, batch: list[ConsumerRecord]) -> None:
        await self._handle(route, batch)
        for raw in batch:
            partition = TopicPartition(raw.topic, raw.partition)
            self._progress[partition].finished(raw.offset)
            route.release(raw)
        route.active -= 1
        IN_FLIGHT.labels(route.topic.name, self.group).set(route.held)
        if self._stopping or self._consumer is None:
            return
        if route.held < route.high_water // 2:
            paused = self._consumer.paused()
            self._consumer.resume(*(p for p in self._partitions_of(route) if p in paused))
        self._dispatch(route)

    def _partitions_of(self, route: Route) -> list[TopicPartition]:
        assert self._consumer is not None
        names = (route.topic.name, route.topic.retries(self.group))
        return [p for p in self._consumer.assignment() if p.topic in names]

    # ------------------------------------------------------------ one call of a handler

    async def _handle(self, route: Route, batch: Sequence[ConsumerRecord]) -> None:
        readable: list[tuple[ConsumerRecord, Record[Any]]] = []
        for raw in batch:
            try:
                record = await self._read_surely(route, raw)
            except PermanentError as error:
                await self._dead_letter(route, raw, error)
                continue
            if record is not None:
                readable.append((raw, record))
        if readable:
            await self._attempt(route, readable)

    async def _read_surely(self, route: Route, raw: ConsumerRecord) -> Record[Any] | None:
        try:
            return self._read(route, raw)
        except PermanentError as error:
            if error.type != "unknown_tenant":
                raise
        await self._catch_up(route)
        return self._read(route, raw)

    async def _catch_up(self, route: Route) -> None:
        await self.waits.until_there(route.topic.name, self._tables.catch_up)

    def _read(self, route: Route, raw: ConsumerRecord) -> Record[Any] | None:
        """The record, or None when there is nothing left to do for it."""
        record = read(
            raw, route.topic, cluster=self._cluster, default_tenant=self._settings.default_tenant
        )
        envelope = record.envelope
        if not self.collections.knows(envelope.tenant):
            raise PermanentError(f"tenant {envelope.tenant!r} is not known", type="unknown_tenant")
        if route.cancellable and (envelope.tenant, envelope.job) in self.cancelled:
            RECORDS.labels(route.topic.name, self.group, "cancelled").inc()
            return None
        return record

    async def _attempt(
        self, route: Route, batch: Sequence[tuple[ConsumerRecord, Record[Any]]]
    ) -> None:
        """Until it is done or dead-lettered. Only a dependency that is away is waited for long."""
        bugs = attempts = 0
        call = partial(self._call, route, [record for _, record in batch])
        while True:
            attempts += 1
            try:
                await self.waits.until_there(route.topic.name, call)
            except PermanentError as error:
                if error.type == "unknown_collection" and attempts == 1:
                    await self._catch_up(route)
                    continue
                reason: PermanentError | None = error
                cause: Exception = error
            except Exception as error:  # the one place: a bug must not stop the loop
                bugs += 1
                reason, cause = None, error
                log.exception("handler_failed", topic=route.topic.name, attempt=bugs)
            else:
                self.limit.succeeded()
                RECORDS.labels(route.topic.name, self.group, "done").inc(len(batch))
                return
            if len(batch) > 1:
                for one in batch:
                    await self._attempt(route, [one])
                return
            if reason is None and (bugs < RETRY.attempts or self.limit.reached):
                RETRIES.labels(route.topic.name, self.group, "unclassified").inc()
                await asyncio.sleep(RETRY.pause(bugs))
                continue
            if reason is None:
                self.limit.failed()
            await self._dead_letter(route, batch[0][0], cause, attempts)
            return

    async def _call(self, route: Route, records: Sequence[Record[Any]]) -> None:
        set_traceparent(bind_call(route.topic.name, [record.envelope for record in records]))
        started = time.perf_counter()
        async with self._probe if self.limit.reached else nullcontext():
            publications = await route.handler(records)
        await self.publisher.publish(*publications)
        took = time.perf_counter() - started
        HANDLING.labels(route.topic.name, self.group).observe(took)
        log.info("handled", published=len(publications), ms=round(took * 1000, 1))

    async def _dead_letter(
        self, route: Route, raw: ConsumerRecord, error: Exception, attempts: int = 1
    ) -> None:
        RECORDS.labels(route.topic.name, self.group, "dead_lettered").inc()
        letters = DeadLetters(
            self.group, self._cluster, self._settings.default_tenant, self.publisher
        )
        put = partial(letters.put, route.topic, route.stage, raw, error, attempts)
        await self.waits.until_there(route.topic.name, put)

    # ------------------------------------------------------------ commits

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            await self._commit()

    async def _commit(self) -> None:
        """Commit what is new. A failure is no loss: what was done is done again, to no effect."""
        news = {tp: p.news for tp, p in self._progress.items() if p.news is not None}
        if not news or self._consumer is None:
            return
        try:
            await self._consumer.commit(news)
        except KafkaError as error:
            log.warning("commit_failed", group=self.group, error=repr(error))
            return
        for partition, offset in news.items():
            if partition in self._progress:
                self._progress[partition].committed = offset


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        if revoked:
            await self._stage.abandon()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        log.info("assigned", group=self._stage.group, partitions=len(assigned))
