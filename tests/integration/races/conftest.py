"""The whole pipeline on the run's real servers, in one event loop: real stages with gates before them.

A gate holds or refuses the records that a test names, so that an interleaving happens every time.
There are two of every service: whatever races here may race between processes.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import asyncpg
import pytest
import uvicorn
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from penstock.api.app import Api
from penstock.api.settings import ApiSettings
from penstock.client import ApiError, Job, Penstock
from penstock.common.bootstrap.database import DATABASE
from penstock.common.consumer import Stage
from penstock.common.envelope import Record
from penstock.common.failures import PermanentError
from penstock.common.routes import Handler
from penstock.common.service import Service
from penstock.common.topics import TOPICS, Topic
from penstock.embed.app import build as embed
from penstock.embed.settings import EmbedSettings
from penstock.generate.app import answerer
from penstock.generate.settings import GenerateSettings
from penstock.guard.app import dialogue, documents
from penstock.guard.settings import GuardSettings
from penstock.ingest.app import build as ingest
from penstock.ingest.settings import IngestSettings
from penstock.local.ports import free_port
from penstock.local.stack import Servers
from penstock.retrieve.app import indexer
from penstock.retrieve.searcher import build as searcher
from penstock.retrieve.settings import RetrieveSettings

SMALL_CHUNKS = "races"
"""A collection whose documents fall into many chunks, so that a short text makes several batches."""

Wanted = Callable[[Record[Any]], bool]
Seen = TypeVar("Seen")


class Gate:
    """Stands before the handlers of one topic in one group, redriven records included."""

    def __init__(self) -> None:
        self._refused: Wanted = lambda _: False
        self._held: Wanted = lambda _: False
        self._open = asyncio.Event()
        self._reached = asyncio.Event()

    def before(self, handler: Handler[Any]) -> Handler[Any]:
        async def handle(records: Sequence[Record[Any]]) -> Any:
            if any(map(self._held, records)):
                self._reached.set()
                await self._open.wait()
            if any(map(self._refused, records)):
                raise PermanentError("a gate of this test is shut", type="refused_by_test")
            return await handler(records)

        return handle

    @contextmanager
    def refusing(self, wanted: Wanted) -> Iterator[None]:
        """Records that are wanted become dead letters."""
        self._refused = wanted
        try:
            yield
        finally:
            self._refused = lambda _: False

    @contextmanager
    def holding(self, wanted: Wanted) -> Iterator[asyncio.Event]:
        """Records that are wanted wait until the block ends; the event says that one has come."""
        self._held, self._open, self._reached = wanted, asyncio.Event(), asyncio.Event()
        try:
            yield self._reached
        finally:
            self._held = lambda _: False
            self._open.set()


@dataclass
class Pipeline:
    """Every stage at work, and what a test needs of it."""

    penstock: Penstock
    servers: Servers
    blobs: Path
    gates: dict[tuple[str, str], Gate] = field(default_factory=dict)

    def gate(self, group: str, topic: Topic[Any]) -> Gate:
        return self.gates[group, topic.name]

    async def publish(self, document: str, text: str) -> str:
        """The job of a version of a document."""
        given = {"id": document, "text": text}
        return (await self.penstock.submit_documents([given], collection=SMALL_CHUNKS)).id

    async def searchable(self, document: str, text: str) -> list[Any]:
        """Publish and wait; what the index holds of it then."""
        job = await self.penstock.wait(await self.publish(document, text), timeout_s=60)
        assert job.state == "succeeded", job
        return await self.indexed(document)

    async def ended(self, job: str, attempt: int = 1) -> Job:
        """The job, once this attempt of it has ended."""

        async def look() -> Job | None:
            try:
                found = await self.penstock.job(job)
            except ApiError as error:
                if error.status == 404:
                    return None
                raise
            return found if found.ended and found.attempt >= attempt else None

        return await self.until(look)

    async def dead_letter(self, job: str) -> dict[str, Any]:
        """The first dead letter of a job that waits for a decision, as the operator finds it."""

        async def look() -> dict[str, Any] | None:
            async for letter in self.penstock.dead_letters(limit=200):
                if letter["job"] == job:
                    return letter
            return None

        return await self.until(look)

    async def found(self, query: str, document: str) -> list[str]:
        """The texts of a document that a search finds."""
        result = await self.penstock.search(
            query, mode="lexical", top_k=50, collection=SMALL_CHUNKS
        )
        return [p.text for p in result.passages if p.document_id == document]

    async def until(self, look: Callable[[], Awaitable[Seen | None]]) -> Seen:
        """What `look` sees, once that is true; at most 40 s."""
        async with asyncio.timeout(40):
            while not (seen := await look()):
                await asyncio.sleep(0.03)
        return seen

    @asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection]:
        """As the superuser, to look into every schema."""
        connection = await asyncpg.connect(
            self.servers.admin_dsn.rpartition("/")[0] + f"/{DATABASE}"
        )
        try:
            yield connection
        finally:
            await connection.close()

    async def rows(self, sql: str, *arguments: Any) -> list[Any]:
        async with self.database() as db:
            return [tuple(row) for row in await db.fetch(sql, *arguments)]

    async def indexed(self, document: str) -> list[Any]:
        """Every chunk of a document with its vector, as searches see them: also its identity."""
        return await self.rows(
            "SELECT c.id, c.version, c.ordinal, c.text, v.chunk IS NOT NULL FROM retrieve.chunk c "
            "LEFT JOIN retrieve.embedding_1 v ON v.chunk = c.id WHERE c.document = $1 "
            "ORDER BY c.ordinal",
            document,
        )

    async def staged(self, document: str) -> list[tuple[int, int]]:
        """Version and `k` of each batch that waits for the others."""
        sql = "SELECT version, k FROM retrieve.staging WHERE document = $1 ORDER BY 1, 2"
        return await self.rows(sql, document)

    async def holding(self, marker: str) -> set[str]:
        """The tables and the blob store, as far as a text lies in them."""
        async with self.database() as db:
            tables = await db.fetch(
                "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables "
                "WHERE table_type = 'BASE TABLE' "
                "AND table_schema NOT IN ('pg_catalog', 'information_schema')"
            )
            places = {
                name
                for (name,) in tables
                if await db.fetchval(
                    f"SELECT count(*) FROM {name} t WHERE strpos(t::text, $1) > 0 "
                    "OR strpos(t::text, encode(convert_to($1, 'UTF8'), 'hex')) > 0",
                    marker,
                )
            }
        files = [path for path in self.blobs.rglob("*") if path.is_file()]
        return places | {"blobs" for path in files if marker.encode() in path.read_bytes()}


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[None]:
    """The whole process but for the process, once it is ready."""
    settings = service.settings
    server = uvicorn.Server(
        uvicorn.Config(
            service.app, host=settings.host, port=settings.port, log_config=None, lifespan="on",
            timeout_graceful_shutdown=1,
        )
    )  # fmt: skip
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(60):
            while (reason := await service.why_not_ready()) is not None:
                assert not service.failed, reason
                await asyncio.sleep(0.02)
        yield
    finally:
        server.should_exit = True
        await task


def services(servers: Servers, blobs: Path) -> Sequence[Service]:
    """All of them, the API last: who asks it finds the others."""
    dsns = servers.dsns
    shared: dict[str, Any] = {"kafka": servers.kafka, "service_secret": "s" * 32, "grace_s": 3}

    def at(port: int, schema: str | None = None, **more: Any) -> dict[str, Any]:
        return shared | {"port": port} | ({"database": dsns[schema]} if schema else {}) | more

    ports = [free_port() for _ in range(8)]
    return (
        ingest(IngestSettings(**at(ports[0], "ingest", blobs=blobs))),
        documents(GuardSettings(**at(ports[1], "guard"))),
        dialogue(GuardSettings(**at(ports[2], "guard"))),
        embed(EmbedSettings(**at(ports[3]))),
        indexer(RetrieveSettings(**at(ports[4], "retrieve"))),
        searcher(RetrieveSettings(**at(ports[5], "retrieve"))),
        # Every sentence goes ahead: some races are about those.
        answerer(GenerateSettings(**at(ports[6], "generate"), sentence_wait_ms=0)),
        Api(
            ApiSettings(
                **at(
                    ports[7], "api", blobs=blobs, open_on_loopback=True,
                    guard_url=f"http://127.0.0.1:{ports[1]}",
                    searcher_url=f"http://127.0.0.1:{ports[5]}",
                )
            )
        ).service(),
    )  # fmt: skip


def put_gates(gates: dict[tuple[str, str], Gate], stage: Stage) -> None:
    """One gate for a group and topic, before the handlers of all stages that have started."""
    for route in {id(route): route for route in stage._routes.values()}.values():
        gate = gates.setdefault((stage.group, route.topic.name), Gate())
        route.handler = gate.before(route.handler)


async def skip_backlog(kafka: str) -> None:
    """What other tests have left in the topics is not for this pipeline: every group is at the end."""
    of_group: dict[str, list[str]] = defaultdict(list)
    for topic in TOPICS:
        for group in topic.groups:
            of_group[group] += [topic.name, topic.retries(group)]
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        for group, names in of_group.items():
            described = await admin.describe_topics(names)
            partitions = [
                TopicPartition(topic["topic"], partition["partition"])
                for topic in described
                for partition in topic["partitions"]
            ]
            consumer = AIOKafkaConsumer(
                bootstrap_servers=kafka, group_id=group, enable_auto_commit=False
            )
            await consumer.start()
            try:
                consumer.assign(partitions)
                await consumer.commit(await consumer.end_offsets(partitions))
            finally:
                await consumer.stop()
    finally:
        await admin.close()


@pytest.fixture(scope="module")
async def pipeline(
    servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pipeline]:
    """For one module: in a folder without `__init__.py` a package's fixture lives as long as the
    run, and these processes would take the records of every test that comes after."""
    await skip_backlog(servers.kafka)
    blobs = tmp_path_factory.mktemp("races") / "blobs"
    gates: dict[tuple[str, str], Gate] = {}
    async with AsyncExitStack() as stack:
        made = [*services(servers, blobs), *services(servers, blobs)]
        await asyncio.gather(*(stack.enter_async_context(serving(service)) for service in made))
        for stage in (stage for service in made for stage in service._stages):
            put_gates(gates, stage)
        url = f"http://127.0.0.1:{made[-1].settings.port}"
        penstock = await stack.enter_async_context(Penstock(url))
        try:
            await penstock.create_collection(name=SMALL_CHUNKS, chunk_tokens=32)
        except ApiError as error:
            if error.status != 409:  # it is there from another run on these servers
                raise
        yield Pipeline(penstock, servers, blobs, gates)


@pytest.fixture
def name() -> str:
    """A document's id that no other test has."""
    return f"race-{uuid4().hex[:8]}"
