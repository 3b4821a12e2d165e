"""The API on the run's real servers and a real port; the stages behind it are played by events."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import pytest
import uvicorn
from aiokafka import ConsumerRecord, TopicPartition
from pydantic import SecretStr
from topic_reading import everything

from penstock.api.app import Api
from penstock.api.resources import Resources
from penstock.api.settings import ApiSettings
from penstock.common import events as e
from penstock.common.envelope import Envelope, Publication, document_key
from penstock.common.kafka import Publisher
from penstock.common.topics import (
    BY_NAME,
    DOCUMENT_INDEXED,
    DOCUMENT_REMOVED,
    JOB_PROGRESSED,
    Topic,
)
from penstock.local.ports import free_port
from penstock.local.stack import Servers

SECRET = "s" * 32
OPERATOR_KEY = f"pk_first_{'k' * 40}"
HOOK_PORT = free_port()
Json = dict[str, Any]
Seen = TypeVar("Seen")


@dataclass(frozen=True)
class World:
    """A client of the running API, and what a stage of the pipeline needs to answer it."""

    url: str
    client: httpx.AsyncClient
    publisher: Publisher
    resources: Resources
    servers: Servers
    tenant: str = "default"
    hook_port: int = HOOK_PORT

    async def get(self, path: str, **more: Any) -> Json:
        answer = await self.client.get(path, **more)
        assert answer.status_code == 200, answer.text
        body: Json = answer.json()
        return body

    async def publish(self, *documents: Json, **more: Any) -> str:
        """The job of these documents."""
        answer = await self.client.post("/v1/documents", json={"documents": documents} | more)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    async def ask(self, question: str = "How much?", **more: Any) -> str:
        answer = await self.client.post("/v1/questions", json={"question": question} | more)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    async def say(
        self,
        topic: Topic[Any],
        subject: str,
        job: str,
        body: e.Event,
        *,
        attempt: int = 1,
        tenant: str | None = None,
    ) -> None:
        """Publish an event as a stage would."""
        tenant = tenant or self.tenant
        envelope = Envelope(
            id=uuid4().hex, tenant=tenant, job=job, subject=subject, attempt=attempt
        )
        key = job if topic is JOB_PROGRESSED else document_key(tenant, subject)
        await self.publisher.publish(Publication(topic, key, envelope, body))

    async def progress(self, job: str, stage: e.Stage, **more: Any) -> None:
        body = e.JobProgressed(stage=stage, **({"state": e.ProgressState.DONE} | more))
        await self.say(JOB_PROGRESSED, more.get("document") or job, job, body)

    def common(self, document: str, version: int = 1, offset: int = 7) -> Json:
        """What every document event after take-in carries."""
        position = e.Position(cluster="c", partition=1, offset=offset, at=1_700_000_000_000)
        return {
            "document": document, "collection": "default", "submission": uuid4().hex,
            "position": position, "version": version,
        }  # fmt: skip

    async def index(self, document: str, job: str, version: int = 1, offset: int = 7) -> None:
        """Say that a version is searchable, and wait until the API knows."""
        body = e.DocumentIndexed(
            **self.common(document, version, offset), at=datetime.now(UTC), generation=1, chunks=3
        )
        await self.say(DOCUMENT_INDEXED, document, job, body)
        await eventually(
            lambda: self.client.get(f"/v1/documents/{document}"),
            lambda a: a.json().get("searchable_version") == version,
        )

    async def remove(self, document: str, job: str, version: int = 2) -> None:
        """Say that a delete has taken effect, and wait until the API knows."""
        body = e.DocumentRemoved(
            **self.common(document, version), at=datetime.now(UTC), elapsed_ms=41
        )
        await self.say(DOCUMENT_REMOVED, document, job, body)
        await eventually(
            lambda: self.client.get(f"/v1/documents/{document}"),
            lambda a: a.json().get("state") == "removed",
        )

    async def until(self, job: str, state: str) -> Json:
        """The job, once it is in this state."""
        answer = await eventually(
            lambda: self.client.get(f"/v1/jobs/{job}"), lambda a: a.json().get("state") == state
        )
        found: Json = answer.json()
        return found

    async def records(self, topic: str, wanted: Callable[[ConsumerRecord], bool]) -> list[Any]:
        """Everything that lies in a topic now and is wanted."""
        count = BY_NAME[topic].partitions if topic in BY_NAME else 1
        partitions = [TopicPartition(topic, number) for number in range(count)]
        found = await everything(self.servers.kafka, partitions)
        return [record for record in found if wanted(record)]

    async def of_job(self, topic: str, job: str, count: int = 1) -> list[Any]:
        """The records of a job in a topic, once there are this many."""
        return await eventually(
            lambda: self.records(topic, lambda r: header(r, "ce_job") == job),
            lambda found: len(found) >= count,
        )


def header(record: ConsumerRecord, name: str) -> str | None:
    return next((value.decode() for key, value in record.headers if key == name), None)


async def eventually(look: Callable[[], Awaitable[Seen]], good: Callable[[Seen], bool]) -> Seen:
    """What `look` sees, once it is good; at most 20 s."""
    seen: Seen | None = None
    try:
        async with asyncio.timeout(20):
            while True:
                seen = await look()
                if good(seen):
                    return seen
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"it did not come to pass; last seen: {seen}") from None


@asynccontextmanager
async def running(api: Api) -> AsyncIterator[None]:
    """The whole process but for the process."""
    service = api.service()
    settings = api.settings
    server = uvicorn.Server(
        uvicorn.Config(
            service.app, host=settings.host, port=settings.port, log_config=None,
            lifespan="on", timeout_graceful_shutdown=1,
        )
    )  # fmt: skip
    serving = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(30):
            while await service.why_not_ready() is not None:
                assert not service.failed
                await asyncio.sleep(0.02)
        yield
    finally:
        server.should_exit = True
        await serving


def settings_for(servers: Servers, blobs: Path, **more: Any) -> ApiSettings:
    hooks = f"http://127.0.0.1:{HOOK_PORT}/"
    nobody = f"http://127.0.0.1:{free_port()}"
    settings: Json = {
        "open_on_loopback": True, "webhook_prefixes": hooks, "searcher_url": nobody,
        "guard_url": nobody,
    } | more  # fmt: skip
    return ApiSettings(
        kafka=servers.kafka,
        database=SecretStr(servers.dsns["api"]),
        service_secret=SecretStr(SECRET),
        blobs=blobs,
        port=free_port(),
        **settings,
    )


@pytest.fixture(scope="module")
async def world(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    settings = settings_for(servers, tmp_path_factory.mktemp("blobs"), max_document_bytes=1_000_000)
    api = Api(settings)
    url = f"http://127.0.0.1:{settings.port}"
    publisher = Publisher("test", settings)
    async with running(api), httpx.AsyncClient(base_url=url, timeout=30) as client:
        await publisher.start()
        yield World(url, client, publisher, api.app.state.resources, servers)
        await publisher.stop()


@pytest.fixture(scope="module")
async def closed(
    servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API as on a server, open to nobody without a key; this one has none."""
    settings = settings_for(
        servers, tmp_path_factory.mktemp("closed"), open_on_loopback=False,
        operator_key=SecretStr(OPERATOR_KEY),
    )  # fmt: skip
    url = f"http://127.0.0.1:{settings.port}"
    async with running(Api(settings)), httpx.AsyncClient(base_url=url, timeout=20) as client:
        client.headers["x-operator-key"] = OPERATOR_KEY  # for tests; the API knows no such header
        yield client


@pytest.fixture
def name() -> str:
    """A document's id that no other test has."""
    return f"doc-{uuid4().hex[:8]}"
